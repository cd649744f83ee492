"""WADO-RS: rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from aiohttp import web

from gateway.access.actions import Action
from gateway.audit.accesses import UNCOUNTED
from gateway.dicomweb import answers, negotiation, parameters
from gateway.dicomweb.media_types import GIF, JPEG, PNG
from gateway.dicomweb.rendered_choice import Plan, Representation, plan
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.dicomweb.wado import frame_numbers, locate_and
from gateway.errors import InvalidParameter, NotAcceptable
from gateway.http.keys import CALLER, OFFLOAD, PICTURES, SHOWN
from gateway.http.offload import Lane
from gateway.http.route import Route
from gateway.imaging.errors import ImagingBusy, ImagingError, InvalidRendering
from gateway.imaging.picture import RenderedImage, RenderedMediaType
from gateway.imaging.render import REVISION, RenderRequest
from gateway.services import report_html
from gateway.services.content import Content, held
from gateway.services.pictures import Picture
from gateway.services.render import RenderService
from gateway.services.renderable import HTML, PDF, PLAIN, Kind, Renderable
from gateway.services.retrieve import Found

_log = logging.getLogger("gateway.dicomweb")

AHEAD_PICTURES = 32
AHEAD_BYTES = 8 << 20
"""Pictures of a multipart that are rendered before its status line goes out, so that it can say which failed."""

_OF_PDF = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'self'"
"""What browsers' own viewers of PDF need, some of which show nothing in a sandbox; scripts are none of it."""

_TEXTS = {HTML: "text/html; charset=utf-8", PLAIN: "text/plain; charset=utf-8"}

Part = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """What a request names: the instances behind it, what can be rendered of them, and how."""

    found: Found
    renderables: list[Renderable]
    others: int
    wanted: RenderRequest
    given: Collection[str]
    """Names of the rendering parameters that the request has."""

    def etag(self, chosen: Plan, root: str) -> str:
        """Of the representation, the presentation states and the service root in it included."""
        states = [each.located.version for each in self.renderables]
        states += [each.state.version for each in self.renderables if each.state is not None]
        forms = ",".join(f"{each.media_type}:{_spans(each.frames)}" for each in chosen.representations)
        return self.found.etag(root, "rendered", REVISION, str(chosen.multipart), forms, repr(self.wanted), *states)


def _spans(frames: object) -> str:
    return str(frames) if isinstance(frames, range) else repr(list(frames)) if isinstance(frames, list | tuple) else ""


async def retrieve_rendered(request: web.Request) -> web.StreamResponse:
    """A study, series, instance or frames as pictures, videos, documents and texts."""
    wanted = parameters.rendering(request.query)
    given = [name for name in parameters.RENDERING if name in request.query]
    listed = request.match_info.get("frames")
    frames = None if listed is None else frame_numbers(listed)
    service, caller = request[SHOWN].render, request[CALLER]
    found, come_to = await locate_and(request, lambda found: service.wanted(caller, found, frames), Action.RENDER)
    target = Target(found, list(come_to.renderables), come_to.others, wanted, given)
    if not target.renderables:
        raise NotAcceptable("nothing here can be rendered")
    return await answer(request, target, plan(negotiation.accepted(request), target.renderables))


