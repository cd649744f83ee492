"""The whole head, in painting order."""

from __future__ import annotations

from collections.abc import Iterator

from sample_dicom.anatomy.brain import brain
from sample_dicom.anatomy.contours import contours
from sample_dicom.anatomy.face import orbits, sinuses, throat
from sample_dicom.anatomy.grid import Grid
from sample_dicom.anatomy.layers import Layer
from sample_dicom.anatomy.skull import jaw, neck, skull, soft_tissue


def head(grid: Grid) -> Iterator[Layer]:
    """Yield every layer of the head on a grid; later layers cover earlier ones."""
    surface = contours(grid)
    yield from soft_tissue(grid, surface)
    yield from jaw(grid)
    yield from throat(grid)
    yield from skull(grid, surface)
    yield from orbits(grid)
    yield from sinuses(grid)
    yield from neck(grid)
    yield from brain(grid, surface)
