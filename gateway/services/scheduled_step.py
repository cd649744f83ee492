"""One Scheduled Procedure Step as a data set: what it has to say, its states, and how it is asked for.

PS3.3 C.4.10 "Scheduled Procedure Step Module", PS3.4 K.6.1 "Modality Worklist SOP Class".
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence

from pydicom.uid import generate_uid

from gateway.errors import InvalidQuery, InvalidRequest
from gateway.services import question
from storage.control.steps import Kept, Kind, Sought, Step, item_of
from storage.dicom import identifiers as ids
from storage.dicom import json_model, metadata
from storage.dicom.attributes import ATTRIBUTES, Attribute, Level, describe
from storage.dicom.json_model import JsonDataSet, JsonElement
from storage.dicom.keys import Options, bounds
from storage.dicom.matching import EVERYTHING, Condition, Record, matches
from storage.dicom.normal import Normal, date, normalise, time_bound
from storage.errors import InvalidCondition, InvalidIdentifier

STEPS = "00400100"
STEP_ID = "00400009"
STUDY_UID = "0020000D"
ACCESSION_NUMBER = "00080050"
_STATUS, _START_DATE, _START_TIME = "00400020", "00400002", "00400003"
_MODALITY, _STATIONS = "00080060", "00400001"
_REQUESTED_ID, _PATIENT_ID, _PATIENT_NAME, _ISSUER = "00401001", "00100020", "00100010", "00100021"

SCHEDULED, STARTED, COMPLETED, DISCONTINUED, CANCELLED = (
    "SCHEDULED", "STARTED", "COMPLETED", "DISCONTINUED", "CANCELLED",
)  # fmt: skip
WAITING = frozenset((SCHEDULED, "ARRIVED", "READY"))
"""States of what nobody has begun."""
LISTED = WAITING | {STARTED, "DEPARTED"}
"""States of what modalities are told of: the values of Scheduled Procedure Step Status (0040,0020)."""

_KEPT = frozenset((STARTED, "DEPARTED", COMPLETED))
"""States that an order which comes again does not change."""
_DAY = Attribute("ScheduledProcedureStepStartDate", f"{STEPS}.{_START_DATE}", "DA", Level.SERIES)
_TIME = Attribute("ScheduledProcedureStepStartTime", f"{STEPS}.{_START_TIME}", "TM", Level.SERIES)
_MIDNIGHT, _LAST_MOMENT = "000000.000000", "235959.999999"
_PAGE = 500


def checked(body: JsonDataSet) -> JsonDataSet:
    """The one item of a step's data set, once all is there that a modality needs. Raises InvalidRequest."""
    items = body.get(STEPS, {}).get("Value") or []
    if len(items) != 1 or not isinstance(items[0], dict):
        raise InvalidRequest(f"{describe(STEPS)}: one item, for one step")
    item: JsonDataSet = items[0]
    needed = ((body, (_PATIENT_ID, _PATIENT_NAME)), (item, (_START_DATE, _START_TIME, _MODALITY, _STATIONS)))
    lacking = [describe(tag) for said, tags in needed for tag in tags if not said.get(tag, {}).get("Value")]
    if lacking:
        raise InvalidRequest(f"without {', '.join(lacking)}")
    if date(json_model.text_of(item, _START_DATE)) is None:
        raise InvalidRequest(f"{describe(_START_DATE)}: a date as YYYYMMDD")
    time = json_model.text_of(item, _START_TIME)
    if time_bound(time, high=False) is None:
        raise InvalidRequest(f"{describe(_START_TIME)}: a time as HHMMSS")
    status = json_model.text_of(item, _STATUS)
    if status and status not in LISTED:
        raise InvalidRequest(f"{describe(_STATUS)}: one of {', '.join(sorted(LISTED))}")
    study = json_model.text_of(body, STUDY_UID)
    if study:
        try:
            ids.study_uid(study)
        except InvalidIdentifier as error:
            raise InvalidRequest(str(error)) from error
    return item


def made(tenant: ids.Tenant, body: JsonDataSet, known: Kept | None) -> Step:
    """The step of a checked data set, with the identifiers that it lacks: those that are known of it, or new ones.

    One that was begun or completed keeps its state; one that was cancelled or discontinued is scheduled again.
    """
    before = known.step.body if known else {}
    item, item_before = dict(item_of(body, STEPS)), item_of(before, STEPS)
    whole = dict(body)
    _fill(whole, before, STUDY_UID, "UI", str(generate_uid()))
    accession = json_model.text_of(body, ACCESSION_NUMBER)
    _fill(whole, before, _REQUESTED_ID, "SH", accession or _new_id())
    _fill(item, item_before, STEP_ID, "SH", _new_id())
    said = json_model.text_of(item, _STATUS)
    state = said or SCHEDULED
    if known and known.step.state in _KEPT | (frozenset() if said else WAITING):
        state = known.step.state
    uid = known.step.uid if known else f"{json_model.text_of(whole, STUDY_UID)} {json_model.text_of(item, STEP_ID)}"
    whole[STEPS] = {"vr": "SQ", "Value": [item]}
    return in_state(Step(tenant, Kind.SCHEDULED, uid, state, whole), state)


