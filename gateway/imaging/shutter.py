"""Display shutters: what lies outside of them is not shown."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from gateway.imaging.attributes import JsonDataset, integer, reals, texts

MAX_VERTICES = 4096
_P_VALUES = 65535
_FAR = 1e5  # beyond every image, and within what can be drawn


@dataclass(frozen=True, slots=True)
class Shutter:
    """One frame's shutter; edges, centre and vertices in pixels, the image's first being 1.

    ``rectangle`` is (left, right, upper, lower) edge: the pixels at the edges are still shut. ``circle`` is (row,
    column, radius), ``polygon`` are (row, column) pairs. ``value`` is 0 (black) to 255 and covers what is shut.

    References
    ----------
    PS3.3 C.7.6.11 "Display Shutter Module"
    """

    rectangle: tuple[float, float, float, float] | None = None
    circle: tuple[float, float, float] | None = None
    polygon: tuple[tuple[float, float], ...] = ()
    value: int = 0

    def shut(self, rows: int, columns: int) -> npt.NDArray[np.bool_]:
        """Where the image is covered: (rows, columns)."""
        row = np.arange(1, rows + 1)[:, None]
        column = np.arange(1, columns + 1)[None, :]
        opened = np.ones((rows, columns), np.bool_)
        if self.rectangle is not None:
            left, right, upper, lower = self.rectangle
            opened &= (row > upper) & (row < lower) & (column > left) & (column < right)
        if self.circle is not None:
            middle_row, middle_column, radius = self.circle
            # Distances rather than their squares: a file's numbers may be as large as a double can be.
            opened &= np.hypot(row - middle_row, column - middle_column) <= radius
        if len(self.polygon) >= 3:
            mask = Image.new("1", (columns, rows))
            ImageDraw.Draw(mask).polygon([(x - 1, y - 1) for y, x in self.polygon], fill=1, outline=1)
            opened &= np.asarray(mask)
        return ~opened


def read_shutter(dataset: JsonDataset) -> Shutter | None:
    """The shutter of an image or a presentation state; None without one that can be drawn."""
    shapes = texts(dataset, "00181600")
    rectangle = circle = None
    polygon: tuple[tuple[float, float], ...] = ()
    edges = [number for tag in ("00181602", "00181604", "00181606", "00181608") for number in reals(dataset, tag)[:1]]
    if "RECTANGULAR" in shapes and len(edges) == 4:
        rectangle = (edges[0], edges[1], edges[2], edges[3])
    centre, radius = reals(dataset, "00181610"), reals(dataset, "00181612")
    if "CIRCULAR" in shapes and len(centre) == 2 and radius:
        circle = (centre[0], centre[1], radius[0])
    if "POLYGONAL" in shapes:
        numbers = reals(dataset, "00181620")[: 2 * MAX_VERTICES]
        near = [min(max(number, -_FAR), _FAR) for number in numbers]
        polygon = tuple(zip(near[::2], near[1::2], strict=False))
    if rectangle is None and circle is None and len(polygon) < 3:
        return None
    return Shutter(rectangle, circle, polygon, grey(integer(dataset, "00181622") or 0))


def grey(p_value: int) -> int:
    """A P-Value of 16 bits as one of 8."""
    return round(min(max(p_value, 0), _P_VALUES) * 255 / _P_VALUES)
