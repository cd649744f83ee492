"""QIDO-RS: Search Transaction (PS3.18 10.6)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.access.policy import Action
from gateway.dicomweb import negotiation
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.errors import InvalidQuery
from gateway.http.application import CALLER, CORE, OFFLOAD, Route
from gateway.http.offload import Lane
from gateway.services.query import Answer, Query
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.attributes import Level, path_of

_OWN = frozenset(("limit", "offset", "includefield", "fuzzymatching", "accept", "charset"))
_UNSUPPORTED = {
    "fuzzymatching": "The fuzzymatching parameter is not supported. Only literal matching has been performed.",
    "emptyvaluematching": "The emptyvaluematching parameter is not supported.",
    "multiplevaluematching": "The multiplevaluematching parameter is not supported.",
}
_MAX_PARAMETERS = 200
_RETRIEVE_URL = "00081190"


def parse(request: web.Request, level: Level, max_results: int) -> tuple[Query, list[str]]:
    """The question of a request's path and query, and the warnings that it deserves.

    Raises
    ------
    InvalidQuery
        A parameter that is no attribute, or a value out of form.
    """
    if len(request.query) > _MAX_PARAMETERS:
        raise InvalidQuery(f"more than {_MAX_PARAMETERS} query parameters")
    keys: dict[str, str] = {}
    include: set[str] = set()
    include_all = False
    warnings = []
    for name, text in request.query.items():
        if name in _UNSUPPORTED and text.strip().lower() == "true":
            warnings.append(_UNSUPPORTED[name])
        if name == "includefield":
            for field in (part.strip() for part in text.split(",")):
                if field.lower() == "all":
                    include_all = True
                elif field:
                    include.add(_path(field).partition(".")[0])
        elif name not in _OWN and name not in _UNSUPPORTED:
            path = _path(name)
            if path in keys and keys[path] != text:
                raise InvalidQuery(f"{name} is given twice with different values")
            keys[path] = text
    for path, uid in _of_path(request).items():
        if path in keys and keys[path] != uid:
            raise InvalidQuery("the path and the query name different studies or series")
        keys[path] = uid
    limit = min(_number(request, "limit", max_results), max_results)
    offset = _number(request, "offset", 0)
    return Query(level, tuple(keys.items()), frozenset(include), include_all, limit=limit, offset=offset), warnings


def _of_path(request: web.Request) -> dict[str, str]:
    found: dict[str, str] = {}
    if "study" in request.match_info:
        found["0020000D"] = ids.study_uid(request.match_info["study"])
    if "series" in request.match_info:
        found["0020000E"] = ids.series_uid(request.match_info["series"])
    return found


def _path(name: str) -> str:
    path = path_of(name)
    if path is None:
        raise InvalidQuery(f"{name[:64]!r} is neither an attribute's keyword or tag nor a search parameter")
    return path


def _number(request: web.Request, name: str, default: int) -> int:
    values = request.query.getall(name, [])
    if not values:
        return default
    if not values[0].isascii() or not values[0].isdigit() or len(values[0]) > 9:
        raise InvalidQuery(f"{name}: a whole number from 0, got {values[0][:20]!r}")
    return int(values[0])


def _warning(text: str) -> str:
    return f'299 gateway "{text}"'


async def search(request: web.Request, level: Level) -> web.StreamResponse:
    """Answer a search in DICOM JSON; 204 without results (PS3.18 8.3.4.4.1)."""
    core = request.app[CORE]
    query, notes = parse(request, level, core.settings.http.max_results)
    media_type = negotiation.json_type(request)

    def ask() -> Answer:
        return core.query.search(core.query.enter(request[CALLER], query), query)

    answer = await request.app[OFFLOAD].run(Lane.INDEX, ask)
    if answer.remaining:
        notes.append(f"There are {answer.remaining} additional results that can be requested")
    if answer.unmatched:
        notes.append(f"Not matched, since these are not indexed: {', '.join(answer.unmatched)}")
    headers = {"Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
    response: web.Response
    if answer.results:
        response = web.Response(body=_body(answer, service_root(request)), content_type=media_type, headers=headers)
    else:
        response = web.Response(status=204, headers=headers)
    for note in notes:
        response.headers.add("Warning", _warning(note))
    return response


def _body(answer: Answer, root: str) -> bytes:
    for result in answer.results:
        element: dict[str, Any] | None = result.get(_RETRIEVE_URL)
        if element is not None:
            element["Value"] = [f"{root}/{path}" for path in element["Value"]]
    return json_model.dumps(answer.results)


async def search_studies(request: web.Request) -> web.StreamResponse:
    """Search for studies."""
    return await search(request, Level.STUDY)


async def search_series(request: web.Request) -> web.StreamResponse:
    """Search for series, of a study or of all."""
    return await search(request, Level.SERIES)


async def search_instances(request: web.Request) -> web.StreamResponse:
    """Search for instances, of a series, a study or of all."""
    return await search(request, Level.INSTANCE)


def routes() -> list[Route]:
    """The six paths of PS3.18 Table 10.6.1-1."""
    study = f"{PREFIX}/studies/{{study}}"
    return [
        Route("GET", f"{PREFIX}/studies", search_studies, Action.SEARCH),
        Route("GET", f"{PREFIX}/series", search_series, Action.SEARCH),
        Route("GET", f"{PREFIX}/instances", search_instances, Action.SEARCH),
        Route("GET", f"{study}/series", search_series, Action.SEARCH),
        Route("GET", f"{study}/instances", search_instances, Action.SEARCH),
        Route("GET", f"{study}/series/{{series}}/instances", search_instances, Action.SEARCH),
    ]
