"""STOW-RS: Store Transaction (PS3.18 10.5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway.access.door import Decision
from gateway.access.policy import Action
from gateway.dicomweb import media_types as types
from gateway.dicomweb import multipart, negotiation, urls
from gateway.dicomweb.failures import FailureReason, reason_of
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.errors import Busy, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from gateway.http import problem
from gateway.http.application import CALLER, CORE, OFFLOAD, REQUEST_ID, Route
from gateway.http.offload import Lane
from gateway.services.ingest import Identified, Stored
from gateway.services.spool import Spooled, Spooling
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.errors import StorageError

_RESOURCES = frozenset(
    (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE)
)
_STORABLE = frozenset((types.DICOM, types.OCTET_STREAM, ""))
"""Types of parts that are taken: some senders leave the type out, or say octet stream."""


@dataclass(frozen=True, slots=True)
class _Failure:
    sop_class_uid: str
    sop_uid: str
    reason: FailureReason
    comment: str
    status: HTTPStatus


@dataclass(slots=True)
class _Report:
    """What became of the request's instances."""

    stored: list[Stored] = field(default_factory=list)
    failed: list[_Failure] = field(default_factory=list)

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


def _failed_item(failure: _Failure) -> dict[str, Any]:
    found = {
        "00081150": {"vr": "UI", "Value": [failure.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [failure.sop_uid]},
    }
    return found | _other_item(failure)


def _other_item(failure: _Failure) -> dict[str, Any]:
    return {
        "00000902": {"vr": "LO", "Value": [failure.comment[:64]]},
        "00081197": {"vr": "US", "Value": [int(failure.reason)]},
    }


async def store(request: web.Request) -> web.StreamResponse:
    """Store the instances of a request, each as soon as its part is whole."""
    study_uid = urls.study(request) if "study" in request.match_info else None
    negotiation.json_type(request)
    core = request.app[CORE]
    settings = core.settings.http
    if (request.content_length or 0) > settings.max_request_bytes:
        raise PayloadTooLarge(f"a request of more than {settings.max_request_bytes} bytes")
    content_type = negotiation.content_type(request)
    part_type = content_type.part_type if content_type is not None else ""
    if part_type not in (types.DICOM, "*/*") or content_type is None:
        raise UnsupportedMediaType(f'store multipart/related; type="{types.DICOM}"')
    decision = await request.app[OFFLOAD].run(
        Lane.INDEX, core.ingest.enter, request[CALLER], (study_uid,) if study_uid else ()
    )
    receiver = _Receiver(request, decision, study_uid)
    blocks = _blocks(request, settings.body_timeout_s, settings.max_request_bytes)
    if content_type.multipart:
        boundary = multipart.boundary_of(content_type.parameter("boundary"))
        report = await receiver.parts(multipart.MultipartReader(boundary), blocks)
    else:
        report = await receiver.single(blocks)
    if not report.stored and not report.failed:
        raise InvalidRequest("the request holds no instance")
    body = json_model.dumps(report.body(service_root(request)))
    headers = {"Retry-After": "5"} if report.status == 503 else {}
    return web.Response(status=report.status, body=body, content_type=types.DICOM_JSON, headers=headers)


async def _blocks(request: web.Request, timeout_s: float, max_bytes: int) -> AsyncIterator[bytes]:
    """The body in blocks, with a deadline on each and a bound on all."""
    total = 0
    while True:
        try:
            async with asyncio.timeout(timeout_s):
                block = await request.content.readany()
        except TimeoutError as error:
            raise InvalidRequest("the body did not go on in time") from error
        if not block:
            return
        total += len(block)
        if total > max_bytes:
            raise PayloadTooLarge(f"a request of more than {max_bytes} bytes")
        yield block


class _Receiver:
    """Takes one request's instances in."""

    def __init__(self, request: web.Request, decision: Decision, study_uid: ids.StudyUid | None) -> None:
        self._core = request.app[CORE]
        self._offload = request.app[OFFLOAD]
        self._request_id = request[REQUEST_ID]
        self._decision = decision
        self._study_uid = study_uid
        self._report = _Report()

    async def single(self, blocks: AsyncIterator[bytes]) -> _Report:
        """A body that is one instance."""
        spooling = self._core.spool.begin()
        try:
            async for block in blocks:
                await self._write(spooling, block)
            await self._keep(spooling.finish())
        finally:
            spooling.discard()
        return self._report

    async def parts(self, reader: multipart.MultipartReader, blocks: AsyncIterator[bytes]) -> _Report:
        """A multipart body; a part of another type, or one too long, fails for itself."""
        spooling: Spooling | None = None
        try:
            async for block in blocks:
                for event in reader.feed(block):
                    if isinstance(event, multipart.PartBegin):
                        spooling = self._begin(event.headers)
                    elif isinstance(event, multipart.PartData):
                        if spooling is not None:
                            spooling = await self._take(spooling, event.data)
                    elif spooling is not None:
                        finished, spooling = spooling.finish(), None
                        await self._keep(finished)
            reader.close()
        except InvalidRequest as error:
            # What was stored before the body broke is stored, and the sender is told so.
            if not self._report.stored:
                raise
            self._fail(error)
        finally:
            if spooling is not None:
                spooling.discard()
        return self._report

    def _begin(self, headers: dict[str, str]) -> Spooling | None:
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type in _STORABLE:
            return self._core.spool.begin()
        self._fail(UnsupportedMediaType(f"a part of type {content_type[:32]}"))
        return None

    async def _take(self, spooling: Spooling, data: bytes) -> Spooling | None:
        try:
            await self._write(spooling, data)
        except (PayloadTooLarge, StorageError) as error:
            self._fail(error)
            return None
        return spooling

    async def _write(self, spooling: Spooling, data: bytes) -> None:
        if spooling.size + len(data) <= self._core.spool.memory_bytes:
            spooling.write(data)
        else:
            await self._offload.run(Lane.OBJECTS, spooling.write, data)

    async def _keep(self, spooled: Spooled) -> None:
        try:
            stored = await self._offload.run(Lane.OBJECTS, self._store, spooled)
        except Busy as error:
            spooled.discard()  # no thread will
            self._fail(error)
        except Identified as error:
            self._fail(error.reason, error.sop_class_uid, error.sop_uid)
        except Exception as error:  # the boundary: one instance's failure is its own
            self._fail(error)
        else:
            self._report.stored.append(stored)

    def _store(self, spooled: Spooled) -> Stored:
        with spooled:
            return self._core.ingest.store(self._decision, spooled, study_uid=self._study_uid)

    def _fail(self, error: Exception, sop_class_uid: str = "", sop_uid: str = "") -> None:
        reason, comment = reason_of(error, self._request_id)
        self._report.failed.append(_Failure(sop_class_uid, sop_uid, reason, comment, problem.status_of(error)))


def routes() -> list[Route]:
    """POST to all studies or to one (PS3.18 Table 10.5.1-1)."""
    return [
        Route("POST", f"{PREFIX}/studies", store, Action.STORE),
        Route("POST", f"{PREFIX}/studies/{{study}}", store, Action.STORE),
    ]
