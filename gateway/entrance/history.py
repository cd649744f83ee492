"""What became of a study over HTTP: who saw it, and the versions of an instance."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping

from aiohttp import web

from gateway.access.actions import Action
from gateway.entrance.bodies import JSON
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.openapi import Operation, Parameter
from gateway.http.route import Route
from storage.dicom import identifiers as ids

LOOKS = "/history/studies/{study}"
VERSIONS = f"{LOOKS}/series/{{series}}/instances/{{instance}}"
_UID = {"type": "string", "pattern": r"^[0-9.]+$", "maxLength": 64}
PATH_PARAMETERS = {
    "study": Parameter("study", "Study Instance UID", _UID),
    "series": Parameter("series", "Series Instance UID", _UID),
    "instance": Parameter("instance", "SOP Instance UID", _UID),
}
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", LOOKS): Operation(
        "History",
        {200: (JSON,)},
        description="By the trail, through views too, and of studies that are not there any more; "
        "`more` where it goes back further, `gap` what may be missing.",
    ),
    ("GET", VERSIONS): Operation("History", {200: (JSON,)}, (), (404, 410)),
}
_HEADERS = {"Cache-Control": "no-store"}


async def looks(request: web.Request) -> web.StreamResponse:
    """Who saw a study, and how much of it."""
    found = await request.app[OFFLOAD].run(
        Lane.LONG, request.app[CORE].history.looks, request[CALLER], ids.study_uid(request.match_info["study"])
    )
    seen = [dataclasses.asdict(each) for each in found.seen]
    return web.json_response({"seen": seen, "more": found.more, "gap": found.gap}, headers=_HEADERS)


async def versions(request: web.Request) -> web.StreamResponse:
    """The versions of an instance that are kept, latest first."""
    asked = request.match_info
    found = await request.app[OFFLOAD].run(
        Lane.INDEX,
        request.app[CORE].history.versions,
        request[CALLER],
        ids.study_uid(asked["study"]),
        ids.series_uid(asked["series"]),
        ids.sop_uid(asked["instance"]),
    )
    told = [
        {
            "version": each.version,
            "received": datetime.datetime.fromtimestamp(each.received_s, datetime.UTC).isoformat(timespec="seconds"),
            "current": each.is_current,
        }
        for each in found
    ]
    return web.json_response({"versions": told}, headers=_HEADERS)


def routes() -> list[Route]:
    """``/history``."""
    return [Route("GET", LOOKS, looks, Action.AUDIT_READ), Route("GET", VERSIONS, versions, Action.READ)]
