"""The change feed over HTTP: pages, long poll, and Server-Sent Events."""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
from typing import Any

from aiohttp import web

from gateway.access.actions import Action
from gateway.access.door import Decision
from gateway.dicomweb import negotiation
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.errors import GatewayError, Gone, InvalidParameter
from gateway.http.application import FOLLOWERS
from gateway.http.followers import Followers
from gateway.http.keys import CALLER, OFFLOAD, REQUEST_ID, SHOWN
from gateway.http.offload import Lane
from gateway.http.route import Route
from storage.dicom import json_model
from storage.errors import StorageError
from storage.index.changes import Change, Changes

_log = logging.getLogger("gateway.dicomweb")

JSON = "application/json"
EVENTS = "text/event-stream"
MAX_LIMIT = 1000
MAX_WAIT_S = 60
MAX_SEQUENCE = 10**15
_HEARTBEAT_S = 15.0
_WRITE_TIMEOUT_S = 30.0
_EPOCH = re.compile(r"[0-9a-f]{1,64}", re.ASCII)


async def follow(request: web.Request) -> web.StreamResponse:
    """Changes after a cursor: as a page of JSON, or as a stream of events that goes on."""
    kind = negotiation.choose(request, (JSON, EVENTS))
    decision = await request.app[OFFLOAD].run(Lane.INDEX, request[SHOWN].feed.enter, request[CALLER])
    if kind == EVENTS:
        return await _stream(request, decision)
    cursor, epoch = _number(request, "after", 0), _epoch(request)
    limit = _number(request, "limit", 100, 1, MAX_LIMIT)
    wait_s = _number(request, "wait", 0, 0, MAX_WAIT_S)
    found = await _page(request, decision, cursor, limit, epoch)
    if not found.rows and wait_s:
        found = await _waited(request, decision, found, limit, wait_s)
    root = service_root(request)
    body = {
        "epoch": found.epoch,
        "changes": [_item(each, root, decision.view.name) for each in found.rows],
        "next": found.next_cursor,
        "more": found.next_cursor < found.head,
    }
    return web.Response(
        body=json_model.dumps(body), content_type=JSON, headers={"Cache-Control": "no-store", "Vary": "Accept"}
    )


async def latest(request: web.Request) -> web.StreamResponse:
    """Where the feed stands: the epoch, and the cursor after which new changes come."""
    offload, feed = request.app[OFFLOAD], request[SHOWN].feed
    await offload.run(Lane.INDEX, feed.enter, request[CALLER])
    state = await offload.run(Lane.INDEX, feed.state)
    body = json_model.dumps({"epoch": state.epoch, "next": state.change})
    return web.Response(body=body, content_type=JSON, headers={"Cache-Control": "no-store"})


async def _page(request: web.Request, decision: Decision, cursor: int, limit: int, epoch: str | None) -> Changes:
    return await request.app[OFFLOAD].run(Lane.INDEX, request[SHOWN].feed.page, decision, cursor, limit, epoch)


