"""The surfaces everything else is measured from: skin, skull and the floor of the skull."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sample_dicom.anatomy.grid import FloatArray, Grid, Point
from sample_dicom.anatomy.shapes import ellipsoid_distance

CRANIUM_CENTRE: Point = (0.0, 8.0, 20.0)
CRANIUM_SEMI_AXES: Point = (67.0, 87.0, 68.0)
_SQUARENESS = 2.25

# z in mm, then half width, front and back of face and neck at that height.
_FACE = np.array(
    [
        (-140, 58, -30, 66),
        (-108, 56, -34, 64),
        (-98, 57, -62, 64),
        (-88, 59, -86, 65),
        (-75, 62, -88, 67),
        (-58, 65, -90, 71),
        (-40, 68, -88, 78),
        (-20, 70, -87, 86),
        (0, 70, -84, 90),
        (20, 68, -80, 90),
        (40, 58, -60, 80),
        (60, 30, -30, 50),
    ],
    dtype=np.float64,
)

# y in mm, then the height of the floor of the skull at the midline and 35 mm to the side.
_FLOOR = np.array(
    [
        (-90, 12, 20),
        (-60, 8, 20),
        (-32, 8, 18),
        (-22, 4, 4),
        (-12, 0, -14),
        (6, -2, -18),
        (20, -16, -12),
        (32, -34, -20),
        (50, -37, -28),
        (72, -26, -24),
        (95, -8, -8),
    ],
    dtype=np.float64,
)


@dataclass(frozen=True, slots=True)
class Contours:
    """Signed distances in mm (negative inside), each of the grid's shape.

    ``skin`` is the outside of the head, ``skull`` the outer table with the floor of the skull, and
    ``cavity`` the inner table, inside of which lie brain and CSF.
    """

    skin: FloatArray
    skull: FloatArray
    cavity: FloatArray


def contours(grid: Grid) -> Contours:
    """Measure the head's surfaces on a grid."""
    x, y, z = grid.axes()
    cranium = _cranium(grid)
    side = np.clip((np.abs(x) - 15.0) / 35.0, 0.0, 1.0)
    # The temporal fossa: behind the orbit the scalp stands off the skull, over the temporalis muscle.
    fossa = 8.0 * np.exp(-(((y + 36.0) / 24.0) ** 2) - ((z - 8.0) / 30.0) ** 2) * side
    skin = _smooth_union(cranium - (5.0 + fossa), _face(grid), 9.0)
    nose = np.maximum(ellipsoid_distance(grid, (0.0, -84.0, -23.0), (14.0, 22.0, 20.0)), y + 70.0)
    skin = _smooth_union(skin, nose, 6.0)

    floor = _floor(grid)
    thickness = 5.6 + 1.6 * np.clip((y - 60.0) / 30.0, 0.0, 1.0) + 1.4 * np.clip((-y - 50.0) / 25.0, 0.0, 1.0)
    return Contours(
        skin=skin,
        skull=np.maximum(cranium, floor - 4.5 - z),
        cavity=np.maximum(cranium + thickness, floor - z),
    )


def _cranium(grid: Grid) -> FloatArray:
    """Distance to the outer table: a squarish ellipsoid, broader at the back than at the front."""
    (cx, cy, cz), (a, b, c) = CRANIUM_CENTRE, CRANIUM_SEMI_AXES
    x, y, z = grid.axes()
    breadth = a * (1.0 + 0.13 * np.sin(np.clip((y - cy) / b, -1.2, 1.2) * 1.5))
    p = _SQUARENESS
    level = (np.abs(x - cx) ** p * breadth**-p + np.abs((y - cy) / b) ** p + np.abs((z - cz) / c) ** p + 1e-9) ** (
        1.0 / p
    )
    radius = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2)
    return np.asarray(radius * (1.0 - 1.0 / level) - 1e-6)


def _floor(grid: Grid) -> FloatArray:
    """Height of the floor of the skull in mm, shape (1, rows, columns)."""
    x, y, _ = grid.axes()
    # The sphenoid wings run forwards to the side, the petrous ridges backwards: an X seen from above.
    slant = np.interp(y, (-22.0, 12.0), (0.38, -0.45)) * np.clip(np.abs(x) - 10.0, 0.0, 45.0)
    middle = np.interp(y + slant, _FLOOR[:, 0], _FLOOR[:, 1])
    lateral = np.interp(y + slant, _FLOOR[:, 0], _FLOOR[:, 2])
    bend = np.clip((np.abs(x) - 6.0) / 26.0, 0.0, 1.0)
    dome = 0.012 * np.clip(np.abs(x) - 30.0, 0.0, None) ** 2
    return np.asarray(middle + (lateral - middle) * bend * bend * (3.0 - 2.0 * bend) - dome)


def _face(grid: Grid) -> FloatArray:
    """Distance, within the axial plane, to the outline of face and neck."""
    x, y, _ = grid.axes()
    width, front, back = (np.interp(grid.z, _FACE[:, 0], _FACE[:, k])[:, None, None] for k in (1, 2, 3))
    middle, depth = (front + back) / 2, (back - front) / 2
    v = (y - middle) / depth
    # The face narrows to the front.
    u = x / (width * (1.0 - 0.16 * np.clip(-v, 0.0, 1.0)))
    level = np.sqrt(np.abs(u) ** 2.4 + np.abs(v) ** 2.4 + 1e-9)
    radius = np.sqrt(x**2 + (y - middle) ** 2)
    in_plane = radius * (1.0 - 1.0 / level)
    top = grid.z[:, None, None] - 48.0
    return np.maximum(in_plane, top)


def _smooth_union(first: FloatArray, second: FloatArray, blend_mm: float) -> FloatArray:
    overlap = np.maximum(blend_mm - np.abs(first - second), 0.0) / blend_mm
    return np.minimum(first, second) - overlap * overlap * (blend_mm / 4.0)
