"""Query parameters of rendered resources (PS3.18 8.3.5 "Rendering Query Parameters")."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gateway.errors import InvalidParameter
from gateway.imaging.annotation import AnnotationKind
from gateway.imaging.geometry import Region
from gateway.imaging.icc import IccProfile
from gateway.imaging.picture import RenderedMediaType
from gateway.imaging.presentation import VoiLutFunction, Window
from gateway.imaging.render import MAX_VIEWPORT, RenderRequest

THUMBNAIL_SIZE = (128, 128)
MAX_THUMBNAIL = 512
MAX_PRESET_CHARACTERS = 64

RENDERING = ("annotation", "quality", "viewport", "window", "iccprofile")
"""Names of the parameters that say how pixels are rendered."""

_MAX_COORDINATE = 65535
_MAX_CHARACTERS = 32

FUNCTIONS = {
    "linear": VoiLutFunction.LINEAR,
    "linear-exact": VoiLutFunction.LINEAR_EXACT,
    "sigmoid": VoiLutFunction.SIGMOID,
}


def rendering(query: Mapping[str, str], media_type: RenderedMediaType = RenderedMediaType.JPEG) -> RenderRequest:
    """What a request asks of a rendering; raises InvalidParameter or gateway.imaging.errors.InvalidRendering."""
    window, preset = _window(query)
    viewport, region = _viewport(query)
    return RenderRequest(
        media_type=media_type,
        quality=_quality(query),
        window=window,
        preset=preset,
        viewport=viewport,
        region=region,
        icc_profile=_icc_profile(query),
        annotate=_annotation(query),
    )


def thumbnail(query: Mapping[str, str], media_type: RenderedMediaType) -> RenderRequest:
    """What a request asks of a thumbnail: small, whatever it says, and the whole picture."""
    viewport, _ = _viewport(query)
    width, height = viewport or THUMBNAIL_SIZE
    size = min(width or THUMBNAIL_SIZE[0], MAX_THUMBNAIL), min(height or THUMBNAIL_SIZE[1], MAX_THUMBNAIL)
    return RenderRequest(media_type=media_type, viewport=size)


def _parts(query: Mapping[str, str], name: str) -> list[str] | None:
    text = query.get(name)
    return None if text is None else [part.strip() for part in text.split(",")]


def _quality(query: Mapping[str, str]) -> int:
    text = query.get("quality")
    if text is None:
        return RenderRequest().quality
    if not text.isascii() or not text.isdigit() or len(text) > 3 or not 1 <= int(text) <= 100:
        raise InvalidParameter("quality: a whole number from 1 to 100")
    return int(text)


def _window(query: Mapping[str, str]) -> tuple[Window | None, str]:
    """A window, or the name or number of one of the instance's own, which the standard does not have."""
    parts = _parts(query, "window")
    if parts is None:
        return None, ""
    if len(parts) == 1:
        if not parts[0] or len(parts[0]) > MAX_PRESET_CHARACTERS:
            raise InvalidParameter("window: center,width,function or the name or number of one of the image's windows")
        return None, parts[0]
    function = FUNCTIONS.get(parts[2].lower()) if len(parts) == 3 else VoiLutFunction.LINEAR
    if len(parts) > 3 or function is None:
        raise InvalidParameter(f"window: center,width,function with one of {', '.join(FUNCTIONS)}")
    window = Window(decimal("window", parts[0]), decimal("window", parts[1]), function)
    if not window.is_valid:
        raise InvalidParameter("window: the width is at least 1 for linear, above 0 for the other functions")
    return window, ""


def decimal(name: str, text: str) -> float:
    """A finite decimal number; raises InvalidParameter."""
    try:
        number = float(text) if len(text) <= _MAX_CHARACTERS and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidParameter(f"{name}: decimal numbers, joined by commas")
    return number


def _viewport(query: Mapping[str, str]) -> tuple[tuple[int | None, int | None] | None, Region | None]:
    """The size of the picture, and the part of the source image: vw,vh,sx,sy,sw,sh; empty ones have their defaults."""
    parts = _parts(query, "viewport")
    if parts is None:
        return None, None
    if len(parts) > 6 or len(parts) < 2 or not any(parts):
        raise InvalidParameter("viewport: vw,vh or vw,vh,sx,sy,sw,sh")
    sides = [side("viewport", part) if part else None for part in parts[:2]]
    if len(parts) == 2:
        return (sides[0], sides[1]), None
    sx, sy, sw, sh = ([decimal("viewport", part) if part else None for part in parts[2:]] + [None] * 4)[:4]
    if any(abs(number) > _MAX_COORDINATE for number in (sx, sy, sw, sh) if number is not None):
        raise InvalidParameter(f"viewport: the source region is within {_MAX_COORDINATE} pixels")
    # The standard takes the absolute values of the corner.
    return (sides[0], sides[1]), Region(abs(sx or 0.0), abs(sy or 0.0), sw, sh)


def side(name: str, text: str) -> int:
    """A side of a viewport, in pixels; raises InvalidParameter."""
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= MAX_VIEWPORT:
        raise InvalidParameter(f"{name}: whole numbers of pixels from 1 to {MAX_VIEWPORT}")
    return int(text)


def _icc_profile(query: Mapping[str, str]) -> IccProfile | None:
    text = query.get("iccprofile")
    if text is None:
        return None
    try:
        return IccProfile(text.strip().lower())
    except ValueError as error:
        raise InvalidParameter(f"iccprofile: one of {', '.join(each.value for each in IccProfile)}") from error


def _annotation(query: Mapping[str, str]) -> tuple[AnnotationKind, ...]:
    parts = _parts(query, "annotation")
    if parts is None:
        return ()
    try:
        found = {AnnotationKind(part.lower()) for part in parts}
    except ValueError as error:
        raise InvalidParameter("annotation: patient, technique or both, joined by a comma") from error
    return tuple(sorted(found, key=lambda kind: kind.value))
