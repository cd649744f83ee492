"""What STOW-RS does with each instance of a request, and what it reports of them (PS3.18 10.5.3, Annex I)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway.access.door import Decision
from gateway.dicomweb.failures import FailureReason, reason_of
from gateway.errors import Busy, PayloadTooLarge
from gateway.http import problem
from gateway.http.keys import CORE, OFFLOAD, REQUEST_ID, SHOWN
from gateway.http.offload import Lane
from gateway.services.ingest import Identified, Stored
from gateway.services.spool import Spooled, Spooling
from storage.dicom import identifiers as ids
from storage.errors import MissingAttribute, StorageError

_AT_ONCE = 4
"""So many instances of a request are stored side by side; the next one is not read before one of them is done."""
_RESOURCES = frozenset(
    (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE)
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that was not stored; its UIDs are "" when they could not be read."""

    sop_class_uid: str
    sop_uid: str
    reason: FailureReason
    comment: str
    status: HTTPStatus
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with single attributes, by tag."""


@dataclass(slots=True)
class Report:
    """What became of the request's instances."""

    stored: list[Stored] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def body(self, root: str) -> dict[str, Any]:
        """The response data set (PS3.18 Annex I "Store Instances Response Module"); sequences only when not empty."""
        found: dict[str, Any] = {}
        studies = {each.study_uid for each in self.stored}
        if len(studies) == 1:
            found["00081190"] = {"vr": "UR", "Value": [f"{root}/studies/{studies.pop()}"]}
        identified = [_failed_item(each) for each in self.failed if each.sop_uid]
        others = [_other_item(each) for each in self.failed if not each.sop_uid]
        stored = [_stored_item(each, root) for each in self.stored]
        for tag, items in (("00081198", identified), ("00081199", stored), ("0008119A", others)):
            if items:
                found[tag] = {"vr": "SQ", "Value": items}
        return found

    @property
    def status(self) -> int:
        """PS3.18 10.5.3.1: 200 all stored, 202 some, 409 none; 413, 503 and 507 when all failed for that one cause."""
        if not self.failed:
            return 200
        if self.stored:
            return 202
        causes = {each.status for each in self.failed}
        return int(causes.pop()) if len(causes) == 1 and causes <= _RESOURCES else int(HTTPStatus.CONFLICT)


def _stored_item(stored: Stored, root: str) -> dict[str, Any]:
    path = f"{root}/studies/{stored.study_uid}/series/{stored.series_uid}/instances/{stored.sop_uid}"
    return {
        "00081150": {"vr": "UI", "Value": [stored.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [stored.sop_uid]},
        "00081190": {"vr": "UR", "Value": [path]},
    }


def _failed_item(failure: Failure) -> dict[str, Any]:
    found = {
        "00081150": {"vr": "UI", "Value": [failure.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [failure.sop_uid]},
    }
    return found | _other_item(failure)


def _other_item(failure: Failure) -> dict[str, Any]:
    found: dict[str, Any] = {
        "00000902": _comment(failure.comment),
        "00081197": {"vr": "US", "Value": [int(failure.reason)]},
    }
    if failure.attributes:
        # Failed Attributes Sequence, each item with Selector Attribute (0072,0026).
        items = [
            {"00000902": _comment(comment), "00720026": {"vr": "AT", "Value": [tag]}}
            for tag, comment in failure.attributes.items()
        ]
        found["00741048"] = {"vr": "SQ", "Value": items}
    return found


def _comment(text: str) -> dict[str, Any]:
    return {"vr": "LO", "Value": [text[:64]]}


class Keeper:
    """Spools, stores and reports for one request."""

    def __init__(self, request: web.Request, decision: Decision, study_uid: ids.StudyUid | None) -> None:
        self._kept: list[asyncio.Task[Stored | Failure]] = []
        self._underway: set[asyncio.Task[Stored | Failure]] = set()
        self._report = Report()
        self._core = request.app[CORE]
        self._ingest = request[SHOWN].ingest
        self._offload = request.app[OFFLOAD]
        self._request_id = request[REQUEST_ID]
        self._decision = decision
        self._at_once = 1 if self._ingest.in_turn(decision) else _AT_ONCE
        self._study_uid = study_uid

    def begin(self) -> Spooling:
        """A place for the next part's bytes."""
        return self._core.spool.begin(follow=partial(self._ingest.under_way, self._decision.caller))

    async def write(self, spooling: Spooling, data: bytes | memoryview) -> None:
        """Take bytes of a part; to disk in a thread. Raises PayloadTooLarge, StorageFull, StorageUnavailable."""
        if spooling.size + len(data) <= self._core.spool.memory_bytes:
            spooling.write(data)
        else:
            await self._offload.run(Lane.OBJECTS, spooling.write, data)

    async def take(self, spooling: Spooling, data: memoryview) -> Spooling | None:
        """Take bytes of a part that fails for itself: then it is reported, and None comes back."""
        try:
            await self.write(spooling, data)
        except (PayloadTooLarge, StorageError) as error:
            self.fail(error)
            return None
        return spooling

    async def keep(self, spooled: Spooled) -> None:
        """Store what arrived whole, beside a few others of the request: they share the index's transactions.

        What is under way is finished and its spooled bytes go, also when the request is given up meanwhile.
        """
        try:
            while len(self._underway) >= self._at_once:
                _, self._underway = await asyncio.wait(self._underway, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            spooled.discard()
            raise
        task = asyncio.create_task(self._outcome(spooled, self._ingest.new_version()))
        self._kept.append(task)
        self._underway.add(task)

    async def report(self) -> Report:
        """What became of everything so far, in the order in which it came."""
        if self._underway:
            _, self._underway = await asyncio.wait(self._underway)
        for task in self._kept:
            outcome = task.result()
            if isinstance(outcome, Failure):
                self._report.failed.append(outcome)
            else:
                self._report.stored.append(outcome)
        self._kept.clear()
        return self._report

    async def _outcome(self, spooled: Spooled, version: ids.Version) -> Stored | Failure:
        try:
            return await self._offload.run(Lane.OBJECTS, self._store, spooled, version)
        except Busy as error:
            spooled.discard()  # no thread will
            return self._failure(error)
        except Identified as error:
            return self._failure(error.reason, error.sop_class_uid, error.sop_uid)
        except Exception as error:  # the boundary: one instance's failure is its own
            return self._failure(error)

    def _store(self, spooled: Spooled, version: ids.Version) -> Stored:
        with spooled:
            return self._ingest.store(self._decision, spooled, study_uid=self._study_uid, version=version)

    def fail(self, error: Exception, sop_class_uid: str = "", sop_uid: str = "") -> None:
        """Report an instance, or a part, that was not stored."""
        self._report.failed.append(self._failure(error, sop_class_uid, sop_uid))

    def _failure(self, error: Exception, sop_class_uid: str = "", sop_uid: str = "") -> Failure:
        reason, comment = reason_of(error, self._request_id)
        attributes = error.faults if isinstance(error, MissingAttribute) else {}
        status = problem.status_of(error)
        return Failure(sop_class_uid, sop_uid, reason, comment, status, attributes)
