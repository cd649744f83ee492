"""What a request sees: whose ids are said and understood, and which patient a token is about."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from aiohttp import web

from gateway.access.door import Decision
from gateway.access.scopes import any_of
from gateway.audit.accesses import UNCOUNTED
from gateway.audit.events import AuditEvent
from gateway.context import Caller
from gateway.errors import Forbidden
from gateway.fhir.asked import Pages
from gateway.fhir.patient_ids import PatientIds, PatientKey
from gateway.http.keys import CALLER, CORE, SHOWN
from gateway.services.projection import Projection
from gateway.services.query import Answer
from gateway.services.question import Query
from storage.dicom.attributes import Level
from storage.dicom.matching import Condition, OneOf

_MOST_ALIKE = 1000


class Seen:
    """A tenant's archive as one request sees it."""

    def __init__(self, request: web.Request) -> None:
        core = request.app[CORE]
        self.caller: Caller = request[CALLER]
        self.shown: Projection = request[SHOWN]
        self._sealing = core.sealing
        self._door = core.door
        self._tenant = self.caller.principal.tenant
        self.ids = PatientIds(core.sealing, self._tenant, self.shown.view.name)

    @property
    def deidentified(self) -> bool:
        """Whether it is seen through a de-identified view."""
        return bool(self.shown.view.name)

    def page_names(self, kind: str) -> Pages:
        """Pages of resources of a kind."""
        return Pages(self._sealing, kind, self._tenant, self.shown.view.name)

    def patients(self, decision: Decision, condition: Condition) -> Sequence[PatientKey]:
        """Patients of the studies that satisfy a condition."""
        query = Query(Level.PATIENT, conditions=(condition,), only=True, limit=_MOST_ALIKE)
        found = self.whole(decision, query)
        return [PatientKey.of_position(each) for each in found.positions]

    def whole(self, decision: Decision, query: Query) -> Answer:
        """Answer a question up to its limit, also where an answer ends before; its results are no matches."""
        service, uncounted = self.shown.query, dataclasses.replace(decision, access=UNCOUNTED)
        found = service.search(uncounted, query)
        while found.cut:
            rest = dataclasses.replace(query, limit=query.limit - len(found.results), after=found.positions[-1])
            more = service.search(uncounted, rest)
            results, positions = found.results + more.results, found.positions + more.positions
            found = dataclasses.replace(more, results=results, positions=positions)
        return found

    def of_patients(self, decision: Decision, named: Iterable[str], *, literally: bool) -> Condition:
        """That a study is of one of some patients, named by their logical ids or, ``literally``, by Patient IDs too."""
        conditions: list[Condition] = []
        for each in named:
            key = self.ids.key_of(each, lambda condition: self.patients(decision, condition))
            if key is not None:
                conditions.append(key.condition)
            elif literally and not self.ids.is_one(each):
                conditions.append(OneOf("PatientID", (each.strip(" "),)))
        return any_of(conditions)

    def check_patient(self, level: Level, named: Iterable[str]) -> None:
        """Refuse what names another patient than the one that a token is about. Raises Forbidden.

        It depends on the token and the question alone: whether there is such a patient is not told.
        """
        bounds = self.caller.principal.bounds
        if bounds is None or not isinstance(bounds.scope, OneOf) or bounds.scope.keyword != "PatientID":
            return
        for each in named:
            key = self.ids.key_of(each, lambda _: ())
            patient_id = each if key is None else key.patient_id
            # An id that holds only a part is for the scope to judge.
            if patient_id not in bounds.scope.values and (key is not None or not self.ids.is_one(each)):
                refusal = "the token is about another patient"
                view = self.shown.view.name
                self._door.record(
                    AuditEvent("search", "denied", self.caller, self._tenant, (level.name,), refusal, view=view)
                )
                raise Forbidden(refusal)
