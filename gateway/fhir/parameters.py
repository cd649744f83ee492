"""Search parameters of AuditEvent (FHIR R4 "Search", https://hl7.org/fhir/R4/search.html)."""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from multidict import MultiMapping

from gateway.audit import codes
from gateway.audit.reading import Record, Wanted
from gateway.errors import InvalidParameter
from gateway.fhir import audit_event
from gateway.services.audit import PatientWanted
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier

DEFAULT_COUNT, MOST = 50, 500
PAGE = "_page"
NAMES = (
    "date", "agent", "agent:identifier", "agent-name", "address", "patient", "patient:identifier",
    "entity", "entity:identifier", "action", "outcome", "type", "subtype", "_count", "_format", PAGE,
)  # fmt: skip
"""Every parameter that is understood; another one is refused, since an answer without it would be of something else."""

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

_DATE = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(\d{4}(?:-\d\d(?:-\d\d(?:T.+)?)?)?)")
_TIME_PARTS = re.compile(r"T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?")
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
    for name in query:
        if name not in NAMES:
            raise InvalidParameter(f"{name[:64]!r} is no search parameter here; there are {', '.join(NAMES)}")
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
        found = _DATE.fullmatch(text)
        if found is None:
            raise InvalidParameter("date: such as ge2026-01-31, or 2026-01-31T08:00:00Z")
        start, end = _span(found[2])
        prefix = found[1] or "eq"
        if prefix in ("ne", "ap"):
            raise InvalidParameter("date: with eq, gt, lt, ge, le, sa or eb")
        if prefix in ("eq", "ge"):
            wanted = replace(wanted, since=max(wanted.since, start))
        if prefix in ("gt", "sa"):
            wanted = replace(wanted, since=max(wanted.since, end))
        if prefix in ("lt", "eb"):
            wanted = replace(wanted, until=min(wanted.until or start, start))
        if prefix in ("eq", "le"):
            wanted = replace(wanted, until=min(wanted.until or end, end))
    return wanted.since, wanted.until


def _span(text: str) -> tuple[str, str]:
    """The first moment of what a date names, and the first after it, in UTC as records have them."""
    try:
        if "T" in text:
            parts = _TIME_PARTS.fullmatch(text[text.index("T") :])
            if parts is None:
                raise ValueError("not a time")
            begin = datetime.datetime.fromisoformat(text.replace(" ", "+"))
            length = (
                datetime.timedelta(milliseconds=1) if parts[2] else datetime.timedelta(seconds=1 if parts[1] else 60)
            )
        else:
            year, month, day = (*map(int, text.split("-")), 0, 0)[:3]
            begin = datetime.datetime(year, month or 1, day or 1)
            following = (year + 1, 1) if not month or month == 12 else (year, month + 1)
            length = datetime.timedelta(days=1) if day else datetime.datetime(*following, 1) - begin
        begin = begin if begin.tzinfo is not None else begin.replace(tzinfo=datetime.UTC)
        begin = begin.astimezone(datetime.UTC)
        return _text(begin), _text(begin + length)
    except (ValueError, OverflowError) as error:
        raise InvalidParameter("date: such as ge2026-01-31, or 2026-01-31T08:00:00Z") from error


def _text(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
