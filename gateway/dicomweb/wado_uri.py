"""WADO-URI: one instance by query parameters (PS3.18 chapter 9 "URI Service and Transactions")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiohttp import web

from gateway.access.actions import Action
from gateway.dicomweb import media_types as types
from gateway.dicomweb import negotiation, parameters
from gateway.dicomweb.answers import ACCESS
from gateway.dicomweb.instances import send_file, sendable
from gateway.dicomweb.negotiation import Choice, MediaRange
from gateway.dicomweb.rendered import Target, answer
from gateway.dicomweb.rendered_choice import fits, plan
from gateway.dicomweb.urls import PREFIX
from gateway.errors import InvalidParameter, NotAcceptable
from gateway.http.keys import CALLER, OFFLOAD, SHOWN
from gateway.http.offload import Lane
from gateway.http.route import Route
from gateway.imaging.geometry import Region
from gateway.imaging.render import MAX_VIEWPORT
from gateway.services.renderable import HTML, PLAIN, Kind, Renderable
from gateway.services.retrieve import Found
from storage.dicom import identifiers as ids

_NAMES = {
    "windowCenter": "window",
    "windowWidth": "window",
    "imageQuality": "quality",
    "imageAnnotation": "annotation",
    "annotation": "annotation",
    "rows": "viewport",
    "columns": "viewport",
    "region": "viewport",
    "iccprofile": "iccprofile",
}
"""Rendering parameters, and what the same thing is called for rendered resources."""

_DEFAULT_DICOM = frozenset((Kind.CINE, Kind.VIDEO, Kind.STATE, Kind.NOTHING))
"""Kinds whose default is application/dicom; pictures are JPEG, reports HTML."""


async def retrieve(request: web.Request) -> web.StreamResponse:
    """An instance as it is, or rendered.

    Without ``contentType`` the default of its kind goes out, whatever the Accept header says: this service is used
    from links and image elements, whose headers nobody chose.
    """
    query = request.query
    if query.get("requestType") != "WADO":
        raise InvalidParameter("requestType: WADO")
    if query.get("anonymize", "").lower() == "yes":
        raise NotAcceptable("anonymize: this service gives instances as they are stored only")
    ranges = negotiation.parse(",".join(query.getall("contentType", [])))
    if "contentType" in query and not ranges:
        raise InvalidParameter("contentType: media types, joined by commas")
    if ranges and fits(ranges[0], types.DICOM) and ranges[0].type != "*/*":
        return await _instance(request)
    found = await _locate(request, "objectUID", "seriesUID", Action.RENDER)
    renderable = await _renderable(request, found)
    if not ranges and renderable.kind in _DEFAULT_DICOM and "frameNumber" not in query:
        return await _instance(request)
    return await _rendered(request, found, renderable, ranges or negotiation.parse("*/*"))


async def _locate(request: web.Request, instance: str, series: str, action: Action) -> Found:
    query = request.query
    for name in ("studyUID", series, instance):
        if name not in query:
            raise InvalidParameter(f"{name}: a UID")
    found = await request.app[OFFLOAD].run(
        Lane.INDEX,
        request[SHOWN].retrieve.locate,
        request[CALLER],
        ids.study_uid(query["studyUID"]),
        ids.series_uid(query[series]),
        ids.sop_uid(query[instance]),
        action=action,
    )
    request[ACCESS] = found.decision.access
    return found


# As it is


async def _instance(request: web.Request) -> web.StreamResponse:
    for name in (*_NAMES, "frameNumber", "presentationUID", "presentationSeriesUID"):
        if name in request.query and name != "annotation":
            raise InvalidParameter(f"{name}: not with contentType=application/dicom")
    syntax = request.query.get("transferSyntax", "")
    found = await _locate(request, "objectUID", "seriesUID", Action.DOWNLOAD)
    choice = Choice(types.DICOM, False, syntax)
    service = request[SHOWN].retrieve
    chosen = await request.app[OFFLOAD].run(Lane.INDEX, sendable, service, found.instances, choice)
    if not chosen:
        raise NotAcceptable("transferSyntax: the instance does not exist in it and is not converted to it")
    return await send_file(request, found, chosen[0])


# Rendered


async def _renderable(request: web.Request, found: Found) -> Renderable:
    """What the request wants of the instance: all of it, a frame, or an image under a presentation state."""
    query, run, service = request.query, request.app[OFFLOAD].run, request[SHOWN].render
    named = "presentationUID" in query
    if named != ("presentationSeriesUID" in query):
        raise InvalidParameter("presentationUID and presentationSeriesUID: both or none")
    if named:
        state = await _locate(request, "presentationUID", "presentationSeriesUID", Action.RENDER)
        renderable = await run(Lane.INDEX, service.under_state, request[CALLER], found.instances[0], state)
    else:
        renderable = await run(Lane.INDEX, service.alone, found.instances[0])
    number = _frame_number(query)
    if number is None:
        return renderable
    await run(Lane.INDEX, service.wanted, request[CALLER], found, [number])
    return replace(renderable, frames=(number,), whole=False)


def _frame_number(query: Mapping[str, str]) -> int | None:
    text = query.get("frameNumber")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) == 0:
        raise InvalidParameter("frameNumber: a whole number from 1")
    return int(text)


async def _rendered(
    request: web.Request, found: Found, renderable: Renderable, ranges: list[MediaRange]
) -> web.StreamResponse:
    query = request.query
    wanted = replace(parameters.rendering(_translated(query)), viewport=_viewport(query))
    if "region" in query and renderable.has_frames:
        size = await request.app[OFFLOAD].run(Lane.INDEX, request[SHOWN].render.dimensions, renderable.located)
        wanted = replace(wanted, region=_region(query["region"], *size))
    given = sorted({name for key, name in _NAMES.items() if key in query})
    chosen = plan([each for each in ranges if not each.multipart], [renderable])
    if chosen.representations[0].media_type in (HTML, PLAIN):
        _check_charset(query.get("charset"))
    return await answer(request, Target(found, [renderable], 0, wanted, given), chosen)


def _translated(query: Mapping[str, str]) -> dict[str, str]:
    """The parameters under the names that rendered resources have for them."""
    found: dict[str, str] = {}
    centre, width = query.get("windowCenter"), query.get("windowWidth")
    if (centre is None) != (width is None):
        raise InvalidParameter("windowCenter and windowWidth: both or none")
    if centre is not None and width is not None:
        found["window"] = f"{centre},{width}"
    for name in ("imageQuality", "imageAnnotation", "annotation", "iccprofile"):
        if name in query:
            found[_NAMES[name]] = query[name]
    return found


def _viewport(query: Mapping[str, str]) -> tuple[int, int] | None:
    """The box that the picture fills as far as its shape allows; one side alone leaves the other free."""
    rows, columns = query.get("rows"), query.get("columns")
    if rows is None and columns is None:
        return None
    width = MAX_VIEWPORT if columns is None else parameters.side("columns", columns)
    return width, MAX_VIEWPORT if rows is None else parameters.side("rows", rows)


def _region(text: str, rows: int, columns: int) -> Region:
    """Left, top, right and bottom of the part to show, as fractions of the image (PS3.18 9.1.2.2 "region")."""
    parts = [parameters.decimal("region", part.strip()) for part in text.split(",")]
    if len(parts) != 4 or not (0 <= parts[0] < parts[2] <= 1 and 0 <= parts[1] < parts[3] <= 1):
        raise InvalidParameter("region: left,top,right,bottom, as fractions of the image from 0.0 to 1.0")
    left, top, right, bottom = parts
    # A part of a pixel is shown as one.
    width, height = max((right - left) * columns, 1.0), max((bottom - top) * rows, 1.0)
    return Region(min(left * columns, columns - 1.0), min(top * rows, rows - 1.0), width, height)


def _check_charset(text: str | None) -> None:
    names = [] if text is None else [part.partition(";")[0].strip().lower() for part in text.split(",")]
    if names and not {"utf-8", "utf8", "*"} & set(names):
        raise NotAcceptable("charset: text is available in utf-8")


def routes() -> list[Route]:
    """The one resource; application/dicom needs the action ``read`` as well."""
    return [Route("GET", f"{PREFIX}/wado", retrieve, Action.RENDER)]
