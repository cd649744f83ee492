"""What the gateway does just now over HTTP, for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway import assembly
from gateway.access.actions import Action
from gateway.entrance.bodies import JSON
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.openapi import Operation
from gateway.http.route import Route
from gateway.services.activity import Activity
from gateway.telemetry.counted import DEPTHS, Counted

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/admin/activity"): Operation(
        "Administration",
        {200: (JSON,)},
        description="What the gateway does just now; what its processes count is null without metrics.port.",
    ),
}


async def now(request: web.Request) -> web.StreamResponse:
    """Faces, queues, background work, room, and what was done and failed since the start."""
    core, caller = request.app[CORE], request[CALLER]
    found = await request.app[OFFLOAD].run(Lane.LONG, core.activity.now, caller)
    least = core.settings.storage.min_free_bytes
    told = {"version": assembly.release(), **_told(found), "minFreeBytes": least}
    return web.json_response(told, headers={"Cache-Control": "no-store"})


def _told(found: Activity) -> dict[str, Any]:
    return {
        "fault": found.fault,
        "room": [{"place": name, "freeBytes": free} for name, free in found.places],
        "archive": {"objects": found.usage.objects, "bytes": found.usage.bytes, "quarantined": found.quarantined},
        "commitments": found.commitments,
        "counted": found.counted and _of(found.counted),
    }


def _of(counted: Counted) -> dict[str, Any]:
    return {
        "faces": [
            {"face": each.face, "ready": each.ready, "wanted": each.wanted, "restarts": each.restarts}
            for each in counted.workers()
        ],
        "queues": [{"what": DEPTHS[name][1], "count": count} for name, count in counted.depths().items()],
        "done": [{"what": what, "count": count} for what, count in counted.done().items()],
        "duties": [
            {"duty": each.name, "doneAt": each.done_at_s or None, "interrupted": each.failures}
            for each in counted.duties()
        ],
        "failures": [{"what": what, "count": count} for what, count in counted.failures().items()],
    }


def routes() -> list[Route]:
    """``/admin/activity``."""
    return [Route("GET", "/admin/activity", now, Action.ADMIN)]
