"""Search parameters of AuditEvent (FHIR R4 "Search", https://hl7.org/fhir/R4/search.html)."""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from multidict import MultiMapping

from gateway.audit import codes
from gateway.audit.reading import Record, Wanted
from gateway.errors import InvalidParameter
from gateway.fhir import audit_event, dates
from gateway.fhir.asked import DEFAULT_COUNT, MOST, PAGE
from gateway.services.audit import PatientWanted
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier

NAMES = (
    "date", "agent", "agent:identifier", "agent-name", "address", "patient", "patient:identifier",
    "entity", "entity:identifier", "action", "outcome", "type", "subtype",
)  # fmt: skip
"""Every parameter that is understood, besides those of every search."""

TYPES = {
    "date": "date",
    "agent": "reference",
    "agent-name": "string",
    "address": "string",
    "patient": "reference",
    "entity": "reference",
    "action": "token",
    "outcome": "token",
    "type": "token",
    "subtype": "token",
}
"""The types that FHIR gives them."""

_VALUES = 100


@dataclass(frozen=True, slots=True)
class Question:
    """What a search asks for; ``admits`` says what the trail cannot look for by itself."""

    wanted: Wanted
    patients: Sequence[PatientWanted]
    admits: Callable[[Record], bool]
    count: int


def parse(query: MultiMapping[str]) -> Question:
    """The question of a query. Values with commas between are alternatives. Raises InvalidParameter."""
    since, until = _dates(query.getall("date", []))
    studies = [_study(value) for value in _values(query, "entity", "entity:identifier")]
    wanted = Wanted(
        since=since,
        until=until,
        before=_place(query.get(PAGE)),
        principals=frozenset(_values(query, "agent", "agent:identifier", "agent-name")),
        addresses=frozenset(_values(query, "address")),
        studies=frozenset(studies) or None,
    )
    actions, outcomes = frozenset(_values(query, "action")), frozenset(_values(query, "outcome"))
    types = frozenset(_code(value) for value in _values(query, "type"))
    subtypes = frozenset(_code(value) for value in _values(query, "subtype"))

    def admits(record: Record) -> bool:
        event = codes.event(record.fields)
        return (
            (not actions or event.action in actions)
            and (not outcomes or audit_event.outcome(record) in outcomes)
            and (not types or event.id.value in types)
            and (not subtypes or any(each["code"] in subtypes for each in audit_event.subtypes(record)))
        )

    patients = [_patient(value) for value in _values(query, "patient", "patient:identifier")]
    return Question(wanted, patients, admits, _count(query.get("_count")))


def page(place: tuple[str, str, int]) -> str:
    """A place as the parameter that goes on from there."""
    time, chain, seq = place
    return base64.urlsafe_b64encode(f"{time} {chain} {seq}".encode()).decode("ascii").rstrip("=")


def _place(text: str | None) -> tuple[str, str, int] | None:
    if text is None:
        return None
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        time, chain, seq = decoded.split(" ")
        return time, chain, int(seq)
    except (ValueError, binascii.Error) as error:
        raise InvalidParameter(f"{PAGE}: take it from a link of the answer before") from error


def _values(query: MultiMapping[str], *names: str) -> list[str]:
    found = [value for name in names for text in query.getall(name, []) for value in text.split(",")]
    if len(found) > _VALUES:
        raise InvalidParameter(f"{names[0]}: at most {_VALUES} values")
    return found


def _code(value: str) -> str:
    return value.rpartition("|")[2]


def _study(value: str) -> str:
    text = value.rpartition("|")[2].removeprefix("urn:oid:").removeprefix("ImagingStudy/")
    try:
        return ids.study_uid(text)
    except InvalidIdentifier as error:
        raise InvalidParameter("entity: a Study Instance UID, such as urn:oid:1.2.3") from error


def _patient(value: str) -> PatientWanted:
    issuer, _, patient_id = value.removeprefix("Patient/").rpartition("|")
    if not patient_id:
        raise InvalidParameter("patient: a Patient ID, or ISSUER|ID")
    return PatientWanted(patient_id, issuer)


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_COUNT
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise InvalidParameter("_count: a whole number from 1")
    return min(int(text), MOST)


def _dates(texts: Sequence[str]) -> tuple[str, str]:
    """The times from which and before which all given dates hold; "" for none."""
    wanted = Wanted()
    for text in texts:
        found = dates.parsed("date", text)
        if found.prefix == "ne":
            raise InvalidParameter("date: with eq, gt, lt, ge, le, sa or eb")
        start, end = _text(found.begin), _text(found.end)
        if found.prefix in ("eq", "ge"):
            wanted = replace(wanted, since=max(wanted.since, start))
        if found.prefix in ("gt", "sa"):
            wanted = replace(wanted, since=max(wanted.since, end))
        if found.prefix in ("lt", "eb"):
            wanted = replace(wanted, until=min(wanted.until or start, start))
        if found.prefix in ("eq", "le"):
            wanted = replace(wanted, until=min(wanted.until or end, end))
    return wanted.since, wanted.until


def _text(moment: datetime.datetime) -> str:
    """A time in UTC as records have them."""
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
    try:
        return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    except OverflowError as error:
        raise InvalidParameter("date: such as ge2026-01-31, or 2026-01-31T08:00:00Z") from error
