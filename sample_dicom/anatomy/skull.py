"""Scalp, skull, jaw, teeth and upper neck."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sample_dicom.anatomy.contours import Contours
from sample_dicom.anatomy.grid import Grid
from sample_dicom.anatomy.layers import WHOLE, Layer, Tissue, coverage
from sample_dicom.anatomy.shapes import capsule, ellipsoid, mirrored, tube, wave_field

SIDES = (-1, 1)


def soft_tissue(grid: Grid, surface: Contours) -> Iterator[Layer]:
    """Yield skin, the fat under it, and muscle with its fat planes."""
    _, _, z = grid.axes()
    for side in SIDES:
        yield ellipsoid(grid, Tissue.SKIN, mirrored((73.5, 22.0, -4.0), side), (5.0, 13.0, 25.0))
    yield Layer(Tissue.SKIN, WHOLE, coverage(surface.skin))
    yield Layer(Tissue.FAT, WHOLE, coverage(surface.skin + 2.0))
    yield Layer(Tissue.MUSCLE, WHOLE, coverage(surface.skin + 6.5))
    # Read at abs(x), so that both sides are alike.
    symmetric = Grid(x=np.abs(grid.x), y=grid.y, z=grid.z)
    planes = np.abs(wave_field(symmetric, 30.0, seed=11)) * (30.0 / (2 * np.pi)) - 0.7
    yield Layer(Tissue.FAT, WHOLE, 0.65 * coverage(np.maximum(np.maximum(planes, surface.skin + 6.0), z - 25.0)))
    for side in SIDES:
        yield ellipsoid(grid, Tissue.FAT, mirrored((38.0, -50.0, -46.0), side), (9.0, 15.0, 15.0))
        yield ellipsoid(grid, Tissue.FAT, mirrored((27.0, -4.0, -44.0), side), (6.0, 12.0, 14.0))
        yield ellipsoid(grid, Tissue.MUSCLE, mirrored((56.0, -22.0, -48.0), side), (8.0, 18.0, 24.0))


def skull(grid: Grid, surface: Contours) -> Iterator[Layer]:
    """Yield the vault with its diploe, the petrous bones and the mastoids with their air cells."""
    _, _, z = grid.axes()
    yield Layer(Tissue.CORTICAL_BONE, WHOLE, coverage(surface.skull))
    ripple = 0.5 * wave_field(grid, 16.0, seed=12)
    diploe = np.maximum(surface.skull + 2.1, -surface.cavity + 1.9) - ripple * 0.5
    yield Layer(Tissue.MARROW, WHOLE, 0.9 * coverage(np.maximum(diploe, 8.0 - z)))
    for side in SIDES:
        yield ellipsoid(grid, Tissue.CORTICAL_BONE, mirrored((58.0, 34.0, -22.0), side), (12.0, 17.0, 20.0))
        yield capsule(
            grid,
            Tissue.CORTICAL_BONE,
            mirrored((14.0, 4.0, -12.0), side),
            mirrored((58.0, 26.0, -12.0), side),
            (6.5, 10.0),
        )
        yield _air_cells(grid, side)
        yield capsule(
            grid,
            Tissue.AIR,
            mirrored((80.0, 20.0, -14.0), side),
            mirrored((50.0, 16.0, -12.0), side),
            (3.0, 3.5),
        )
        # Inner ear: a denser capsule with fluid in it.
        yield ellipsoid(grid, Tissue.CSF, mirrored((34.0, 15.0, -10.0), side), (3.0, 2.5, 3.0))


def _air_cells(grid: Grid, side: int) -> Layer:
    centre, semi_axes = mirrored((57.0, 33.0, -20.0), side), (9.5, 14.0, 17.0)
    outline = ellipsoid(grid, Tissue.AIR, centre, semi_axes)
    walls = np.abs(wave_field(grid.crop(outline.box), 9.0, seed=13)) * (9.0 / (2 * np.pi)) - 0.5
    return Layer(Tissue.AIR, outline.box, outline.coverage * (1.0 - coverage(walls)))


def jaw(grid: Grid) -> Iterator[Layer]:
    """Yield cheek bones, palate, mandible and two rows of teeth."""
    for side in SIDES:
        yield from tube(
            grid,
            Tissue.CORTICAL_BONE,
            [
                (mirrored((29.0, -69.0, -20.0), side), 3.0),
                (mirrored((42.0, -60.0, -17.0), side), 4.8),
                (mirrored((56.0, -42.0, -14.0), side), 3.2),
                (mirrored((62.0, -18.0, -13.0), side), 2.6),
                (mirrored((61.0, 4.0, -13.0), side), 3.4),
            ],
        )
        ramus = [
            (mirrored((50.0, 2.0, -18.0), side), 5.5),
            (mirrored((50.0, -2.0, -34.0), side), 4.0),
            (mirrored((49.0, -10.0, -62.0), side), 5.5),
            (mirrored((46.0, -18.0, -84.0), side), 6.0),
            (mirrored((28.0, -62.0, -88.0), side), 7.0),
            (mirrored((0.0, -77.0, -88.0), side), 7.5),
        ]
        yield from tube(grid, Tissue.CORTICAL_BONE, ramus)
        yield from tube(grid, Tissue.MARROW, [(point, radius - 3.0) for point, radius in ramus[2:]])
    yield ellipsoid(grid, Tissue.CORTICAL_BONE, (0.0, -54.0, -40.0), (21.0, 27.0, 1.0))
    yield from _dental_arch(grid, alveolus_z=-44.0, tooth_z=-50.0)
    yield from _dental_arch(grid, alveolus_z=-76.0, tooth_z=-66.0)


def _dental_arch(grid: Grid, *, alveolus_z: float, tooth_z: float) -> Iterator[Layer]:
    xs = np.array([-26.5, -25.0, -22.0, -17.5, -12.2, -7.5, -2.6, 2.6, 7.5, 12.2, 17.5, 22.0, 25.0, 26.5])
    ys = np.array([-38.0, -48.0, -57.0, -64.5, -71.0, -74.5, -76.5])
    ys = np.concatenate([ys, ys[::-1]])
    sockets = [((float(x), float(y), alveolus_z), 5.4) for x, y in zip(xs, ys, strict=True)]
    yield from tube(grid, Tissue.CORTICAL_BONE, sockets)
    yield from tube(grid, Tissue.MARROW, [(point, 2.4) for point, _ in sockets])
    for x, y in zip(xs, ys, strict=True):
        breadth = 4.6 if abs(x) > 20 else 3.0
        yield ellipsoid(grid, Tissue.TOOTH, (float(x), float(y), tooth_z), (breadth, breadth, 9.0))
        yield ellipsoid(grid, Tissue.MUCOSA, (float(x), float(y), tooth_z), (0.9, 0.9, 6.0))


def neck(grid: Grid) -> Iterator[Layer]:
    """Yield the upper cervical spine and the canal, which the brain stem passes through."""
    for side in SIDES:
        yield ellipsoid(grid, Tissue.CORTICAL_BONE, mirrored((15.0, 22.0, -35.0), side), (7.0, 11.0, 6.0))
        yield ellipsoid(grid, Tissue.CORTICAL_BONE, mirrored((21.0, 26.0, -48.0), side), (10.0, 9.0, 7.5))
        yield ellipsoid(grid, Tissue.MARROW, mirrored((21.0, 26.0, -48.0), side), (7.0, 6.0, 5.0))
        yield from tube(
            grid,
            Tissue.CORTICAL_BONE,
            [
                (mirrored((24.0, 34.0, -50.0), side), 3.5),
                (mirrored((18.0, 50.0, -50.0), side), 3.2),
                (mirrored((0.0, 58.0, -50.0), side), 4.0),
            ],
        )
        yield capsule(
            grid,
            Tissue.CORTICAL_BONE,
            mirrored((16.0, 18.0, -48.0), side),
            (0.0, 12.0, -48.0),
            (4.0, 3.2),
        )
    yield capsule(grid, Tissue.CORTICAL_BONE, (0.0, 20.5, -40.0), (0.0, 23.0, -62.0), (4.6, 6.0))
    yield capsule(grid, Tissue.MARROW, (0.0, 20.5, -42.0), (0.0, 23.0, -62.0), (2.2, 3.4))
    for level in (-70.0, -90.0, -110.0):
        yield ellipsoid(grid, Tissue.CORTICAL_BONE, (0.0, 24.0, level), (13.0, 10.0, 8.0))
        yield ellipsoid(grid, Tissue.MARROW, (0.0, 24.0, level), (11.0, 8.0, 6.0))
        yield capsule(grid, Tissue.CORTICAL_BONE, (0.0, 56.0, level - 4), (0.0, 74.0, level - 10), (4.0, 3.5))
        for side in SIDES:
            end = mirrored((17.0, 44.0, level), side)
            yield capsule(grid, Tissue.CORTICAL_BONE, end, (0.0, 58.0, level - 4), (5.0, 3.5))
    yield capsule(grid, Tissue.CSF, (0.0, 38.0, -26.0), (0.0, 41.0, -60.0), (15.0, 11.0))
    yield capsule(grid, Tissue.CSF, (0.0, 41.0, -60.0), (0.0, 42.0, -140.0), (11.0, 9.0))
