"""WADO-RS: rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4)."""

from __future__ import annotations

from aiohttp import web

from gateway.access.policy import Action
from gateway.dicomweb import answers, parameters
from gateway.dicomweb.urls import PREFIX
from gateway.dicomweb.wado import frame_numbers, locate
from gateway.errors import InvalidParameter
from gateway.http.application import CORE, OFFLOAD, Route
from gateway.http.offload import Lane
from gateway.imaging.render import RenderedImage
from gateway.services.render import RenderService


def _frame(request: web.Request) -> int | None:
    if "frames" not in request.match_info:
        return None
    numbers = frame_numbers(request.match_info["frames"])
    if len(numbers) != 1:
        raise InvalidParameter("frames: one frame is rendered at a time")
    return numbers[0]


async def retrieve_rendered(request: web.Request) -> web.StreamResponse:
    """A frame, or an instance's first one, as a picture."""
    wanted = parameters.rendering(request)
    number = _frame(request) or 1
    found = await locate(request, Action.RENDER)
    etag = found.etag("", "rendered", str(number), repr(wanted))
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    core = request.app[CORE]
    image = await request.app[OFFLOAD].run(Lane.LONG, core.render.frame, found.instances[0], number, wanted)
    return _picture(image, etag)


async def retrieve_thumbnail(request: web.Request) -> web.StreamResponse:
    """A small picture of a study, series, instance or frame."""
    wanted = parameters.thumbnail(request)
    number = _frame(request)
    found = await locate(request, Action.RENDER)
    located = RenderService.middle(found.instances)
    etag = found.etag("", "thumbnail", str(number), repr(wanted))
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    core = request.app[CORE]
    image = await request.app[OFFLOAD].run(Lane.LONG, core.render.thumbnail, located, number, wanted)
    return _picture(image, etag)


def _picture(image: RenderedImage, etag: str) -> web.Response:
    return web.Response(body=image.data, headers=answers.headers(etag, image.media_type))


def routes() -> list[Route]:
    """Rendered instances and frames; thumbnails at all four levels."""
    study = f"{PREFIX}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    frames = f"{instance}/frames/{{frames}}"
    return [
        *(Route("GET", f"{resource}/rendered", retrieve_rendered, Action.RENDER) for resource in (instance, frames)),
        *(
            Route("GET", f"{resource}/thumbnail", retrieve_thumbnail, Action.RENDER)
            for resource in (study, series, instance, frames)
        ),
    ]
