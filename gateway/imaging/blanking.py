"""Pixels made black where they may show who somebody is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from gateway.imaging.description import PhotometricInterpretation, PixelDescription
from gateway.imaging.native import Pixels

Rectangle: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 of stored pixels, counted from 0 at the top left; the ends are exclusive."""

_LUMINANCE = frozenset(
    (
        PhotometricInterpretation.YBR_FULL,
        PhotometricInterpretation.YBR_FULL_422,
        PhotometricInterpretation.YBR_PARTIAL_422,
    )
)


def blanked(
    pixels: Pixels, description: PixelDescription, blank: Sequence[Rectangle], keep: Sequence[Rectangle] | None
) -> Pixels:
    """The pixels of a frame, black in the rectangles ``blank`` and, unless ``keep`` is None, outside of its.

    Parameters
    ----------
    pixels
        (rows, columns, samples), before any rescale.
    """
    covered = np.full(pixels.shape[:2], keep is not None)
    for x0, y0, x1, y1 in keep or ():
        covered[y0:y1, x0:x1] = False
    for x0, y0, x1, y1 in blank:
        covered[y0:y1, x0:x1] = True
    found = pixels.copy()
    found[covered] = _black(description)
    return found


def _black(description: PixelDescription) -> np.ndarray:
    interpretation, bits = description.photometric_interpretation, description.bits_stored
    if interpretation in _LUMINANCE:
        middle = 1 << (bits - 1)
        return np.array([0, middle, middle])
    if description.samples_per_pixel > 1 or interpretation is PhotometricInterpretation.PALETTE_COLOR:
        return np.zeros(description.samples_per_pixel, dtype=np.int64)
    lowest = -(1 << (bits - 1)) if description.pixel_representation else 0
    inverted = interpretation is PhotometricInterpretation.MONOCHROME1
    return np.array([lowest + (1 << bits) - 1 if inverted else lowest])
