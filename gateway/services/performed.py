"""Performed procedure steps, as modalities report them, and what that makes of the scheduled ones.

PS3.4 F.7 "Modality Performed Procedure Step SOP Class", PS3.3 C.4.14 and C.4.15.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.audit.events import AuditEvent
from gateway.context import Caller
from gateway.errors import (
    AlreadyThere,
    AttributesInvalid,
    AttributesMissing,
    Busy,
    Forbidden,
    NoLongerOpen,
    NotFound,
    ValuesMissing,
)
from gateway.services import scheduled_step
from gateway.services.room import Room
from gateway.services.scheduled_step import SCHEDULED, STARTED, in_state, step_id, within
from storage.control.steps import Kept, Kind, Sought, Step, Steps, item_of
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.json_model import JsonDataSet
from storage.errors import InvalidIdentifier

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
STATUS = "00400252"
_REQUESTS, _SERIES, _REASONS = "00400270", "00400340", "00400281"
_END_DATE, _END_TIME = "00400250", "00400251"
_STUDY_UID, _STEP_ID, _CODE = "0020000D", "00400009", "00080100"
_REFERENCED_STUDIES, _REFERENCED_UID = "00081110", "00081155"
_NEEDED = ("00080060", _REQUESTS, "00400241", "00400244", "00400245", STATUS, "00400253")
"""Of type 1 in an N-CREATE (PS3.4 Table F.7.2-1)."""
_FIXED = frozenset(
    ("00080060", "00081120", "00100010", "00100020", "00100021", "00100022", "00100024", "00100030", "00100040",
     "00101002", "00200010", "00380010", "00380014", "00380060", "00380062", "00380064", "00400241", "00400242",
     "00400243", "00400244", "00400245", "00400253", _REQUESTS)
)  # fmt: skip
"""What an N-SET may not change (PS3.4 Table F.7.2-1)."""
_WRONG_ENTRY = "110514"
"""Code of the reason "Incorrect worklist entry selected" (PS3.16 CID 9300)."""
_MAX_REQUESTS = 100
_TRIES = 20


class PerformedService:
    """Takes reports of what is performed; what was scheduled follows in the same transaction."""

    def __init__(self, steps: Steps, door: Door, room: Room) -> None:
        self._steps = steps
        self._door = door
        self._room = room

    def enter(self, caller: Caller, sop_uid: ids.SopUid) -> Decision:
        """Ask to report or read a step, before anything of it is looked at. Raises Forbidden, AuditUnavailable."""
        return self._door.enter(caller, Action.PERFORM, (sop_uid,))

    def create(self, decision: Decision, sop_uid: ids.SopUid, body: JsonDataSet) -> None:
        """Begin a step.

        Raises
        ------
        AttributesMissing, ValuesMissing, AttributesInvalid
            It lacks an attribute or its value, or is not IN PROGRESS.
        AlreadyThere
            The SOP Instance UID is taken.
        Busy
            Others change the scheduled steps all the time.
        Forbidden, storage.errors.StorageError
        """
        _check(body)
        step = Step(decision.tenant, Kind.PERFORMED, sop_uid, IN_PROGRESS, body)
        if not within(decision.scope, step):
            raise Forbidden("the step is outside of what the caller may report")
        self._room.check_disks()
        for _ in range(_TRIES):
            if self._steps.get(step.tenant, Kind.PERFORMED, sop_uid) is not None:
                raise AlreadyThere("the SOP Instance UID is in use")
            if self._steps.put((step, None), *self._follow(decision, step, STARTED)):
                self._record(decision, step)
                return
        raise Busy("others change the scheduled steps all the time; try again")

    def change(self, decision: Decision, sop_uid: ids.SopUid, changes: JsonDataSet) -> None:
        """Change a step that is in progress, or end it.

        Raises
        ------
        NotFound
            There is no such step.
        NoLongerOpen
            It is COMPLETED or DISCONTINUED.
        ValuesMissing, AttributesInvalid
            What ends it is not there, or may not be changed.
        Busy
            Others change the same step all the time.
        storage.errors.StorageError
        """
        self._room.check_disks()
        for _ in range(_TRIES):
            kept = self._kept(decision, sop_uid)
            step = _changed(kept, changes)
            if not within(decision.scope, step):
                raise AttributesInvalid([STATUS], "the step would be outside of what the caller may report")
            state = _state_of_scheduled(step)
            follow = self._follow(decision, step, state) if state else ()
            if self._steps.put((step, kept.revision), *follow):
                self._record(decision, step)
                return
        raise Busy("others change the same step all the time; try again")

    def get(self, decision: Decision, sop_uid: ids.SopUid) -> Step:
        """A step. Raises NotFound, storage.errors.StorageUnavailable."""
        return self._kept(decision, sop_uid).step

    def _kept(self, decision: Decision, sop_uid: ids.SopUid) -> Kept:
        kept = self._steps.get(decision.tenant, Kind.PERFORMED, sop_uid)
        if kept is None or not within(decision.scope, kept.step):
            raise NotFound("there is no such performed procedure step")
        return kept

    def _record(self, decision: Decision, step: Step) -> None:
        """What it has become, with the studies that it is about."""
        studies = sorted({study for each in requests(step.body) for study in _studies(each)})
        subject = (step.uid, *studies)
        self._door.record(AuditEvent(Action.PERFORM.value, step.state.lower(), decision.caller, step.tenant, subject))

    def _follow(self, decision: Decision, step: Step, state: str) -> Iterator[tuple[Step, int]]:
        """The scheduled steps that a performed one is about, in the state that it brings them into."""
        named: dict[str, set[str]] = {}
        for request in requests(step.body):
            for study in _studies(request):
                named.setdefault(study, set()).add(json_model.text_of(request, _STEP_ID))
        for study, step_ids in named.items():
            for each in self._of_study(step.tenant, study):
                meant = "" in step_ids or step_id(each.step) in step_ids
                # What one report has completed, another that repeats it in vain does not take back.
                done = each.step.state == scheduled_step.COMPLETED
                if meant and not done and within(decision.scope, each.step):
                    yield in_state(each.step, state), each.revision

    def _of_study(self, tenant: ids.Tenant, study: str) -> Iterator[Kept]:
        sought = Sought(tenant, Kind.SCHEDULED, study_uid=study)
        while page := self._steps.find(sought):
            yield from (each.kept for each in page)
            sought = dataclasses.replace(sought, after=page[-1].place)


def requests(body: JsonDataSet) -> list[JsonDataSet]:
    """Items of the Scheduled Step Attributes Sequence."""
    values = body.get(_REQUESTS, {}).get("Value") or []
    return [each for each in values if isinstance(each, dict)]


def _studies(request: JsonDataSet) -> set[str]:
    """The studies of a request: with a group of procedures its own may be new, and those asked for are referenced."""
    referenced = request.get(_REFERENCED_STUDIES, {}).get("Value") or []
    asked_for = {json_model.text_of(each, _REFERENCED_UID) for each in referenced if isinstance(each, dict)}
    return ({json_model.text_of(request, _STUDY_UID)} | asked_for) - {""}


def _check(body: JsonDataSet) -> None:
    """Refuse what a step cannot begin as. Raises AttributesMissing, ValuesMissing, AttributesInvalid."""
    if absent := [tag for tag in _NEEDED if tag not in body]:
        raise AttributesMissing(absent)
    found = requests(body)
    if empty := [tag for tag in _NEEDED if not body[tag].get("Value") or (tag == _REQUESTS and not found)]:
        raise ValuesMissing(empty)
    if len(found) > _MAX_REQUESTS:
        raise AttributesInvalid([_REQUESTS], f"more than {_MAX_REQUESTS} items")
    for each in found:
        if not json_model.text_of(each, _STUDY_UID):
            raise ValuesMissing([f"{_REQUESTS}.{_STUDY_UID}"])
        try:
            for study in _studies(each):
                ids.study_uid(study)
        except InvalidIdentifier as error:
            raise AttributesInvalid([f"{_REQUESTS}.{_STUDY_UID}"], "not a UID") from error
    if json_model.text_of(body, STATUS) != IN_PROGRESS:
        raise AttributesInvalid([STATUS], f"a step begins {IN_PROGRESS}")


def _changed(kept: Kept, changes: JsonDataSet) -> Step:
    """The step after an N-SET. Raises NoLongerOpen, ValuesMissing, AttributesInvalid."""
    step = kept.step
    if step.state != IN_PROGRESS:
        raise NoLongerOpen(f"the step is {step.state}, and may not be changed any more")
    # Many modalities repeat everything.
    others = [tag for tag in _FIXED & changes.keys() if _said(changes, tag) != _said(step.body, tag)]
    if others:
        raise AttributesInvalid(sorted(others), "not to be changed")
    body = {**step.body, **{tag: element for tag, element in changes.items() if tag not in _FIXED}}
    state = json_model.text_of(body, STATUS)
    if state not in (IN_PROGRESS, COMPLETED, DISCONTINUED):
        raise AttributesInvalid([STATUS], f"one of {IN_PROGRESS}, {COMPLETED}, {DISCONTINUED}")
    if state != IN_PROGRESS:
        needed = (_END_DATE, _END_TIME, *((_SERIES,) if state == COMPLETED else ()))
        lacking = [tag for tag in needed if not body.get(tag, {}).get("Value")]
        if lacking:
            raise ValuesMissing(lacking, f"{state} without")
    return dataclasses.replace(step, state=state, body=body)


def _state_of_scheduled(step: Step) -> str:
    """What scheduled steps become by the end of a performed one; "" while it is in progress.

    Who has chosen a wrong entry of the worklist has not begun what that is about.
    """
    if step.state == COMPLETED:
        return scheduled_step.COMPLETED
    if step.state == DISCONTINUED:
        reason = json_model.text_of(item_of(step.body, _REASONS), _CODE)
        return SCHEDULED if reason == _WRONG_ENTRY else scheduled_step.DISCONTINUED
    return ""


def _said(body: JsonDataSet, tag: str) -> object:
    element: Mapping[str, object] = body.get(tag, {})
    return element.get("Value") or []
