"""Under which address a de-identified view shows a stored study, for who may look at both."""

from __future__ import annotations

from aiohttp import web

from gateway.access.actions import Action
from gateway.http import roots
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.route import VIEW_PATH, Route
from storage.dicom import identifiers as ids

PATH = "/deidentified/{name}/studies/{study}"


async def find(request: web.Request) -> web.StreamResponse:
    """Where a view shows a stored study, or with ``series`` one of its series."""
    name, wanted = request.match_info["name"], request.query.get("series")
    study, series = await request.app[OFFLOAD].run(
        Lane.INDEX,
        request.app[CORE].pseudonymisation.find,
        request[CALLER],
        name,
        ids.study_uid(request.match_info["study"]),
        ids.series_uid(wanted) if wanted is not None else None,
    )
    place = VIEW_PATH.replace("{view}", name)
    url = f"{roots.root(request)}{place}/dicomweb/studies/{study}" + (f"/series/{series}" if series else "")
    return web.json_response({"url": url}, headers={"Cache-Control": "no-store"})


def routes() -> list[Route]:
    """``/deidentified``."""
    return [Route("GET", PATH, find, Action.READ)]
