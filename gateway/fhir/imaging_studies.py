"""Search and read of ImagingStudy (https://hl7.org/fhir/R4/imagingstudy.html#search)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import orjson
from aiohttp import web

from gateway.access.door import Decision
from gateway.access.scopes import any_of
from gateway.errors import Gone, InvalidParameter, NotFound
from gateway.fhir import answers, dates, endpoint, imaging_study, media_types, values
from gateway.fhir.asked import Asked
from gateway.fhir.dates import Dated
from gateway.fhir.elements import DCM, Element
from gateway.fhir.imaging_study import Result
from gateway.fhir.patients import any_identifier, of_studies
from gateway.fhir.searching import Kind, Made, Wanted, respond
from gateway.fhir.seen import Seen
from gateway.fhir.values import Token
from gateway.http.keys import OFFLOAD
from gateway.http.offload import Lane
from gateway.services.query import Answer
from gateway.services.question import Query
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.attributes import BY_KEYWORD, Level
from storage.dicom.matching import EVERYTHING, NOTHING, Condition, OneOf
from storage.errors import InvalidIdentifier
from storage.index.stored import Existence

PARAMETERS = {
    "_id": "token",
    "identifier": "token",
    "patient": "reference",
    "subject": "reference",
    "started": "date",
    "modality": "token",
    "status": "token",
    "endpoint": "reference",
    "_lastUpdated": "date",
}
"""Search parameters, and the types that FHIR gives them."""
ONLY_AS_STORED = frozenset(("_lastUpdated",))
"""What a view does not have: beside shifted dates it would say when a study was made."""
INCLUDES = ("ImagingStudy:endpoint", "ImagingStudy:patient", "ImagingStudy:subject")
"""What may come with the studies."""
MOST_SERIES = 5000
"""Series of one page; beyond it the page ends before the study."""
MOST_INSTANCES = 2000
"""Instances that are told of one study; of a larger one none are."""

_PATIENT_IDENTIFIERS = ("patient:identifier", "subject:identifier", "patient.identifier", "subject.identifier")
_REFERENCES = ("patient", "subject", "patient:Patient", "subject:Patient")
_SORTED = "-started"
_NAMES = frozenset((*PARAMETERS, *_PATIENT_IDENTIFIERS, *_REFERENCES, "_include", "_sort"))
_STATUS = "available"


async def search(request: web.Request) -> web.StreamResponse:
    """Studies that the caller sees, latest first, as a Bundle; ``link`` leads to the next page."""
    return await respond(request, _KIND)


async def read(request: web.Request) -> web.StreamResponse:
    """One study, with its instances where these are not too many."""
    media_type, name = media_types.chosen(request), answers.logical_id(request)

    def ask() -> bytes:
        seen, uid = Seen(request), _study_uid(name)
        decision = seen.shown.query.enter_to_read(seen.caller, Level.STUDY, uid or "")
        found = _query(() if uid is None else (uid,))
        answer = seen.shown.query.search(decision, dataclasses.replace(found, limit=1))
        if not answer.results:
            if uid is not None and seen.shown.query.existence(decision, uid) is Existence.DELETED:
                raise Gone("deleted")
            raise NotFound("there is no such study")
        (study,) = answer.results
        series = _series(seen, decision, [study], MOST_SERIES)
        instances = _instances(seen, decision, study)
        return orjson.dumps(_resource(request, seen, study, series[uid or ""], instances, answer.changed_at_s[0]))

    return answers.answer(await request.app[OFFLOAD].run(Lane.INDEX, ask), media_type)


def _query(uids: Sequence[str]) -> Query:
    return Query(
        Level.STUDY,
        include=imaging_study.OF_STUDY,
        only=True,
        conditions=(OneOf("StudyInstanceUID", tuple(uids)),),
        changes=True,
    )


def _resource(
    request: web.Request,
    seen: Seen,
    study: Result,
    series: Sequence[Result],
    instances: Mapping[str, Sequence[Result]],
    changed_at_s: float | None,
) -> Element:
    where = endpoint.here(request)
    return imaging_study.resource(
        study,
        series,
        instances,
        seen.ids,
        None if where is None else where.id,
        deidentified=seen.deidentified,
        changed_at_s=changed_at_s,
    )


def _made(request: web.Request, seen: Seen, decision: Decision, answer: Answer, count: int, asked: Asked) -> Made:
    studies = answer.results[:count]
    series = _series(seen, decision, studies, MOST_SERIES + 1)
    fitting, room = 0, MOST_SERIES
    for study in studies:
        room -= len(series[_uid(study)])
        if fitting and room < 0:
            break
        fitting += 1
    found = [
        _resource(request, seen, each, series[_uid(each)][:MOST_SERIES], {}, changed_at_s)
        for each, changed_at_s in zip(studies[:fitting], answer.changed_at_s[:fitting], strict=True)
    ]
    wanted = {text for name, text in asked.of_resource if name == "_include"} if found else set()
    included = []
    if "ImagingStudy:endpoint" in wanted and (where := endpoint.here(request)) is not None:
        included.append(where.resource())
    if wanted - {"ImagingStudy:endpoint"}:
        included += of_studies(seen, decision, studies[:fitting])
    return Made(found, included)


def _uid(study: Result) -> str:
    return json_model.text_of(study, "0020000D")


def _series(seen: Seen, decision: Decision, studies: Sequence[Result], limit: int) -> dict[str, list[Result]]:
    """Series by their studies, in the order of these."""
    found: dict[str, list[Result]] = {_uid(study): [] for study in studies}
    if found:
        query = Query(
            Level.SERIES,
            include=imaging_study.OF_SERIES,
            only=True,
            limit=limit,
            conditions=(OneOf("StudyInstanceUID", tuple(found)),),
        )
        for series in seen.whole(decision, query).results:
            found[_uid(series)].append(series)
    return found


def _instances(seen: Seen, decision: Decision, study: Result) -> dict[str, list[Result]]:
    """Instances of a study by their series; none where they are too many to be told."""
    found: dict[str, list[Result]] = {}
    query = Query(
        Level.INSTANCE,
        include=imaging_study.OF_INSTANCE,
        only=True,
        limit=MOST_INSTANCES + 1,
        conditions=(OneOf("StudyInstanceUID", (_uid(study),)),),
    )
    results = seen.whole(decision, query).results
    if len(results) <= MOST_INSTANCES:
        for instance in results:
            found.setdefault(json_model.text_of(instance, "0020000E"), []).append(instance)
    return found


def _wanted(request: web.Request, asked: Asked) -> Wanted:
    conditions: list[Condition] = []
    in_study: list[Condition] = []
    patients: list[list[str]] = []
    told: list[tuple[str, str]] = []
    changes: list[Dated] = []
    base = answers.base(request)
    for name, text in asked.of_resource:
        if name in _REFERENCES:
            patients.append(values.references(name, text, "Patient", base))
            told.append((BY_KEYWORD["PatientID"].path, text))
        elif name in _PATIENT_IDENTIFIERS:
            conditions.append(any_identifier(values.tokens(name, text)))
            told.append((BY_KEYWORD["PatientID"].path, text))
        elif name == "_id":
            uids = tuple(uid for each in values.strings(name, text) if (uid := _study_uid(each)) is not None)
            conditions.append(OneOf("StudyInstanceUID", uids))
            told.append((BY_KEYWORD["StudyInstanceUID"].path, text))
        elif name == "identifier":
            tokens = values.tokens(name, text)
            conditions.append(any_of([_of_identifier(each) for each in tokens]))
            told.append(_identifier_told(tokens, text))
        elif name == "started":
            spans = [dates.parsed(name, each) for each in values.strings(name, text)]
            conditions.append(dates.any_of("StudyDate", spans))
            told.append((BY_KEYWORD["StudyDate"].path, text))
        elif name == "_lastUpdated":
            changes.append(dates.parsed(name, text))
        elif name == "modality":
            in_study.append(_of_modality(values.tokens(name, text)))
            told.append((BY_KEYWORD["ModalitiesInStudy"].path, text))
        elif name == "status":
            codes = {each.code for each in values.tokens(name, text)}
            conditions.append(EVERYTHING if _STATUS in codes else NOTHING)
        elif name == "endpoint":
            conditions.append(_of_endpoint(request, values.references(name, text, "Endpoint", base)))
        elif name == "_include" and text not in INCLUDES:
            raise InvalidParameter(f"_include: {', '.join(INCLUDES)}")
        elif name == "_sort" and text != _SORTED:
            raise InvalidParameter(f"_sort: {_SORTED}, as it is anyhow")
    query = Query(
        Level.STUDY,
        include=imaging_study.OF_STUDY,
        only=True,
        conditions=tuple(conditions),
        in_study=tuple(in_study),
        told=tuple(told),
        changes=True,
        changed=dates.span(changes) if changes else None,
    )
    return Wanted(query, patients, literally=True)


def _study_uid(text: str) -> ids.StudyUid | None:
    try:
        return ids.study_uid(text)
    except InvalidIdentifier:
        return None


def _of_identifier(token: Token) -> Condition:
    """By Study Instance UID or accession number, whichever a text can be."""
    uid = _study_uid(token.code.removeprefix("urn:oid:"))
    of_uid = NOTHING if uid is None else OneOf("StudyInstanceUID", (uid,))
    if token.system == "urn:dicom:uid":
        return of_uid
    # An accession number's system is that of its issuer, which is told beside it and not searched by.
    if token.system:
        return NOTHING
    of_number = OneOf("AccessionNumber", (token.code,))
    return of_number if token.system == "" else any_of([of_uid, of_number])


def _identifier_told(tokens: Sequence[Token], text: str) -> tuple[str, str]:
    if len(tokens) == 1 and (uid := _study_uid(tokens[0].code.removeprefix("urn:oid:"))) is not None:
        return BY_KEYWORD["StudyInstanceUID"].path, uid
    return BY_KEYWORD["AccessionNumber"].path, text


def _of_modality(tokens: Sequence[Token]) -> Condition:
    codes = tuple(each.code for each in tokens if each.system in (None, DCM))
    return OneOf("Modality", codes) if codes else NOTHING


def _of_endpoint(request: web.Request, named: Sequence[str]) -> Condition:
    where = endpoint.here(request)
    return EVERYTHING if where is not None and where.id in named else NOTHING


_KIND = Kind(imaging_study.KIND, _NAMES, _wanted, _made, ONLY_AS_STORED)
