"""Sampling grids in the patient coordinate system (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Grid:
    """Voxel centres on three axes, in mm: x to the left, y to the back, z to the head.

    Volumes sampled on a grid have shape ``(slices, rows, columns)``, that is ``(z, y, x)``.
    """

    x: FloatArray
    y: FloatArray
    z: FloatArray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return (self.z.size, self.y.size, self.x.size)

    def axes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return x, y and z shaped so that they broadcast to a volume."""
        return self.x[None, None, :], self.y[None, :, None], self.z[:, None, None]

    def box(self, low: Point, high: Point) -> Box:
        """Return the index box that holds every voxel centre between two corners, in mm."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        return (_span(self.z, z0, z1), _span(self.y, y0, y1), _span(self.x, x0, x1))

    def crop(self, box: Box) -> Grid:
        """Return the part of the grid inside an index box."""
        return Grid(x=self.x[box[2]], y=self.y[box[1]], z=self.z[box[0]])


def _span(axis: FloatArray, low: float, high: float) -> slice:
    inside = np.flatnonzero((axis >= low) & (axis <= high))
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)


def axial_grid(
    *, columns: int, rows: int, pixel_spacing_mm: float, first_z_mm: float, slices: int, z_step_mm: float
) -> Grid:
    """Build an axial grid centred on x = y = 0, its slices counted from the feet upwards."""
    return Grid(
        x=(np.arange(columns, dtype=np.float64) - (columns - 1) / 2) * pixel_spacing_mm,
        y=(np.arange(rows, dtype=np.float64) - (rows - 1) / 2) * pixel_spacing_mm,
        z=first_z_mm + np.arange(slices, dtype=np.float64) * z_step_mm,
    )
