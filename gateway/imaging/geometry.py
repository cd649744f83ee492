"""From a frame to the part of it that is shown, the way round it is shown, and the size it is shown in."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from gateway.imaging.display import Display
from gateway.imaging.errors import InvalidRendering

MAX_PICTURE_PIXELS = 1 << 28
"""Pixels of a picture before it is scaled: the largest frame, or a displayed area that passes its image."""


@dataclass(frozen=True, slots=True)
class Region:
    """Part of the source image, in pixels from its upper left corner; it may lie between pixels.

    A width or height of None reaches to the right or lower edge. A negative one mirrors the picture horizontally or
    vertically.

    References
    ----------
    PS3.18 8.3.5.1.3 "Viewport Scaling"
    """

    left: float = 0.0
    top: float = 0.0
    width: float | None = None
    height: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The pixels from ``left``, ``top`` up to ``right``, ``bottom`` (exclusive, 0-based; they may pass the image).

    They are turned clockwise by ``turns`` quarters, then mirrored. ``aspect`` is the height of a pixel over its
    width, before the turn.
    """

    left: int
    top: int
    right: int
    bottom: int
    turns: int = 0
    mirrored: bool = False
    upside_down: bool = False
    pixel_aspect: float = 1.0

    @property
    def aspect(self) -> float:
        """The height of a pixel over its width, after the turn."""
        return self.pixel_aspect if self.turns % 2 == 0 else 1 / self.pixel_aspect

    def cut(self, shown: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The pixels of the view; what passes the image is black."""
        rows, columns = shown.shape[:2]
        top, bottom = max(self.top, 0), min(self.bottom, rows)
        left, right = max(self.left, 0), min(self.right, columns)
        part = shown[top:bottom, left:right]
        if (top, left, bottom, right) != (self.top, self.left, self.bottom, self.right):
            whole = np.zeros((self.bottom - self.top, self.right - self.left, *shown.shape[2:]), np.uint8)
            whole[top - self.top : bottom - self.top, left - self.left : right - self.left] = part
            part = whole
        part = np.rot90(part, -self.turns)
        part = part[:, ::-1] if self.mirrored else part
        return np.ascontiguousarray(part[::-1] if self.upside_down else part)

    def mapping(self, size: tuple[int, int]) -> Callable[[tuple[float, float]], tuple[float, float]]:
        """From (column, row) of the image, 1 being the middle of the first pixel, to (x, y) of a picture of a size."""

        def place(point: tuple[float, float]) -> tuple[float, float]:
            x = (point[0] - 0.5 - self.left) / (self.right - self.left)
            y = (point[1] - 0.5 - self.top) / (self.bottom - self.top)
            for _ in range(self.turns):
                x, y = 1 - y, x
            x = 1 - x if self.mirrored else x
            y = 1 - y if self.upside_down else y
            return x * size[0], y * size[1]

        return place


def arrange(rows: int, columns: int, display: Display | None, region: Region | None) -> View:
    """What is shown of a frame.

    Raises
    ------
    InvalidRendering
        Nothing of the region is in the image, or a region under a presentation state, which says itself what is
        shown.
    """
    if display is not None:
        if region is not None:
            raise InvalidRendering("viewport: a presentation state says itself which part of the image is shown")
        left, top, right, bottom = display.area or (1, 1, columns, rows)
        if left > columns or top > rows or right < 1 or bottom < 1:
            raise InvalidRendering("the displayed area lies outside the image")
        if (right - left + 1) * (bottom - top + 1) > MAX_PICTURE_PIXELS:
            raise InvalidRendering("the displayed area is too large")
        turns = display.rotation // 90
        return View(left - 1, top - 1, right, bottom, turns, display.flipped, pixel_aspect=display.aspect)
    if region is None:
        return View(0, 0, columns, rows)
    width = columns - region.left if region.width is None else abs(region.width)
    height = rows - region.top if region.height is None else abs(region.height)
    left, top = max(round(region.left), 0), max(round(region.top), 0)
    right, bottom = min(round(region.left + width), columns), min(round(region.top + height), rows)
    if left >= right or top >= bottom:
        raise InvalidRendering("viewport: the source region lies outside the image")
    return View(
        left,
        top,
        right,
        bottom,
        mirrored=region.width is not None and region.width < 0,
        upside_down=region.height is not None and region.height < 0,
    )


def fit(shown: npt.NDArray[np.uint8], aspect: float, viewport: tuple[int | None, int | None] | None) -> Image.Image:
    """A picture as large as a viewport allows without distortion; square pixels whatever ``aspect`` says.

    References
    ----------
    PS3.18 8.3.5.1.3 "Viewport Scaling"
    """
    picture = Image.fromarray(shown)
    width, height = float(picture.width), float(picture.height)
    if abs(aspect - 1) > 1e-3:
        width, height = (width, height * aspect) if aspect > 1 else (width / aspect, height)
    if viewport is not None:
        scale = min((viewport[0] or picture.width) / width, (viewport[1] or picture.height) / height)
        width, height = width * scale, height * scale
    size = (max(round(width), 1), max(round(height), 1))
    if size[0] * size[1] > MAX_PICTURE_PIXELS:
        raise InvalidRendering("the picture would be too large; give a viewport")
    if size == picture.size:
        return picture
    method = (
        Image.Resampling.LANCZOS if size[0] * size[1] < picture.width * picture.height else Image.Resampling.BICUBIC
    )
    return picture.resize(size, method, reducing_gap=2.0)