def is_of(step: Step, body: JsonDataSet) -> bool:
    """Whether a data set is about a step: about its patient, or about its study by name."""
    study = json_model.text_of(body, STUDY_UID)
    if study and study == json_model.text_of(step.body, STUDY_UID):
        return True
    if json_model.text_of(step.body, _PATIENT_ID) != json_model.text_of(body, _PATIENT_ID):
        return False
    one, other = json_model.text_of(step.body, _ISSUER), json_model.text_of(body, _ISSUER)
    return not (one and other) or one == other


def in_state(step: Step, state: str) -> Step:
    """A step in another state, which its data set tells where the standard has a word for it."""
    item = dict(item_of(step.body, STEPS))
    if state in LISTED:
        item[_STATUS] = {"vr": "CS", "Value": [state]}
    body = {**step.body, STEPS: {"vr": "SQ", "Value": [item]}}
    return dataclasses.replace(step, state=state, body=body)


def step_id(step: Step) -> str:
    """Scheduled Procedure Step ID."""
    return json_model.text_of(item_of(step.body, STEPS), STEP_ID)


def within(scope: Condition, step: Step) -> bool:
    """Whether a step is within a scope, by what it says of patient, request and modality."""
    return scope == EVERYTHING or matches(scope, _record({**item_of(step.body, STEPS), **step.body}))


def _record(flat: JsonDataSet) -> Record:
    record: dict[str, Normal] = {}
    for attribute in ATTRIBUTES:
        if not attribute.column or attribute.items or "." in attribute.path:
            continue
        first = (flat.get(attribute.tag, {}).get("Value") or [None])[0]
        if attribute.vr == "PN":
            groups = first if isinstance(first, dict) else {}
            texts = [str(groups.get(group) or "") for group in ("Alphabetic", "Ideographic", "Phonetic")]
        else:
            texts = ["" if first is None else str(first)]
        record |= zip(attribute.columns, (normalise(attribute.vr, text) for text in texts), strict=True)
    return record


def sought(
    tenant: ids.Tenant, pairs: Sequence[tuple[str, str]], states: frozenset[str]
) -> tuple[Sought, dict[str, str]]:
    """Where the steps begin that paths and texts ask for, and what is left of these to be compared with each.

    Raises InvalidQuery.
    """
    left = {path: text.strip(" ") for path, text in pairs}
    try:
        first, last = _starts(left)
    except InvalidCondition as error:
        raise InvalidQuery(str(error)) from error

    def exact(path: str) -> str:
        text = left.get(path, "")
        return "" if any(character in text for character in '*?\\,"\0') else text

    found = Sought(
        tenant, Kind.SCHEDULED, states, exact(_PATIENT_ID), exact(ACCESSION_NUMBER), exact(STUDY_UID),
        first, last, limit=_PAGE,
    )  # fmt: skip
    return found, left


def keys(left: dict[str, str], options: Options) -> list[metadata.Key]:
    """What a step's data set has to satisfy. Raises InvalidQuery."""
    return question.of_data_sets(left.items(), options)


def _starts(left: dict[str, str]) -> tuple[str, str]:
    """Bounds on the start; ranges of date and time that are one range leave the keys.

    PS3.4 Table K.6-1: a range of dates and one of times are from the first day's first time to the last day's last.
    """
    days, times = left.get(_DAY.path, ""), left.get(_TIME.path, "")
    if not days.strip("*"):
        return "", ""
    low, high = bounds(_DAY, days if "-" in days else f"{days}-{days}")
    start = end = None
    if "-" in days and "-" in times:
        start, end = bounds(_TIME, times)
        if (low is None) == (start is None) and (high is None) == (end is None):
            left.pop(_TIME.path)
        else:
            start = end = None
    return f"{low}{start or _MIDNIGHT}" if low else "", f"{high}{end or _LAST_MOMENT}" if high else ""


def _fill(said: JsonDataSet, before: JsonDataSet, tag: str, vr: str, new: str) -> None:
    """Give an identifier that is lacking; what is known stays."""
    if not json_model.text_of(said, tag):
        element: JsonElement = {"vr": vr, "Value": [json_model.text_of(before, tag) or new]}
        said[tag] = element


def _new_id() -> str:
    """Of 16 characters at most, as SH has them."""
    return secrets.token_hex(6).upper()
