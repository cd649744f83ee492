"""The last associations over HTTP, for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.access.actions import Action
from gateway.entrance.bodies import JSON
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.openapi import Operation
from gateway.http.route import Route
from gateway.services.associations import KEPT, Association

_PATH = "/admin/associations"

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", _PATH): Operation(
        "Administration",
        {200: (JSON,)},
        description=f"The last {KEPT} associations that are over, and rejected ones, latest first, of all DIMSE "
        "workers of all hosts with one control state.",
    ),
}


async def listed(request: web.Request) -> web.StreamResponse:
    """The last associations: who called, what was agreed on, what was asked for, and how it ended."""
    core, caller = request.app[CORE], request[CALLER]
    found = await request.app[OFFLOAD].run(Lane.LONG, core.associations.known, caller, KEPT)
    return web.json_response({"associations": [_told(each) for each in found]}, headers={"Cache-Control": "no-store"})


def _told(each: Association) -> dict[str, Any]:
    return {
        "requestId": each.request_id,
        "began": _time(each.ended_s - each.seconds),
        "ended": _time(each.ended_s),
        "seconds": each.seconds,
        "host": each.host,
        "calling": each.calling,
        "called": each.called,
        "address": each.address,
        "principal": each.principal,
        "contexts": {"proposed": each.proposed, "accepted": each.accepted, "notAccepted": each.not_accepted},
        "operations": [asdict(of) for of in each.served],
        "outcome": each.outcome,
        "detail": each.detail,
    }


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def routes() -> list[Route]:
    """``/admin/associations``."""
    return [Route("GET", _PATH, listed, Action.ADMIN)]