async def _waited(request: web.Request, decision: Decision, found: Changes, limit: int, wait_s: float) -> Changes:
    """The first page that is not empty, or the last one when the time is over."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + wait_s
    async with request.app[FOLLOWERS][request[SHOWN].view.name] as followers:
        while not found.rows and not followers.ending:
            if found.next_cursor >= found.head:
                left_s = end_s - loop.time()
                if left_s <= 0 or not await followers.beyond(found.epoch, found.next_cursor, left_s):
                    break
            found = await _page(request, decision, found.next_cursor, limit, found.epoch)
    return found


async def _stream(request: web.Request, decision: Decision) -> web.StreamResponse:
    """Server-Sent Events (HTML Living Standard 9.2): an event a change, its id the place to go on from."""
    cursor, epoch = await _start(request)
    response = web.StreamResponse(
        headers={"Content-Type": EVENTS, "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}
    )
    async with request.app[FOLLOWERS][request[SHOWN].view.name] as followers:
        await response.prepare(request)
        try:
            if request.method != "HEAD":
                await _events(request, response, followers, decision, cursor, epoch)
            await response.write_eof()
        except (StorageError, GatewayError) as error:
            # The status line has gone out; the client comes back by itself, with the id of its last event.
            _log.warning("request %s: a stream of changes broke off: %s", request[REQUEST_ID], error)
        except TimeoutError:
            _log.info("request %s: a follower that does not read was let go", request[REQUEST_ID])
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            _log.debug("request %s: the follower has gone", request[REQUEST_ID])
    return response


async def _events(
    request: web.Request,
    response: web.StreamResponse,
    followers: Followers,
    decision: Decision,
    cursor: int,
    epoch: str,
) -> None:
    """Send changes as they come, until the process ends or the follower goes."""
    root = service_root(request)
    await _write(response, b"retry: 2000\n\n")
    while not followers.ending:
        try:
            found = await _page(request, decision, cursor, MAX_LIMIT, epoch)
        except Gone:
            state = await request.app[OFFLOAD].run(Lane.INDEX, request[SHOWN].feed.state)
            epoch, cursor = state.epoch, state.change
            await _write(response, _event(f"{epoch}-{cursor}", "reset", {"epoch": epoch, "next": cursor}))
            continue
        cursor = found.next_cursor
        for each in found.rows:
            await _write(
                response, _event(f"{epoch}-{each.sequence}", each.action.value, _item(each, root, decision.view.name))
            )
        if cursor >= found.head and not await followers.beyond(epoch, cursor, _HEARTBEAT_S):
            await _write(response, b": still here\n\n")


async def _start(request: web.Request) -> tuple[int, str]:
    """Where a stream begins: after Last-Event-ID, after the ``after`` parameter, or now."""
    last = request.headers.get("Last-Event-ID", "")
    if last:
        known, _, sequence = last.rpartition("-")
        if not _EPOCH.fullmatch(known) or not sequence.isascii() or not sequence.isdigit() or len(sequence) > 18:
            raise InvalidParameter("Last-Event-ID: not one of this feed's")
        return int(sequence), known
    state = await request.app[OFFLOAD].run(Lane.INDEX, request[SHOWN].feed.state)
    return _number(request, "after", state.change), _epoch(request) or state.epoch


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Write, but not for ever: a follower that does not read is let go."""
    async with asyncio.timeout(_WRITE_TIMEOUT_S):
        await response.write(data)


def _event(identifier: str, name: str, data: object) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (identifier.encode(), name.encode(), json_model.dumps(data))


def _item(change: Change, root: str, view: str) -> dict[str, Any]:
    found: dict[str, Any] = {"sequence": change.sequence}
    if not view:
        # A view does not tell when: beside the shifted date of a study that would give the shift away.
        moment = datetime.datetime.fromtimestamp(change.at_s, datetime.UTC)
        found["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    found |= {"action": change.action.value, "studyInstanceUID": change.study_uid}
    url = f"{root}/studies/{change.study_uid}"
    if change.series_uid is not None and change.sop_uid is not None:
        found["seriesInstanceUID"] = change.series_uid
        found["sopInstanceUID"] = change.sop_uid
        found["sopClassUID"] = change.sop_class_uid
        found["version"] = change.version
        found["state"] = change.state.value if change.state is not None else None
        url += f"/series/{change.series_uid}/instances/{change.sop_uid}"
    if change.detail:
        found["detail"] = change.detail
    return {**found, "url": url}


def _number(request: web.Request, name: str, default: int, lowest: int = 0, highest: int = MAX_SEQUENCE) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not lowest <= int(text) <= highest:
        raise InvalidParameter(f"{name}: a whole number from {lowest} to {highest}")
    return int(text)


def _epoch(request: web.Request) -> str | None:
    text = request.query.get("epoch")
    if text is not None and not _EPOCH.fullmatch(text):
        raise InvalidParameter("epoch: not one of this feed's")
    return text


def routes() -> list[Route]:
    """The feed and its head."""
    return [
        Route("GET", f"{PREFIX}/changefeed", follow, Action.SEARCH),
        Route("GET", f"{PREFIX}/changefeed/latest", latest, Action.SEARCH),
    ]
