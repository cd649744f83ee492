"""QIDO-RS: Search Transaction (PS3.18 10.6)."""

from __future__ import annotations

import dataclasses
import re

from aiohttp import web

from gateway.access.actions import Action
from gateway.access.door import Decision
from gateway.dicomweb import answers, multipart, negotiation
from gateway.dicomweb.media_types import DICOM_XML, JSON, MULTIPART
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.errors import InvalidQuery
from gateway.http.keys import CALLER, CORE, OFFLOAD, SHOWN
from gateway.http.offload import Lane
from gateway.http.route import Handler, Route
from gateway.services.query import Answer
from gateway.services.question import Query
from gateway.services.representation import etag
from storage.dicom import identifiers as ids
from storage.dicom import json_model, xml_model
from storage.dicom.attributes import Level, path_of
from storage.dicom.keys import Options
from storage.index.questions import State

_SWITCHES = ("fuzzymatching", "emptyvaluematching", "multiplevaluematching")
PARAMETERS = frozenset((*_SWITCHES, "limit", "offset", "includefield", "accept", "charset", "snapshot"))
MAX_PARAMETERS = 200
_RETRIEVE_URL = "00081190"
_SNAPSHOT = re.compile(r"([0-9a-f]{16})-(\d{1,18})", re.ASCII)


def parse(request: web.Request, level: Level, max_results: int) -> Query:
    """The question of a request's path and query.

    Raises
    ------
    InvalidQuery
        A parameter that is no attribute, or a value out of form.
    """
    if len(request.query) > MAX_PARAMETERS:
        raise InvalidQuery(f"more than {MAX_PARAMETERS} query parameters")
    keys: dict[str, str] = {}
    include: set[str] = set()
    include_all = False
    for name, text in request.query.items():
        if name == "includefield":
            for field in (part.strip() for part in text.split(",")):
                if field.lower() == "all":
                    include_all = True
                elif field:
                    include.add(_path(field))
        elif name not in PARAMETERS:
            path = _path(name)
            if keys.setdefault(path, text) != text:
                raise InvalidQuery(f"{name} is given twice with different values")
    for path, uid in _of_path(request).items():
        if keys.setdefault(path, uid) != uid:
            raise InvalidQuery("the path and the query name different studies or series")
    # Combined matching of dates and times is QIDO-RS's own (PS3.18 8.3.4.1.1); C-FIND would have to negotiate it.
    fuzzy, empty_values, multiple_values = (_switch(request, name) for name in _SWITCHES)
    options = Options(fuzzy, empty_values, multiple_values, combined=True)
    return Query(
        level,
        tuple(keys.items()),
        frozenset(include),
        include_all,
        options=options,
        limit=min(_number(request, "limit", max_results), max_results),
        offset=_number(request, "offset", 0),
    )


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


