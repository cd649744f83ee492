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


def partial_ybr_to_rgb(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert YBR_PARTIAL_422, chroma expanded: Y from 16 to 235, CB and CR from 16 to 240, 8 bits.

    References
    ----------
    PS3.3 C.7.6.3.1.2 "Photometric Interpretation", as last defined in the edition of 2017
    """
    full = (pixels.astype(np.float32) - (16, 128, 128)) * (255 / 219, 255 / 224, 255 / 224) + (0, 128, 128)
    return np.asarray(ybr_to_rgb(np.clip(np.rint(full), 0, 255).astype(np.uint8), 8))


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


def cielab_to_rgb(lab: tuple[float, float, float]) -> tuple[int, int, int]:
    """Convert a PCS value of 16 bits a component to sRGB of 8 bits.

    References
    ----------
    PS3.3 C.10.7.1.1 "Encoding of CIELab Values"
    """
    lightness, a, b = lab[0] * 100 / 65535, lab[1] * 255 / 65535 - 128, lab[2] * 255 / 65535 - 128
    middle = (lightness + 16) / 116
    xyz = np.array([_unlab(middle + a / 500) * 0.9642, _unlab(middle), _unlab(middle - b / 200) * 0.8249])
    linear = np.clip(_D50_TO_SRGB @ xyz, 0.0, 1.0)
    coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(component) for component in np.rint(coded * 255))
    return red, green, blue


def _unlab(value: float) -> float:
    return float(value**3) if value > 6 / 29 else 3 * (6 / 29) ** 2 * (value - 4 / 29)


_D50_TO_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)
