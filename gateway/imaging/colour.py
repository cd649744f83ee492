"""Conversions between full-range YCbCr and RGB."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from gateway.imaging.native import Pixels

_TO_YBR = np.array([[0.2990, 0.5870, 0.1140], [-0.1687, -0.3313, 0.5000], [0.5000, -0.4187, -0.0813]], dtype=np.float32)
_TO_RGB = np.linalg.inv(
    np.array([[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]])
).astype(np.float32)


def ybr_to_rgb(pixels: Pixels, bits: int) -> Pixels:
    """Convert YBR_FULL to RGB.

    Parameters
    ----------
    pixels
        (rows, columns, 3), uint8 or uint16, Y then CB then CR; CB and CR are centred on half the range.
    bits
        Bits Stored, 8 to 16.

    Returns
    -------
    numpy.ndarray
        (rows, columns, 3), same dtype, RGB in the same range.

    References
    ----------
    PS3.3 C.7.6.3.1.2 "Photometric Interpretation"
    """
    if bits == 8 and pixels.dtype == np.uint8:
        # Pillow's integer tables: 8 times faster than float arithmetic, within one grey level of it.
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels), "YCbCr").convert("RGB"))
    return _matrix(pixels, _TO_RGB, bits, (0.0, -1.0, -1.0), (0.0, 0.0, 0.0))


def rgb_to_ybr(pixels: Pixels, bits: int) -> Pixels:
    """Convert RGB to YBR_FULL; shapes and dtypes as in `ybr_to_rgb`."""
    return _matrix(pixels, _TO_YBR, bits, (0.0, 0.0, 0.0), (0.0, 1.0, 1.0))


def _matrix(
    pixels: Pixels,
    matrix: npt.NDArray[np.float32],
    bits: int,
    before: tuple[float, float, float],
    after: tuple[float, float, float],
) -> Pixels:
    half = np.float32(1 << (bits - 1))
    moved = pixels.astype(np.float32) + np.array(before, np.float32) * half
    converted = moved @ matrix.T + np.array(after, np.float32) * half
    return np.clip(np.rint(converted), 0, (1 << bits) - 1).astype(pixels.dtype)