async def answer(request: web.Request, target: Target, chosen: Plan) -> web.StreamResponse:
    """Render as planned and send it."""
    etag = target.etag(chosen, service_root(request) if chosen.multipart else "")
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    frames = sum(len(each.frames) for each in chosen.representations)
    request.get(answers.ACCESS, UNCOUNTED).took(frames=frames)
    if chosen.multipart:
        return await _send_parts(request, target, chosen, etag)
    service, run = request[SHOWN].render, request.app[OFFLOAD].run
    first = chosen.representations[0]
    head = answers.headers(etag, _TEXTS.get(first.media_type, first.media_type))
    # The same picture has other warnings where a parameter is given that says no more than its default.
    pictures, key = request.app[PICTURES], " ".join((etag, *sorted(target.given)))
    kept = pictures.get(key)
    if kept is not None:
        content, warnings = held(kept.data), list(kept.warnings)
    else:
        content, warnings = await run(Lane.LONG, _made, service, target, chosen)
        if _is_picture(chosen) and content.blocks is not None:
            pictures.keep(key, Picture(first.media_type, b"".join(content.blocks), tuple(warnings)))
    if chosen.left_out or target.others:
        warnings.append(f"{chosen.left_out + target.others} instances cannot be rendered like this and are left out")
    if warnings:
        head["Warning"] = ", ".join(f'299 gateway "{text}"' for text in warnings)
    if first.media_type == HTML:
        head["Content-Security-Policy"] = report_html.CONTENT_SECURITY_POLICY
    if first.media_type == PDF:
        head["Content-Security-Policy"] = _OF_PDF
        head["Content-Disposition"] = f'inline; filename="{first.renderable.located.key.sop_uid}.pdf"'
    if chosen.left_out or target.others:
        return await answers.send(request, content, head, status=206)
    return await answers.ranged(request, content, head)


def _made(service: RenderService, target: Target, chosen: Plan) -> tuple[Content, list[str]]:
    """The one file of a plan without parts, and warnings; in one thread, since each crossing costs as much."""
    warnings = _ineffective(service, target, chosen.representations[0])
    return _single(service, chosen, target.wanted), warnings


def _single(service: RenderService, chosen: Plan, wanted: RenderRequest) -> Content:
    """The one file of a plan without parts."""
    first = chosen.representations[0]
    if not first.renderable.has_frames:
        return _unpictured(service, first)
    if _is_picture(chosen):
        return held(_picture(service, first, wanted).data)
    request = replace(wanted, media_type=RenderedMediaType(first.media_type))
    shown = [replace(each.renderable, frames=each.frames) for each in chosen.representations]
    return held(service.animation(shown, request).data)


def _is_picture(chosen: Plan) -> bool:
    """Whether the one file of a plan without parts is a still picture of one frame."""
    first = chosen.representations[0]
    frames = sum(len(each.frames) for each in chosen.representations)
    return frames == 1 and first.renderable.has_frames and first.media_type != RenderedMediaType.MP4.value


def _picture(service: RenderService, representation: Representation, wanted: RenderRequest) -> RenderedImage:
    """A picture of a representation's one frame."""
    request = replace(wanted, media_type=RenderedMediaType(representation.media_type))
    return service.picture(representation.renderable, representation.frames[0], request)


def _unpictured(service: RenderService, representation: Representation) -> Content:
    if representation.renderable.kind is Kind.REPORT:
        return held(service.text(representation.renderable, representation.media_type))
    return service.stored(representation.renderable)


def _ineffective(service: RenderService, target: Target, first: Representation) -> list[str]:
    """Warnings about parameters that were given and have no effect."""
    if not first.renderable.has_frames:
        names = sorted(target.given)
    else:
        names = service.ignored(first.renderable, target.wanted)
        if first.media_type in (PNG, GIF) and "quality" in target.given:
            names.append("quality")
    return [f"The following parameters have no effect here and were ignored: {', '.join(names)}"] if names else []


# Several


async def _send_parts(request: web.Request, target: Target, chosen: Plan, etag: str) -> web.StreamResponse:
    service, run = request[SHOWN].render, request.app[OFFLOAD].run
    root = service_root(request)
    parts = _parts(service, chosen, target.wanted, root)
    ahead, failed, first_error = await run(Lane.LONG, _take_ahead, parts)
    if not ahead:
        raise first_error or NotAcceptable("nothing here can be rendered")
    multipart = answers.MultipartAnswer(chosen.representations[0].media_type, etag)
    head = answers.headers(etag, multipart.content_type)
    missing = failed + chosen.left_out + target.others
    if missing:
        head["Warning"] = f'299 gateway "{missing} instances or frames cannot be rendered and are left out"'
    following = (_succeeded(each) for each in parts)
    body = multipart.body((kind, place, blocks) for kind, place, blocks in chain(ahead, following))
    return await answers.stream(request, body, head, status=206 if missing else 200, lane=Lane.LONG)


