"""Tissues, and the painting of one over another with soft edges (partial volume)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from sample_dicom.anatomy.grid import Box, FloatArray, Grid

WHOLE: Box = (slice(None), slice(None), slice(None))


class Tissue(Enum):
    """What a voxel is made of; each modality gives every tissue its own value."""

    AIR = auto()
    SKIN = auto()
    FAT = auto()
    MUSCLE = auto()
    MUCOSA = auto()
    CORTICAL_BONE = auto()
    MARROW = auto()
    TOOTH = auto()
    CSF = auto()
    GREY_MATTER = auto()
    WHITE_MATTER = auto()
    CEREBELLUM = auto()
    DURA = auto()
    VENOUS_BLOOD = auto()
    CALCIFICATION = auto()
    VITREOUS = auto()
    LENS = auto()
    OEDEMA = auto()
    LESION_RIM = auto()
    LESION_CORE = auto()
    HEADREST = auto()


@dataclass(frozen=True, slots=True)
class Layer:
    """One tissue over part of a grid; ``coverage`` has the box's shape and runs from 0 to 1."""

    tissue: Tissue
    box: Box
    coverage: FloatArray


def coverage(distance: FloatArray, edge_mm: float = 1.2) -> FloatArray:
    """Turn a signed distance in mm (negative inside) into 0..1 with an edge ``edge_mm`` wide."""
    share = np.multiply(distance, -1.0 / edge_mm)
    share += 0.5
    return np.clip(share, 0.0, 1.0, out=share)


def paint(grid: Grid, layers: Iterable[Layer], values: Mapping[Tissue, float]) -> FloatArray:
    """Paint layers in order over air.

    Returns
    -------
    float64 of shape (slices, rows, columns)
        In the units of ``values``: Hounsfield units for CT, signal for MR.
    """
    volume = np.full(grid.shape, values[Tissue.AIR], dtype=np.float64)
    for layer in layers:
        part = volume[layer.box]
        part += layer.coverage * (values[layer.tissue] - part)
    return volume
