"""Brain, ventricles and the lesion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sample_dicom.anatomy.contours import Contours
from sample_dicom.anatomy.grid import FloatArray, Grid, Point
from sample_dicom.anatomy.layers import WHOLE, Layer, Tissue, coverage
from sample_dicom.anatomy.shapes import (
    capsule,
    ellipsoid,
    ellipsoid_distance,
    mirrored,
    tube,
    wave_field,
)
from sample_dicom.anatomy.skull import SIDES

LESION_CENTRE: Point = (32.0, 24.0, 44.0)
_LESION_SEMI_AXES: Point = (12.5, 14.5, 12.0)
_SUBARACHNOID_MM = 2.2
_CORTEX_MM = 3.1
_GYRUS_WAVELENGTH_MM = 25.0


def brain(grid: Grid, surface: Contours) -> Iterator[Layer]:
    """Yield CSF, cortex, white matter, deep nuclei, ventricles, posterior fossa and lesion."""
    box = grid.box((-72.0, -82.0, -42.0), (72.0, 98.0, 92.0))
    part, cavity = grid.crop(box), surface.cavity[box]
    yield Layer(Tissue.DURA, WHOLE, coverage(surface.cavity))
    yield Layer(Tissue.CSF, box, coverage(cavity + 0.8))
    folded = _folded_depth(part, cavity)
    yield Layer(Tissue.GREY_MATTER, box, coverage(-folded))
    white = coverage(_CORTEX_MM - folded, 1.6)
    yield Layer(Tissue.WHITE_MATTER, box, white)
    yield Layer(Tissue.OEDEMA, box, white * coverage(_oedema_distance(part), 5.0) * 0.9)
    yield _falx(part, cavity, box)
    yield from _deep_nuclei(grid)
    yield from _ventricles(grid)
    yield from _posterior_fossa(grid, part, cavity, box)
    yield _venous_sinus(part, cavity, box)
    yield from _lesion(grid)


def lesion_coverage(grid: Grid) -> FloatArray:
    """Return how much of each voxel is lesion, 0 to 1, shape (slices, rows, columns)."""
    return coverage(_lesion_distance(grid))


def _folded_depth(grid: Grid, cavity: FloatArray) -> FloatArray:
    """Depth in mm below the folded surface of the hemispheres; negative in fissures and sulci."""
    x, y, z = grid.axes()
    depth = -cavity - _SUBARACHNOID_MM
    # Between the hemispheres, except across the corpus callosum and below.
    core = np.sqrt(((y - 6.0) / 42.0) ** 2 + ((z - 10.0) / 30.0) ** 2)
    across = 40.0 * np.clip(1.0 - core, 0.0, None)
    depth = np.minimum(depth, np.abs(x) - 1.0 + across)
    # The Sylvian fissure, from the temple up and back; the insula is its floor.
    wander = 4.0 * wave_field(grid, 42.0, seed=30)
    sheet = np.abs(y + 22.0 - 1.15 * (z - 4.0) + wander) / 1.52 - 1.2 - 0.06 * np.clip(np.abs(x) - 40.0, 0.0, None)
    ends = np.clip(38.0 - np.abs(x), 0.0, None) + np.clip(np.abs(z - 14.0) - 20.0, 0.0, None)
    depth = np.minimum(depth, sheet + ends)
    field = wave_field(grid, _GYRUS_WAVELENGTH_MM, seed=31)
    field += 0.35 * wave_field(grid, 13.0, seed=32)
    sulci = np.abs(field) * (_GYRUS_WAVELENGTH_MM / (2 * np.pi)) - 0.55
    sulci += np.clip(depth - 11.0, 0.0, None) * 1.1
    return np.asarray(np.minimum(depth, sulci))


def _falx(grid: Grid, cavity: FloatArray, box: tuple[slice, slice, slice]) -> Layer:
    x, y, z = grid.axes()
    core = np.sqrt(((y - 6.0) / 60.0) ** 2 + ((z - 10.0) / 34.0) ** 2)
    sheet = np.maximum(np.abs(x) - 0.7, cavity)
    sheet = np.maximum(sheet, (1.0 - core) * 40.0)
    return Layer(Tissue.DURA, box, coverage(np.maximum(sheet, 8.0 - z)))


def _venous_sinus(grid: Grid, cavity: FloatArray, box: tuple[slice, slice, slice]) -> Layer:
    """Superior sagittal sinus: a triangle under the vault, at the midline."""
    x, y, z = grid.axes()
    triangle = np.maximum(np.abs(x) - 4.5 - (cavity + 1.0) * 0.6, np.maximum(cavity + 0.8, -cavity - 7.0))
    return Layer(Tissue.VENOUS_BLOOD, box, coverage(np.maximum(triangle, np.maximum(4.0 - z, -20.0 - y))))


def _deep_nuclei(grid: Grid) -> Iterator[Layer]:
    grey = Tissue.GREY_MATTER
    for side in SIDES:
        yield ellipsoid(grid, grey, mirrored((10.5, 10.0, 15.0), side), (8.0, 13.0, 9.5))
        yield ellipsoid(grid, grey, mirrored((12.5, -19.0, 22.0), side), (5.0, 9.0, 9.0))
        yield capsule(grid, grey, mirrored((22.0, -16.0, 13.0), side), mirrored((27.0, 6.0, 13.0), side), (6.0, 3.5))
        yield capsule(grid, grey, mirrored((36.0, -18.0, 12.0), side), mirrored((38.0, 10.0, 16.0), side), (1.6, 1.6))


def _ventricles(grid: Grid) -> Iterator[Layer]:
    csf = Tissue.CSF
    for side in SIDES:
        # The lesion presses on the left ventricle.
        size = 0.72 if side == 1 else 1.0
        yield from tube(
            grid,
            csf,
            [
                (mirrored((8.5, -32.0, 21.0), side), 4.2 * size),
                (mirrored((7.5, -16.0, 26.0), side), 4.6 * size),
                (mirrored((9.0, 6.0, 31.0), side), 5.0 * size),
                (mirrored((14.0, 26.0, 29.0), side), 5.6 * size),
                (mirrored((24.0, 42.0, 21.0), side), 7.0 * size),
                (mirrored((24.0, 60.0, 17.0), side), 3.0 * size),
            ],
        )
        yield from tube(
            grid,
            csf,
            [
                (mirrored((25.0, 40.0, 18.0), side), 5.0 * size),
                (mirrored((33.0, 26.0, 4.0), side), 3.2),
                (mirrored((32.0, 2.0, -4.0), side), 2.4),
            ],
        )
        yield ellipsoid(grid, Tissue.CALCIFICATION, mirrored((22.5, 40.0, 21.0), side), (2.2, 3.4, 3.0))
    yield ellipsoid(grid, csf, (0.0, 4.0, 12.0), (2.3, 15.0, 11.0))
    yield ellipsoid(grid, Tissue.CALCIFICATION, (0.0, 24.0, 15.0), (2.0, 2.2, 2.4))


def _posterior_fossa(grid: Grid, part: Grid, cavity: FloatArray, box: tuple[slice, slice, slice]) -> Iterator[Layer]:
    x, y, z = part.axes()
    # Under the tentorium, a tent over the cerebellum that falls away to the sides and to the back.
    roof = 13.0 - 0.0095 * x**2 - 0.24 * np.clip(y - 30.0, 0.0, None)
    below = np.maximum(z - roof, 22.0 - y + 0.009 * x**2)
    fossa = np.maximum(cavity + 0.8, below)
    yield Layer(Tissue.DURA, box, coverage(np.maximum(cavity, below - 1.2)))
    yield Layer(Tissue.CSF, box, coverage(fossa))
    lobes = fossa + 1.4
    lobes = np.maximum(lobes, 3.0 - np.sqrt((x / 1.6) ** 2 + (np.clip(76.0 - y, 0.0, None) / 5.0) ** 2))
    yield Layer(Tissue.CEREBELLUM, box, coverage(lobes))
    folia = np.abs(wave_field(part, 11.0, seed=33)) * (11.0 / (2 * np.pi)) - 0.6
    yield Layer(Tissue.WHITE_MATTER, box, 0.75 * coverage(np.maximum(lobes + 3.0, -folia + 0.3)))
    for side in SIDES:
        yield ellipsoid(grid, Tissue.WHITE_MATTER, mirrored((20.0, 48.0, -16.0), side), (11.0, 10.0, 6.0))
    stem = [
        ((0.0, 10.0, 4.0), 13.0),
        ((0.0, 14.0, -8.0), 13.5),
        ((0.0, 18.0, -18.0), 13.0),
        ((0.0, 28.0, -32.0), 8.5),
        ((0.0, 39.0, -58.0), 6.0),
        ((0.0, 42.0, -140.0), 5.0),
    ]
    yield from tube(grid, Tissue.CSF, [(point, radius + 3.0) for point, radius in stem[1:4]])
    yield ellipsoid(grid, Tissue.CSF, (0.0, -9.0, 1.0), (13.0, 9.0, 6.5))
    yield from tube(grid, Tissue.WHITE_MATTER, stem)
    yield ellipsoid(grid, Tissue.GREY_MATTER, (0.0, -10.0, 2.0), (4.0, 2.0, 3.0))
    yield ellipsoid(grid, Tissue.CSF, (0.0, 33.0, -16.0), (7.0, 4.6, 9.0))
    yield ellipsoid(grid, Tissue.CSF, (0.0, 25.0, 6.0), (10.0, 3.4, 4.0))
    yield ellipsoid(grid, Tissue.VENOUS_BLOOD, (0.0, -2.0, -8.0), (2.2, 2.2, 9.0))


def _oedema_distance(grid: Grid) -> FloatArray:
    centre = (LESION_CENTRE[0] + 2.0, LESION_CENTRE[1] + 5.0, LESION_CENTRE[2])
    return ellipsoid_distance(grid, centre, (24.0, 31.0, 22.0)) + 5.0 * wave_field(grid, 30.0, seed=34)


def _lesion_distance(grid: Grid) -> FloatArray:
    return ellipsoid_distance(grid, LESION_CENTRE, _LESION_SEMI_AXES) + 1.1 * wave_field(grid, 17.0, seed=35)


def _lesion(grid: Grid) -> Iterator[Layer]:
    reach = 22.0
    low = (LESION_CENTRE[0] - reach, LESION_CENTRE[1] - reach, LESION_CENTRE[2] - reach)
    high = (LESION_CENTRE[0] + reach, LESION_CENTRE[1] + reach, LESION_CENTRE[2] + reach)
    box = grid.box(low, high)
    part = grid.crop(box)
    distance = _lesion_distance(part)
    yield Layer(Tissue.LESION_RIM, box, coverage(distance))
    yield Layer(Tissue.LESION_CORE, box, coverage(distance + 3.6 + 0.9 * wave_field(part, 9.0, seed=36), 2.0))