_Made = tuple[str, str, "Iterator[bytes]"]


def _succeeded(made: _Made | ImagingError) -> _Made:
    """A part; after the status line an error can only break the connection."""
    if isinstance(made, ImagingError):
        raise made
    return made


def _take_ahead(parts: Iterator[_Made | ImagingError]) -> tuple[list[_Made], int, ImagingError | None]:
    """The first parts, how many of them failed, and why the first did."""
    ahead: list[_Made] = []
    failed, size, first_error = 0, 0, None
    for made in parts:
        if isinstance(made, ImagingError):
            failed += 1
            first_error = first_error or made
            _log.info("a part of a rendered resource is left out: %s", made)
            continue
        kind, place, blocks = made
        first = next(blocks, b"")
        size += len(first)
        ahead.append((kind, place, chain((first,), blocks)))
        if len(ahead) >= AHEAD_PICTURES or size >= AHEAD_BYTES:
            break
    return ahead, failed, first_error


def _parts(service: RenderService, chosen: Plan, wanted: RenderRequest, root: str) -> Iterator[_Made | ImagingError]:
    """Every part in turn, or why there is none; what the request itself is wrong about is raised."""
    for each in chosen.representations:
        key = each.renderable.located.key
        place = f"{root}/studies/{key.study_uid}/series/{key.series_uid}/instances/{key.sop_uid}"
        if not each.renderable.has_frames:
            content = _unpictured(service, each)
            kind = _TEXTS.get(each.media_type, each.media_type)
            yield kind, f"{place}/rendered", content.read(0, content.size)
            continue
        single = Plan([each], multipart=False)
        for frames in [each.frames] if each.count == 1 else [[number] for number in each.frames]:
            part = replace(single, representations=[replace(each, frames=frames)])
            where = f"{place}/frames/{frames[0]}/rendered" if each.count > 1 else f"{place}/rendered"
            try:
                content = _single(service, part, wanted)
            except (InvalidRendering, ImagingBusy):
                raise
            except ImagingError as error:
                yield error
                continue
            yield each.media_type, where, content.read(0, content.size)


# Thumbnails


async def retrieve_thumbnail(request: web.Request) -> web.StreamResponse:
    """A small picture of a study, series, instance or frame."""
    media_type = RenderedMediaType(negotiation.choose(request, (JPEG, PNG, GIF)))
    wanted = parameters.thumbnail(request.query, media_type)
    number = _frame(request)
    service = request[SHOWN].render
    found, located = await locate_and(request, lambda found: service.representative(found.instances), Action.RENDER)
    etag = found.etag("", "thumbnail", REVISION, str(number), repr(wanted))
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    found.decision.access.took(frames=1)
    kept = request.app[PICTURES].get(etag)
    if kept is None:
        image = await request.app[OFFLOAD].run(Lane.LONG, service.thumbnail, located, number, wanted)
        kept = Picture(image.media_type, image.data)
        request.app[PICTURES].keep(etag, kept)
    return await answers.ranged(request, held(kept.data), answers.headers(etag, kept.media_type))


def _frame(request: web.Request) -> int | None:
    if "frames" not in request.match_info:
        return None
    numbers = frame_numbers(request.match_info["frames"])
    if len(numbers) != 1:
        raise InvalidParameter("frames: a thumbnail is of one frame")
    return numbers[0]


def routes() -> list[Route]:
    """Rendered resources and thumbnails at all four levels."""
    study = f"{PREFIX}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    frames = f"{instance}/frames/{{frames}}"
    return [
        Route("GET", f"{resource}/{name}", handler, Action.RENDER)
        for name, handler in (("rendered", retrieve_rendered), ("thumbnail", retrieve_thumbnail))
        for resource in (study, series, instance, frames)
    ]
