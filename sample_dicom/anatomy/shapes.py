"""Ellipsoids, tapered capsules and wave fields: the vocabulary the anatomy is written in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from sample_dicom.anatomy.grid import FloatArray, Grid, Point
from sample_dicom.anatomy.layers import Layer, Tissue, coverage

_MARGIN_MM = 2.0
_TINY = 1e-9


def ellipsoid_distance(grid: Grid, centre: Point, semi_axes: Point) -> FloatArray:
    """Signed distance in mm to an ellipsoid, first order, shape of the grid."""
    x, y, z = grid.axes()
    a, b, c = semi_axes
    u, v, w = ((x - centre[0]) / a) ** 2, ((y - centre[1]) / b) ** 2, ((z - centre[2]) / c) ** 2
    level = np.sqrt(u + v + w + _TINY)
    slope = np.sqrt(u / a**2 + v / b**2 + w / c**2 + _TINY / min(semi_axes) ** 2)
    return level * (level - 1.0) / slope


def capsule_distance(grid: Grid, start: Point, end: Point, radii_mm: tuple[float, float]) -> FloatArray:
    """Signed distance in mm to a capsule whose radius runs from the first to the second of ``radii_mm``."""
    axes = grid.axes()
    along = np.subtract(end, start)
    rel = [axis - s for axis, s in zip(axes, start, strict=True)]
    t = np.clip(sum(r * d for r, d in zip(rel, along, strict=True)) / float(along @ along), 0.0, 1.0)
    squared = sum((r - t * d) ** 2 for r, d in zip(rel, along, strict=True))
    radius = radii_mm[0] + t * (radii_mm[1] - radii_mm[0])
    return np.asarray(np.sqrt(squared) - radius)


def ellipsoid(grid: Grid, tissue: Tissue, centre: Point, semi_axes: Point) -> Layer:
    """Return one tissue in the form of an ellipsoid."""
    low = (centre[0] - semi_axes[0], centre[1] - semi_axes[1], centre[2] - semi_axes[2])
    high = (centre[0] + semi_axes[0], centre[1] + semi_axes[1], centre[2] + semi_axes[2])
    box = grid.box(_shift(low, -_MARGIN_MM), _shift(high, _MARGIN_MM))
    return Layer(tissue, box, coverage(ellipsoid_distance(grid.crop(box), centre, semi_axes)))


def capsule(grid: Grid, tissue: Tissue, start: Point, end: Point, radii_mm: tuple[float, float]) -> Layer:
    """Return one tissue in the form of a tapered capsule."""
    reach = max(radii_mm) + _MARGIN_MM
    low = (min(start[0], end[0]), min(start[1], end[1]), min(start[2], end[2]))
    high = (max(start[0], end[0]), max(start[1], end[1]), max(start[2], end[2]))
    box = grid.box(_shift(low, -reach), _shift(high, reach))
    return Layer(tissue, box, coverage(capsule_distance(grid.crop(box), start, end, radii_mm)))


def tube(grid: Grid, tissue: Tissue, nodes: Sequence[tuple[Point, float]]) -> Iterator[Layer]:
    """Yield capsules that join ``(point, radius)`` nodes into one bent tube."""
    for (start, r0), (end, r1) in pairwise(nodes):
        yield capsule(grid, tissue, start, end, (r0, r1))


def mirrored(point: Point, side: int) -> Point:
    """Return the point on the left (``side`` 1) or on the right (-1) of the patient."""
    return (side * point[0], point[1], point[2])


def wave_field(grid: Grid, wavelength_mm: float, seed: int, waves: int = 40) -> FloatArray:
    """Sum plane waves of one wavelength in random directions: unit variance, labyrinth-like zero lines.

    Distance to the nearest zero line is about ``abs(field) * wavelength_mm / (2 * pi)``.
    """
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((waves, 3))
    directions *= 2 * np.pi / wavelength_mm / np.linalg.norm(directions, axis=1, keepdims=True)
    phases = rng.uniform(0.0, 2 * np.pi, waves)
    along_x = np.exp(1j * directions[:, :1] * grid.x)
    along_y = np.exp(1j * directions[:, 1:2] * grid.y)
    along_z = np.exp(1j * (directions[:, 2:] * grid.z + phases[:, None]))
    # A plane wave is a product of three 1-D waves, so the sum over waves is a matrix product.
    planes = np.einsum("wz,wy->zyw", along_z, along_y).reshape(-1, waves)
    return np.asarray((planes @ along_x).real.reshape(grid.shape) * np.sqrt(2.0 / waves))


def _shift(point: Point, by_mm: float) -> Point:
    return (point[0] + by_mm, point[1] + by_mm, point[2] + by_mm)
