"""Performed procedure steps, as modalities report them, and what that makes of the scheduled ones.

PS3.4 F.7 "Modality Performed Procedure Step SOP Class", PS3.3 C.4.14 and C.4.15.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.context import Caller
from gateway.errors import (
    AlreadyThere,
    AttributesInvalid,
    AttributesMissing,
    Busy,
    Forbidden,
    NoLongerOpen,
    NotFound,
)
from gateway.services import scheduled_step
from gateway.services.scheduled_step import STARTED, in_state, step_id, within
from storage.control.steps import Kept, Kind, Sought, Step, Steps
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.json_model import JsonDataSet

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
STATUS = "00400252"
_REQUESTS = "00400270"
_SERIES = "00400340"
_END_DATE, _END_TIME = "00400250", "00400251"
_STUDY_UID, _STEP_ID = "0020000D", "00400009"
_NEEDED = ("00080060", _REQUESTS, "00400241", "00400244", "00400245", STATUS, "00400253")
"""Of type 1 in an N-CREATE (PS3.4 Table F.7.2-1)."""
_FIXED = frozenset(
    ("00080060", "00081120", "00100010", "00100020", "00100021", "00100030", "00100040", "00200010", "00400241",
     "00400242", "00400243", "00400244", "00400245", "00400253", _REQUESTS)
)  # fmt: skip
"""What an N-SET may not change (PS3.4 Table F.7.2-1)."""
_OVER = {COMPLETED: scheduled_step.COMPLETED, DISCONTINUED: scheduled_step.DISCONTINUED}
_TRIES = 20


class PerformedService:
    """Takes reports of what is performed; what was scheduled follows in the same transaction."""

    def __init__(self, steps: Steps, door: Door) -> None:
        self._steps = steps
        self._door = door

    def create(self, caller: Caller, sop_uid: ids.SopUid, body: JsonDataSet) -> None:
        """Begin a step.

        Raises
        ------
        AttributesMissing, AttributesInvalid
            It lacks an attribute or its value, or is not IN PROGRESS.
        AlreadyThere
            The SOP Instance UID is taken.
        Busy
            Others change the scheduled steps all the time.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        lacking = [tag for tag in _NEEDED if not body.get(tag, {}).get("Value")]
        lacking += [f"{_REQUESTS}.{_STUDY_UID}" for each in _requests(body) if not json_model.text_of(each, _STUDY_UID)]
        if lacking:
            raise AttributesMissing(lacking)
        if json_model.text_of(body, STATUS) != IN_PROGRESS:
            raise AttributesInvalid([STATUS], f"a step begins {IN_PROGRESS}")
        decision = self._enter(caller, sop_uid, body)
        step = Step(decision.tenant, Kind.PERFORMED, sop_uid, IN_PROGRESS, body)
        if not within(decision.scope, step):
            raise Forbidden("the step is outside of what the caller may report")
        for _ in range(_TRIES):
            if self._steps.get(step.tenant, Kind.PERFORMED, sop_uid) is not None:
                raise AlreadyThere("the SOP Instance UID is in use")
            if self._steps.put((step, None), *self._follow(step, STARTED)):
                return
        raise Busy("others change the scheduled steps all the time; try again")

    def change(self, caller: Caller, sop_uid: ids.SopUid, changes: JsonDataSet) -> None:
        """Change a step that is in progress, or end it.

        Raises
        ------
        NotFound
            There is no such step.
        NoLongerOpen
            It is COMPLETED or DISCONTINUED.
        AttributesMissing, AttributesInvalid
            What ends it is not there, or may not be changed.
        Busy
            Others change the same step all the time.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        decision = self._enter(caller, sop_uid, {})
        for _ in range(_TRIES):
            kept = self._steps.get(decision.tenant, Kind.PERFORMED, sop_uid)
            if kept is None or not within(decision.scope, kept.step):
                raise NotFound("there is no such performed procedure step")
            step = _changed(kept, changes)
            follow = self._follow(step, _OVER[step.state]) if step.state in _OVER else ()
            if self._steps.put((step, kept.revision), *follow):
                return
        raise Busy("others change the same step all the time; try again")

    def get(self, caller: Caller, sop_uid: ids.SopUid) -> Step:
        """A step. Raises NotFound, Forbidden, AuditUnavailable, storage.errors.StorageUnavailable."""
        decision = self._enter(caller, sop_uid, {})
        kept = self._steps.get(decision.tenant, Kind.PERFORMED, sop_uid)
        if kept is None or not within(decision.scope, kept.step):
            raise NotFound("there is no such performed procedure step")
        return kept.step

    def _enter(self, caller: Caller, sop_uid: ids.SopUid, body: JsonDataSet) -> Decision:
        studies = (json_model.text_of(each, _STUDY_UID) for each in _requests(body))
        subject = (sop_uid, *(uid for uid in studies if len(uid) <= ids.UID_MAX_LENGTH))
        return self._door.enter(caller, Action.PERFORM, subject)

    def _follow(self, step: Step, state: str) -> Iterator[tuple[Step, int]]:
        """The scheduled steps that a performed one is about, in the state that it brings them into."""
        seen = set()
        for request in _requests(step.body):
            named = json_model.text_of(request, _STEP_ID)
            sought = Sought(step.tenant, Kind.SCHEDULED, study_uid=json_model.text_of(request, _STUDY_UID))
            for each in self._steps.find(sought):
                found = each.kept
                if found.step.uid not in seen and (not named or step_id(found.step) == named):
                    seen.add(found.step.uid)
                    yield in_state(found.step, state), found.revision


def _requests(body: JsonDataSet) -> list[JsonDataSet]:
    """Items of the Scheduled Step Attributes Sequence."""
    return [each for each in body.get(_REQUESTS, {}).get("Value") or [] if isinstance(each, dict)]


def _changed(kept: Kept, changes: JsonDataSet) -> Step:
    """The step after an N-SET. Raises NoLongerOpen, AttributesMissing, AttributesInvalid."""
    step = kept.step
    if step.state != IN_PROGRESS:
        raise NoLongerOpen(f"the step is {step.state}, and may not be changed any more")
    # Many modalities repeat everything.
    others = [tag for tag in _FIXED & changes.keys() if _said(changes, tag) != _said(step.body, tag)]
    if others:
        raise AttributesInvalid(sorted(others), "not to be changed")
    body = {**step.body, **{tag: element for tag, element in changes.items() if tag not in _FIXED}}
    state = json_model.text_of(body, STATUS)
    if state not in (IN_PROGRESS, *_OVER):
        raise AttributesInvalid([STATUS], f"one of {IN_PROGRESS}, {COMPLETED}, {DISCONTINUED}")
    if state in _OVER:
        needed = (_END_DATE, _END_TIME, *((_SERIES,) if state == COMPLETED else ()))
        lacking = [tag for tag in needed if not body.get(tag, {}).get("Value")]
        if lacking:
            raise AttributesMissing(lacking, f"{state} without")
    return replace(step, state=state, body=body)


def _said(body: JsonDataSet, tag: str) -> object:
    element: Mapping[str, object] = body.get(tag, {})
    return element.get("Value") or []
