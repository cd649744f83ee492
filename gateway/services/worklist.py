"""The worklist: which procedure steps are scheduled, for whom, where and when.

PS3.4 Annex K "Basic Worklist Management Service".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.audit.events import AuditEvent
from gateway.context import OWN_KINDS, Caller
from gateway.errors import Busy, Forbidden, InvalidRequest, NotFound
from gateway.services import scheduled_step, search_record
from gateway.services.scheduled_step import CANCELLED, DISCONTINUED, LISTED, in_state, is_of, step_id, within
from storage.control.steps import Kept, Kind, Listed, Sought, Step, Steps
from storage.dicom import identifiers as ids
from storage.dicom import json_model, metadata
from storage.dicom.json_model import JsonDataSet
from storage.dicom.keys import PLAIN, Options

_TRIES = 20


class WorklistService:
    """What is scheduled, for those who perform it and those who order it."""

    def __init__(self, steps: Steps, door: Door, *, record_values: bool = False) -> None:
        self._steps = steps
        self._door = door
        self._record_values = record_values

    def enter(self, caller: Caller, tenant: ids.Tenant, pairs: Sequence[tuple[str, str]]) -> Decision:
        """Ask to be told. Raises NotFound, Forbidden, AuditUnavailable."""
        told = search_record.text(pairs, values=self._record_values)
        return self._let_in(caller, Action.WORKLIST, tenant, (), told)

    def find(
        self,
        decision: Decision,
        pairs: Sequence[tuple[str, str]],
        options: Options = PLAIN,
        states: frozenset[str] = LISTED,
    ) -> Iterator[Step]:
        """The steps that match paths and texts, in the order of their starts; with no states, those of any.

        Raises InvalidQuery, storage.errors.StorageUnavailable.
        """
        sought, left = scheduled_step.sought(decision.tenant, pairs, states)
        keys = scheduled_step.keys(left, options)
        for each in self._pages(sought):
            step = each.kept.step
            if all(metadata.matches(key, step.body) for key in keys) and within(decision.scope, step):
                decision.access.took(matches=1)
                yield step

    def schedule(self, caller: Caller, tenant: ids.Tenant, body: JsonDataSet) -> Step:
        """Schedule a step, or change one that is known by its accession number and Scheduled Procedure Step ID.

        What it lacks of Study Instance UID, Requested Procedure ID and Scheduled Procedure Step ID is made.

        Raises
        ------
        InvalidRequest
            It lacks what a modality cannot do without, or has several steps.
        Busy
            Others change the same step all the time.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        named = json_model.text_of(body, scheduled_step.STUDY_UID)
        subject = (named,) if len(named) <= ids.UID_MAX_LENGTH else ()
        decision = self._let_in(caller, Action.SCHEDULE, tenant, tuple(filter(None, subject)))
        item = scheduled_step.checked(body)
        for _ in range(_TRIES):
            known = self._known(tenant, body, json_model.text_of(item, scheduled_step.STEP_ID))
            step = scheduled_step.made(tenant, body, known)
            if not within(decision.scope, step) or (known and not within(decision.scope, known.step)):
                raise Forbidden("the step is outside of what the caller may schedule")
            if self._steps.put((step, known.revision if known else None)):
                study = json_model.text_of(step.body, scheduled_step.STUDY_UID)
                self._door.record(AuditEvent(Action.SCHEDULE.value, step.state.lower(), caller, tenant, (study,)))
                return step
        raise Busy("others change the same step all the time; try again")

    def cancel(self, caller: Caller, tenant: ids.Tenant, uid: str) -> None:
        """Cancel a step that is not completed; no modality is told of it any more.

        Raises
        ------
        NotFound
            There is no such step.
        InvalidRequest
            It is completed, or cancelled.
        Busy
            Others change the same step all the time.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        self._let_in(caller, Action.SCHEDULE, tenant, (uid.partition(" ")[0],))
        for _ in range(_TRIES):
            kept = self._steps.get(tenant, Kind.SCHEDULED, uid)
            if kept is None:
                raise NotFound("there is no such step on the worklist")
            if kept.step.state not in LISTED | {DISCONTINUED}:
                raise InvalidRequest(f"the step is {kept.step.state}, and cannot be cancelled")
            if self._steps.put((in_state(kept.step, CANCELLED), kept.revision)):
                return
        raise Busy("others change the same step all the time; try again")

    def forget(self, before_s: float) -> int:
        """Forget the steps, performed ones too, that nobody has changed since a time (Unix time); how many."""
        return self._steps.sweep(before_s)

    def _let_in(
        self, caller: Caller, action: Action, tenant: ids.Tenant, subject: tuple[str, ...], query: str = ""
    ) -> Decision:
        if caller.principal.kind in OWN_KINDS:
            return self._door.enter_by_itself(caller, action, tenant, subject, query)
        decision = self._door.enter(caller, action, subject, query)
        if decision.tenant != tenant:
            raise NotFound("there is no such tenant")
        return decision

    def _pages(self, sought: Sought) -> Iterator[Listed]:
        while page := self._steps.find(sought):
            yield from page
            sought = dataclasses.replace(sought, after=page[-1].place)

    def _known(self, tenant: ids.Tenant, body: JsonDataSet, asked_id: str) -> Kept | None:
        """The step that an order is about: of its accession number, else of its study; without an ID, the only one.

        Accession numbers of two patients may be the same: they are of two departments. Raises InvalidRequest.
        """
        accession = json_model.text_of(body, scheduled_step.ACCESSION_NUMBER)
        study = json_model.text_of(body, scheduled_step.STUDY_UID)
        if not accession and not study:
            return None
        sought = Sought(tenant, Kind.SCHEDULED, accession_number=accession, study_uid="" if accession else study)
        found = [each.kept for each in self._pages(sought) if is_of(each.kept.step, body)]
        if asked_id:
            found = [each for each in found if step_id(each.step) == asked_id]
        if not found and study and asked_id:
            # Its accession number may have been corrected.
            return self._steps.get(tenant, Kind.SCHEDULED, f"{study} {asked_id}")
        if len(found) > 1:
            raise InvalidRequest("several steps are of this request: name the Scheduled Procedure Step ID")
        return found[0] if found else None
