"""DELETE of a study, series or instance, and its undoing: not of PS3.18, on the paths of its retrieval."""

from __future__ import annotations

import datetime
from typing import Any

from aiohttp import web

from gateway.access.actions import Action
from gateway.dicomweb import urls
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.route import Route
from gateway.services.delete import Deletion
from storage.dicom import identifiers as ids
from storage.dicom import json_model


async def delete(request: web.Request) -> web.StreamResponse:
    """Delete what the path names: 204, and Location names the deletion, which can be undone for a while."""
    record = await request.app[OFFLOAD].run(
        Lane.OBJECTS,
        request.app[CORE].delete.delete,
        request[CALLER],
        urls.study(request),
        urls.series(request),
        urls.instance(request),
    )
    return web.Response(status=204, headers={"Location": f"{service_root(request)}/deletions/{record}"})


async def list_deletions(request: web.Request) -> web.StreamResponse:
    """Deletions that the caller may know of, latest first."""
    found = await request.app[OFFLOAD].run(Lane.INDEX, request.app[CORE].delete.deletions, request[CALLER])
    root = service_root(request)
    body = json_model.dumps([_item(each, root) for each in found])
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _item(deletion: Deletion, root: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": deletion.record,
        "url": f"{root}/deletions/{deletion.record}",
        "studyInstanceUID": deletion.study_uid,
    }
    if deletion.series_uid is not None:
        found["seriesInstanceUID"] = deletion.series_uid
    if deletion.sop_uid is not None:
        found["sopInstanceUID"] = deletion.sop_uid
    found["versions"] = deletion.versions
    found["deleted"] = _time(deletion.deleted_s)
    found["undoUntil"] = _time(deletion.undo_until_s)
    found["undoable"] = deletion.undoable
    if deletion.reason:
        found["reason"] = deletion.reason
    return found


def _time(unix_s: float) -> str:
    moment = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


async def undo(request: web.Request) -> web.StreamResponse:
    """Undo a deletion; the answer says how many versions are live again."""
    record = ids.version(request.match_info["deletion"])
    restored = await request.app[OFFLOAD].run(Lane.OBJECTS, request.app[CORE].delete.undo, request[CALLER], record)
    return web.Response(body=json_model.dumps({"restored": restored}), content_type="application/json")


def routes() -> list[Route]:
    """DELETE at the three levels, the list of deletions, and undo."""
    study = f"{PREFIX}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    return [
        Route("DELETE", study, delete, Action.DELETE),
        Route("DELETE", series, delete, Action.DELETE),
        Route("DELETE", f"{series}/instances/{{instance}}", delete, Action.DELETE),
        Route("GET", f"{PREFIX}/deletions", list_deletions, Action.DELETE),
        Route("POST", f"{PREFIX}/deletions/{{deletion}}/undo", undo, Action.DELETE),
    ]
