"""What records are called in audit messages (PS3.15 A.5.3 "DICOM Specific Audit Messages")."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.audit.events import BREAK_GLASS, SEARCHES

OWN = "dicomweb-gateway"
"""Code system of what the standard has no code for."""

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value; ``system`` is "DCM", "RFC-3881" or our own."""

    value: str
    system: str
    meaning: str


APPLICATION = Code("110150", "DCM", "Application")
DESTINATION = Code("110152", "DCM", "Destination Role ID")
SOURCE = Code("110153", "DCM", "Source Role ID")
STUDY = Code("110180", "DCM", "Study Instance UID")
PATIENT = Code("2", "RFC-3881", "Patient Number")
SEARCH = Code("10", "RFC-3881", "Search Criteria")
URI = Code("12", "RFC-3881", "URI")

_ACTIVITY = Code("110100", "DCM", "Application Activity")
_LOG_USED = Code("110101", "DCM", "Audit Log Used")
_BEGIN = Code("110102", "DCM", "Begin Transferring DICOM Instances")
_ACCESSED = Code("110103", "DCM", "DICOM Instances Accessed")
_TRANSFERRED = Code("110104", "DCM", "DICOM Instances Transferred")
_DELETED = Code("110105", "DCM", "DICOM Study Deleted")
_EXPORT = Code("110106", "DCM", "Export")
_ORDER = Code("110109", "DCM", "Order Record")
_PROCEDURE = Code("110111", "DCM", "Procedure Record")
_IMPORT = Code("110107", "DCM", "Import")
_QUERY = Code("110112", "DCM", "Query")
_ALERT = Code("110113", "DCM", "Security Alert")
_AUTHENTICATION = Code("110114", "DCM", "User Authentication")

_STARTED = Code("110120", "DCM", "Application Start")
_STOPPED = Code("110121", "DCM", "Application Stop")
_LOGIN = Code("110122", "DCM", "Login")
_LOGOUT = Code("110123", "DCM", "Logout")
_NODE = Code("110126", "DCM", "Node Authentication")
_OVERRIDE = Code("110127", "DCM", "Emergency Override Started")
_CONFIGURATION = Code("110129", "DCM", "Security Configuration")
_ATTRIBUTES = Code("110137", "DCM", "User Security Attributes Changed")

_EVENTS: dict[str, tuple[Code, str, Code | None]] = {
    "start": (_ACTIVITY, "E", _STARTED),
    "stop": (_ACTIVITY, "E", _STOPPED),
    "search": (_QUERY, "E", None),
    "worklist": (_QUERY, "E", None),
    "perform": (_PROCEDURE, "U", None),
    "schedule": (_ORDER, "U", None),
    "read": (_TRANSFERRED, "R", None),
    "read_deidentified": (_TRANSFERRED, "R", None),
    "download": (_TRANSFERRED, "R", None),
    "render": (_ACCESSED, "R", None),
    "store": (_TRANSFERRED, "C", None),
    "delete": (_DELETED, "D", None),
    "erase": (_DELETED, "D", None),
    "export": (_EXPORT, "R", None),
    "share": (_EXPORT, "R", None),
    "backup": (_EXPORT, "R", None),
    "restore": (_IMPORT, "C", None),
    "audit_read": (_LOG_USED, "R", None),
    "authenticate": (_AUTHENTICATION, "E", _LOGIN),
    "login": (_AUTHENTICATION, "E", _LOGIN),
    "logout": (_AUTHENTICATION, "E", _LOGOUT),
    "associate": (_ALERT, "E", _NODE),
    "configure": (_ALERT, "E", _CONFIGURATION),
    "policy": (_ALERT, "E", _CONFIGURATION),
    "admin": (_ALERT, "E", _ATTRIBUTES),
}
"""Event, its action code and type, by action. What is not here has our own code, and is executed (E)."""

_TRANSFERS = frozenset(("read", "read_deidentified", "download", "store"))
_FAILED = frozenset(("denied", "refused", "rejected", "misplaced", "locked", "failed"))

_OF_STUDIES = frozenset(("erase", "share"))
"""Actions whose subject is a list of studies."""

_TO_US = frozenset(("search", "store", "worklist", "perform", "schedule"))
_FROM_US = frozenset(("read", "read_deidentified", "download", "render", "export", "share", "backup"))

_LIFE_CYCLE = {
    "store": "1",
    "read": "6",
    "read_deidentified": "6",
    "download": "6",
    "render": "6",
    "export": "10",
    "share": "11",
    "delete": "14",
    "erase": "15",
}


@dataclass(frozen=True, slots=True)
class Event:
    """A record's event: what it is, and whether it failed. ``action`` is C, R, U, D or E."""

    id: Code
    type: Code | None
    action: str
    failed: bool


def event(fields: Fields) -> Event:
    """The event of a record; a transfer that was only allowed yet has begun."""
    action, outcome = str(fields["action"]), str(fields["outcome"])
    identifier, code, kind = _EVENTS.get(action, (Code(action, OWN, action), "E", None))
    if action in _TRANSFERS and outcome in ("allowed", BREAK_GLASS):
        identifier = _BEGIN
    if outcome == BREAK_GLASS:
        kind = _OVERRIDE
    return Event(identifier, kind, code, outcome in _FAILED)


def roles(fields: Fields) -> tuple[Code | None, Code]:
    """The roles of who asked and of the gateway."""
    action = str(fields["action"])
    if action in _TO_US:
        return SOURCE, DESTINATION
    return (DESTINATION, SOURCE) if action in _FROM_US else (None, APPLICATION)


def life_cycle(fields: Fields) -> str | None:
    """The stage in a study's life that a record is about (PS3.15 A.5.2, Participant Object Data Life Cycle)."""
    return _LIFE_CYCLE.get(str(fields["action"]))


def studies(fields: Fields) -> Sequence[str]:
    """Study Instance UIDs that a record is about: the first UID of its subject, or all where it names studies alone."""
    uids = [str(each) for each in fields.get("subject", ()) if is_uid(str(each))]
    if fields["action"] == "perform":
        return uids[1:]  # behind the UID of the performed step
    return uids if fields["action"] in _OF_STUDIES else uids[:1]


def instance(fields: Fields) -> str | None:
    """The SOP Instance UID that a record names."""
    uids = [str(each) for each in fields.get("subject", ()) if is_uid(str(each))]
    return uids[2] if fields["action"] not in (*SEARCHES, *_OF_STUDIES, "perform") and len(uids) > 2 else None


def details(fields: Fields) -> dict[str, str]:
    """What else a record says, by names of its fields."""
    names = ("detail", "tenant", "request", "first", "since", "requests", "instances", "frames", "bytes", "matches")
    return {name: str(fields[name]) for name in names if fields.get(name)}


def encoded(text: str) -> str:
    """As xsd:base64Binary."""
    return base64.b64encode(text.encode()).decode("ascii")


def is_uid(text: str) -> bool:
    """Whether a part of a subject is a UID and not a word or a list of frames."""
    return "." in text and all(part.isdigit() for part in text.split("."))
