"""How a presentation state wants a picture to be shown: where, which part, and what lies over it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.imaging.graphics import Graphic, TextObject


@dataclass(frozen=True, slots=True)
class Display:
    """Geometry and graphics of a presentation state.

    ``area`` is (left, top, right, bottom) of the displayed pixels, the image's first being 1, both ends included;
    it may pass the image. ``aspect`` is the height of a pixel over its width. The picture is turned clockwise by
    ``rotation`` degrees, then mirrored left to right when ``flipped``.

    References
    ----------
    PS3.3 C.10.4 "Displayed Area Module", C.10.6 "Spatial Transformation Module"
    """

    area: tuple[int, int, int, int] | None = None
    aspect: float = 1.0
    rotation: int = 0
    flipped: bool = False
    objects: tuple[Graphic | TextObject, ...] = ()
