"""Search and read of Patient (https://hl7.org/fhir/R4/patient.html#search)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson
from aiohttp import web

from gateway.access.door import Decision
from gateway.access.scopes import all_of, any_of
from gateway.errors import InvalidParameter, NotFound
from gateway.fhir import answers, dates, media_types, patient, values
from gateway.fhir.asked import Asked
from gateway.fhir.elements import Element
from gateway.fhir.patient_ids import PatientKey, of_issuer
from gateway.fhir.searching import Kind, Made, Wanted, respond
from gateway.fhir.seen import Seen
from gateway.fhir.values import Token
from gateway.http.keys import OFFLOAD
from gateway.http.offload import Lane
from gateway.services.query import Answer
from gateway.services.question import Query
from storage.dicom import names
from storage.dicom.attributes import BY_KEYWORD, Level
from storage.dicom.json_model import JsonDataSet
from storage.dicom.matching import EVERYTHING, NOTHING, AllOf, AnyOf, Condition, Not, OneOf, Wildcard

PARAMETERS = {"_id": "token", "identifier": "token", "name": "string", "birthdate": "date", "gender": "token"}
"""Search parameters, and the types that FHIR gives them."""

_ATTRIBUTES = {
    "_id": "PatientID",
    "identifier": "PatientID",
    "name": "PatientName",
    "name:contains": "PatientName",
    "birthdate": "PatientBirthDate",
    "gender": "PatientSex",
}
"""What each is about."""
_AFTER = ("^", " ", "-")
"""What a part of a name comes after."""


async def search(request: web.Request) -> web.StreamResponse:
    """Patients of whom the caller sees a study, as a Bundle; ``link`` leads to the next page."""
    return await respond(request, _KIND)


async def read(request: web.Request) -> web.StreamResponse:
    """One patient of whom the caller sees a study."""
    media_type, name = media_types.chosen(request), answers.logical_id(request)

    def ask() -> bytes:
        seen = Seen(request)
        decision = seen.shown.query.enter_to_read(seen.caller, Level.PATIENT, name if seen.ids.is_one(name) else "")
        # What is no id is looked for all the same, as what is somebody else's.
        wanted = seen.of_patients(decision, [name], literally=False)
        query = Query(Level.PATIENT, include=patient.OF_PATIENT, only=True, limit=1, conditions=(wanted,))
        answer = seen.shown.query.search(decision, query)
        if not answer.results:
            raise NotFound("there is no such patient")
        (found,) = _resources(seen, answer, 1)
        return orjson.dumps(found)

    return answers.answer(await request.app[OFFLOAD].run(Lane.INDEX, ask), media_type)


def _made(_request: web.Request, seen: Seen, _decision: Decision, answer: Answer, count: int, _asked: Asked) -> Made:
    return Made(_resources(seen, answer, count))


def _resources(seen: Seen, answer: Answer, count: int) -> list[Element]:
    found = zip(answer.results[:count], answer.positions[:count], strict=True)
    return [
        patient.resource(each, PatientKey.of_position(position), seen.ids, deidentified=seen.deidentified)
        for each, position in found
    ]


def of_studies(seen: Seen, decision: Decision, studies: Sequence[JsonDataSet]) -> list[Element]:
    """The patients of some studies that were found, each once, in the order of these."""
    found: list[Element] = []
    # One by one, each through its index: together, all their studies would be looked at for each of them.
    for key in dict.fromkeys(PatientKey.of_study_result(each) for each in studies):
        query = Query(Level.PATIENT, include=patient.OF_PATIENT, only=True, limit=1, conditions=(key.condition,))
        answer = seen.whole(decision, query)
        found += _resources(seen, answer, len(answer.results))
    return found


def _wanted(_request: web.Request, asked: Asked) -> Wanted:
    conditions: list[Condition] = []
    patients = []
    # Each word is looked for in several places of each name.
    spoken = " ".join(text for name, text in asked.of_resource if _ATTRIBUTES[name] == "PatientName")
    if len(re.sub("[,^]", " ", spoken).split()) > values.MOST:
        raise InvalidParameter(f"name: at most {values.MOST} words")
    for name, text in asked.of_resource:
        if name == "_id":
            patients.append(values.strings(name, text))
        elif name == "identifier":
            conditions.append(any_identifier(values.tokens(name, text)))
        elif name == "birthdate":
            spans = [dates.parsed(name, each) for each in values.strings(name, text)]
            if any(each.has_time for each in spans):
                raise InvalidParameter("birthdate: a date without a time")
            conditions.append(dates.any_of("PatientBirthDate", spans))
        elif name == "gender":
            conditions.append(any_of([_of_gender(each) for each in values.tokens(name, text)]))
        else:
            within = name == "name:contains"
            conditions.append(any_of([_of_name(each, within=within) for each in values.strings(name, text)]))
    told = tuple((BY_KEYWORD[_ATTRIBUTES[name]].path, text) for name, text in asked.of_resource)
    query = Query(Level.PATIENT, include=patient.OF_PATIENT, only=True, conditions=tuple(conditions), told=told)
    return Wanted(query, patients)


def any_identifier(tokens: list[Token]) -> Condition:
    """That a study's patient has one of some identifiers: Patient IDs, with their issuers where these are named."""
    return any_of([all_of([OneOf("PatientID", (each.code,)), _of_system(each.system)]) for each in tokens])


def _of_system(system: str | None) -> Condition:
    if system is None:
        return EVERYTHING
    if not system:
        return of_issuer("")
    return OneOf("IssuerOfPatientID", tuple({system, system.removeprefix("urn:oid:")}))


def _of_gender(token: Token) -> Condition:
    if token.code == "unknown":
        return Not(OneOf("PatientSex", tuple(patient.GENDERS.values())))
    sex = patient.GENDERS.get(token.code)
    return NOTHING if sex is None else OneOf("PatientSex", (sex,))


def _of_name(text: str, *, within: bool) -> Condition:
    """That each word begins a part of the name, or is within it; without regard of case and accents."""
    words = [names.fold(each) for each in text.replace("^", " ").split()]
    if not all(words) or not words:
        raise InvalidParameter("name: needs a value")
    if any(character in word for word in words for character in "*?"):
        raise InvalidParameter("name: words that parts of a name begin with; there are no wildcards")
    return AllOf(tuple(_of_word(word, within=within) for word in words))


def _of_word(word: str, *, within: bool) -> Condition:
    if within:
        return Wildcard("PatientName", f"*{word}*")
    starts = (Wildcard("PatientName", f"*{each}{word}*") for each in _AFTER)
    return AnyOf((Wildcard("PatientName", f"{word}*"), *starts))


_KIND = Kind(patient.KIND, frozenset(_ATTRIBUTES), _wanted, _made)
