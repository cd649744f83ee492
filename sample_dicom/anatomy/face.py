"""Orbits, nose, paranasal sinuses and throat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sample_dicom.anatomy.grid import Grid
from sample_dicom.anatomy.layers import Layer, Tissue, coverage
from sample_dicom.anatomy.shapes import capsule, ellipsoid, ellipsoid_distance, mirrored, wave_field
from sample_dicom.anatomy.skull import SIDES


def orbits(grid: Grid) -> Iterator[Layer]:
    """Yield each orbit's bony wall, fat, eye muscles, optic nerve, globe and lens."""
    for side in SIDES:
        yield _orbital_wall(grid, side)
        yield ellipsoid(grid, Tissue.FAT, mirrored((28.0, -48.0, 1.0), side), (16.5, 27.0, 15.5))
        rectus = (((18.0, -60.0, 1.0), (13.0, -27.0, 2.0)), ((41.0, -58.0, 1.0), (21.0, -27.0, 2.0)))
        above = ((30.0, -58.0, 13.0), (18.0, -28.0, 7.0))
        below = ((30.0, -58.0, -11.0), (18.0, -28.0, -3.0))
        for start, end in (*rectus, above, below):
            yield capsule(grid, Tissue.MUSCLE, mirrored(start, side), mirrored(end, side), (1.7, 2.2))
        yield capsule(
            grid,
            Tissue.MUSCLE,
            mirrored((30.0, -52.0, 1.0), side),
            mirrored((12.0, -20.0, 3.0), side),
            (2.2, 2.0),
        )
        yield ellipsoid(grid, Tissue.MUCOSA, mirrored((31.0, -61.0, 1.0), side), (12.6, 12.6, 12.6))
        yield ellipsoid(grid, Tissue.VITREOUS, mirrored((31.0, -61.0, 1.0), side), (11.2, 11.2, 11.2))
        yield ellipsoid(grid, Tissue.LENS, mirrored((31.0, -69.5, 1.0), side), (4.8, 2.2, 4.8))


def _orbital_wall(grid: Grid, side: int) -> Layer:
    outline = ellipsoid(grid, Tissue.CORTICAL_BONE, mirrored((28.0, -46.0, 1.0), side), (18.5, 29.0, 18.0))
    _, y, _ = grid.crop(outline.box).axes()
    # The rim stops where the orbit opens to the front, further back on the outer side.
    return Layer(outline.tissue, outline.box, outline.coverage * coverage(-64.0 - y))


def sinuses(grid: Grid) -> Iterator[Layer]:
    """Yield the nasal cavity with septum and turbinates, and the air-filled sinuses."""
    bone, air, mucosa = Tissue.CORTICAL_BONE, Tissue.AIR, Tissue.MUCOSA
    yield ellipsoid(grid, bone, (0.0, -74.0, 26.0), (24.0, 9.0, 13.0))
    yield ellipsoid(grid, bone, (0.0, -17.0, -12.0), (19.0, 17.0, 12.0))
    yield capsule(grid, bone, (0.0, 2.0, -10.0), (0.0, 16.0, -30.0), (8.0, 6.0))
    for side in SIDES:
        yield ellipsoid(grid, air, mirrored((9.5, -75.5, 26.0), side), (7.5, 4.6, 9.0))
        yield ellipsoid(grid, air, mirrored((7.8, -19.0, -11.0), side), (7.0, 11.5, 8.0))
        yield ellipsoid(grid, bone, mirrored((29.0, -50.0, -29.0), side), (16.0, 19.0, 14.5))
        yield ellipsoid(grid, mucosa, mirrored((29.0, -50.0, -29.0), side), (14.6, 17.6, 13.1))
        yield ellipsoid(grid, air, mirrored((29.0, -50.2, -29.0), side), (13.8, 16.8, 12.3))
        yield capsule(
            grid, bone, mirrored((14.0, -26.0, -26.0), side), mirrored((17.0, -22.0, -44.0), side), (2.6, 2.6)
        )
    # A retention cyst on the floor of the right maxillary sinus.
    yield ellipsoid(grid, mucosa, (-30.0, -46.0, -35.0), (9.0, 10.0, 9.0))
    yield _ethmoid_cells(grid)
    yield ellipsoid(grid, bone, (0.0, -58.0, -24.0), (14.5, 29.0, 17.0))
    yield ellipsoid(grid, mucosa, (0.0, -58.0, -24.0), (13.4, 30.0, 16.0))
    yield ellipsoid(grid, air, (0.0, -60.0, -24.0), (12.0, 32.0, 15.0))
    for side in SIDES:
        for height, outward in ((-32.0, 7.6), (-22.0, 7.4), (-13.0, 6.6)):
            yield ellipsoid(grid, mucosa, mirrored((outward, -56.0, height), side), (3.6, 20.0, 4.0))
            yield ellipsoid(grid, bone, mirrored((outward, -56.0, height), side), (0.8, 15.0, 1.6))
        yield ellipsoid(grid, air, mirrored((5.0, -92.0, -36.0), side), (3.6, 8.0, 6.0))
    yield ellipsoid(grid, mucosa, (0.6, -60.0, -24.0), (1.8, 32.0, 17.0))
    yield ellipsoid(grid, bone, (0.6, -52.0, -24.0), (0.9, 22.0, 16.0))
    yield capsule(grid, bone, (0.0, -76.0, 2.0), (0.0, -86.0, -12.0), (2.6, 1.8))


def _ethmoid_cells(grid: Grid) -> Layer:
    centre, semi_axes = (0.0, -46.0, 1.0), (11.5, 26.0, 10.5)
    box = grid.box((-14.0, -74.0, -12.0), (14.0, -18.0, 13.0))
    part = grid.crop(box)
    x, _, _ = part.axes()
    walls = np.abs(wave_field(part, 14.0, seed=21)) * (14.0 / (2 * np.pi)) - 0.55
    walls = np.minimum(walls, np.abs(x) - 0.8)
    outline = coverage(ellipsoid_distance(part, centre, semi_axes))
    return Layer(Tissue.AIR, box, outline * (1.0 - 0.8 * coverage(walls)))


def throat(grid: Grid) -> Iterator[Layer]:
    """Yield tongue, soft palate and the airway behind them."""
    yield ellipsoid(grid, Tissue.MUSCLE, (0.0, -40.0, -62.0), (21.0, 30.0, 17.0))
    yield ellipsoid(grid, Tissue.AIR, (0.0, -40.0, -45.5), (17.0, 24.0, 2.6))
    yield ellipsoid(grid, Tissue.AIR, (0.0, -14.0, -30.0), (13.0, 8.0, 9.0))
    yield capsule(grid, Tissue.AIR, (0.0, -12.0, -32.0), (0.0, -2.0, -62.0), (8.0, 7.0))
    yield capsule(grid, Tissue.AIR, (0.0, -2.0, -62.0), (0.0, 2.0, -140.0), (7.0, 7.5))
    yield ellipsoid(grid, Tissue.MUSCLE, (0.0, -15.0, -45.0), (9.0, 6.0, 10.0))
