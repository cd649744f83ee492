"""Query parameters of rendered resources (PS3.18 8.3.5 "Rendered Media Type Query Parameters")."""

from __future__ import annotations

from aiohttp import web

from gateway.dicomweb import negotiation
from gateway.dicomweb.media_types import JPEG, PNG
from gateway.errors import InvalidParameter
from gateway.imaging.presentation import VoiLutFunction, Window
from gateway.imaging.render import RenderedMediaType, RenderRequest

THUMBNAIL_SIZE = (128, 128)
MAX_THUMBNAIL = 512
_FUNCTIONS = {
    "linear": VoiLutFunction.LINEAR,
    "linear-exact": VoiLutFunction.LINEAR_EXACT,
    "sigmoid": VoiLutFunction.SIGMOID,
}


def rendering(request: web.Request) -> RenderRequest:
    """What a request asks of a rendering; raises InvalidParameter or NotAcceptable."""
    return RenderRequest(
        media_type=_media_type(request),
        quality=_quality(request),
        window=_window(request),
        viewport=_viewport(request),
    )


def thumbnail(request: web.Request) -> RenderRequest:
    """What a request asks of a thumbnail: small, whatever it says."""
    width, height = _viewport(request) or THUMBNAIL_SIZE
    viewport = min(width, MAX_THUMBNAIL), min(height, MAX_THUMBNAIL)
    return RenderRequest(media_type=_media_type(request), viewport=viewport)


def _media_type(request: web.Request) -> RenderedMediaType:
    return RenderedMediaType(negotiation.choose(request, (JPEG, PNG)))


def _numbers(request: web.Request, name: str) -> list[str] | None:
    text = request.query.get(name)
    return None if text is None else [part.strip() for part in text.split(",")]


def _quality(request: web.Request) -> int:
    parts = _numbers(request, "quality")
    if parts is None:
        return RenderRequest().quality
    if len(parts) != 1 or not parts[0].isdigit() or not 1 <= int(parts[0][:4]) <= 100:
        raise InvalidParameter("quality: a whole number from 1 to 100")
    return int(parts[0])


def _window(request: web.Request) -> Window | None:
    parts = _numbers(request, "window")
    if parts is None:
        return None
    function = _FUNCTIONS.get(parts[2].lower()) if len(parts) == 3 else VoiLutFunction.LINEAR
    if len(parts) not in (2, 3) or function is None:
        raise InvalidParameter(f"window: center,width,function with one of {', '.join(_FUNCTIONS)}")
    try:
        window = Window(float(parts[0]), float(parts[1]), function)
    except ValueError as error:
        raise InvalidParameter("window: center and width are numbers") from error
    return window


def _viewport(request: web.Request) -> tuple[int, int] | None:
    parts = _numbers(request, "viewport")
    if parts is None:
        return None
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 6 for part in parts):
        raise InvalidParameter("viewport: width,height in pixels")
    return int(parts[0]), int(parts[1])