def _switch(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false").strip().lower()
    if text not in ("true", "false"):
        raise InvalidQuery(f"{name}: true or false, got {text[:20]!r}")
    return text == "true"


def _number(request: web.Request, name: str, default: int) -> int:
    values = request.query.getall(name, [])
    if not values:
        return default
    if not values[0].isascii() or not values[0].isdigit() or len(values[0]) > 9:
        raise InvalidQuery(f"{name}: a whole number from 0, got {values[0][:20]!r}")
    return int(values[0])


def _at_snapshot(request: web.Request, query: Query, state: State) -> Query:
    """The question about the rows of the snapshot that a request names. Raises InvalidQuery."""
    text = request.query.get("snapshot")
    if text is None:
        return query
    found = _SNAPSHOT.fullmatch(text)
    if found is None or found[1] != state.epoch or int(found[2]) > state.change:
        raise InvalidQuery("snapshot: not one of this index; search without it for a new one")
    if query.level is Level.PATIENT:
        raise InvalidQuery("snapshot: of studies, series and instances only")
    return dataclasses.replace(query, snapshot=int(found[2]))


def _named(state: State, query: Query) -> str:
    """What names the rows that a question was answered from."""
    return f"{state.epoch}-{state.change if query.snapshot is None else query.snapshot}"


async def search(request: web.Request, level: Level) -> web.StreamResponse:
    """Answer a search in DICOM JSON or XML; without results by what ``http.qido_empty`` says."""
    core = request.app[CORE]
    query = parse(request, level, core.settings.http.max_results)
    media_type = negotiation.result_type(request)
    root = service_root(request)

    def ask() -> web.Response:
        decision = request[SHOWN].query.enter(request[CALLER], query)
        state = request[SHOWN].query.state()
        at = _at_snapshot(request, query, state)
        unchanged = answers.not_modified(request, _etag(decision, state, at, root, media_type))
        if unchanged is not None:
            return unchanged
        answer = request[SHOWN].query.search(decision, at)
        tag = _etag(decision, answer.state, at, root, media_type)
        response = _response(answer, media_type, tag, root, core.settings.http.qido_empty)
        if level is not Level.PATIENT:
            response.headers["X-Snapshot"] = _named(answer.state, at)
        return response

    return await request.app[OFFLOAD].run(Lane.INDEX, ask)


def _etag(decision: Decision, state: State, query: Query, root: str, *parameters: str) -> str:
    """Names the answer to a question: nothing that it depends on is not in it."""
    asked = (decision.tenant, repr(decision.scope), repr(query), state.epoch, str(state.change))
    return etag(decision.view, root, (), *asked, *parameters)


def _response(answer: Answer, media_type: str, tag: str, root: str, empty: int) -> web.Response:
    headers = answers.headers(tag, media_type)
    headers["X-Total-Count"] = str(answer.total)
    if not answer.exact:
        headers["X-Total-Count-Relation"] = "gte"
    if not answer.results and empty == 204:
        headers.pop("Content-Type")
        response = web.Response(status=204, headers=headers)
    elif media_type == DICOM_XML:
        boundary, body = _xml(answer, root, tag.strip('"'))
        headers["Content-Type"] = f'{MULTIPART}; type="{DICOM_XML}"; boundary={boundary}'
        response = web.Response(body=body, headers=headers)
    else:
        response = web.Response(body=_json(answer, root), headers=headers)
    if answer.remaining:
        _warn(response, root, f"There are {answer.remaining} additional results that can be requested")
    if answer.unmatched:
        _warn(response, root, f"The following attributes are not matched: {', '.join(answer.unmatched)}")
    return response


def _warn(response: web.Response, root: str, text: str) -> None:
    """A Warning in the form of PS3.18 8.3.4.2."""
    response.headers.add("Warning", f"299 {root}: {text}")


def _json(answer: Answer, root: str) -> bytes:
    for result in answer.results:
        _complete(result, root)
    return json_model.with_base(json_model.dumps(answer.results), root)


def _xml(answer: Answer, root: str, boundary: str) -> tuple[str, bytes]:
    """One Native DICOM Model document for each result, and the boundary between them.

    The boundary follows from the answer, since an entity tag names its every byte.
    """
    documents = []
    for result in answer.results:
        _complete(result, root)
        documents.append(xml_model.dumps(json_model.loads(json_model.with_base(json_model.dumps(result), root))))
    while any(boundary.encode() in document for document in documents):
        boundary += "-"
    header = multipart.part_header(boundary, DICOM_XML)
    parts = [header + document + multipart.PART_END for document in documents]
    return boundary, b"".join((*parts, multipart.closing(boundary)))


def _complete(result: json_model.JsonDataSet, root: str) -> None:
    element = result.get(_RETRIEVE_URL)
    if element is not None:
        element["Value"] = [f"{root}/{path}" for path in element["Value"]]


async def count(request: web.Request, level: Level) -> web.StreamResponse:
    """Answer how many results a search has: ``{"count": n}``."""
    core = request.app[CORE]
    query = parse(request, level, core.settings.http.max_results)
    root = service_root(request)

    def ask() -> web.Response:
        decision = request[SHOWN].query.enter(request[CALLER], query)
        state = request[SHOWN].query.state()
        at = _at_snapshot(request, query, state)
        tag = _etag(decision, state, at, root, JSON)
        unchanged = answers.not_modified(request, tag)
        if unchanged is not None:
            return unchanged
        body = json_model.dumps({"count": request[SHOWN].query.count(decision, at)})
        return web.Response(body=body, headers=answers.headers(tag, JSON))

    return await request.app[OFFLOAD].run(Lane.INDEX, ask)


def _searching(level: Level) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await search(request, level)

    return handler


def _counting(level: Level) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await count(request, level)

    return handler


def routes() -> list[Route]:
    """The six paths of PS3.18 Table 10.6.1-1, patients, and the counts of what is at the top."""
    study = f"{PREFIX}/studies/{{study}}"
    levels = {"patients": Level.PATIENT, "studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}
    searches = {
        **{f"{PREFIX}/{name}": level for name, level in levels.items()},
        f"{study}/series": Level.SERIES,
        f"{study}/instances": Level.INSTANCE,
        f"{study}/series/{{series}}/instances": Level.INSTANCE,
    }
    counts = [Route("GET", f"{PREFIX}/{name}/count", _counting(level), Action.SEARCH) for name, level in levels.items()]
    return [Route("GET", path, _searching(level), Action.SEARCH) for path, level in searches.items()] + counts
