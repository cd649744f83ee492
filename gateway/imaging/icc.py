"""ICC profiles: the instance's own one, and the colour spaces that a client may name."""

import io
import struct
from enum import Enum
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from gateway.imaging.errors import InvalidDescription

MAX_PROFILE_BYTES = 4 << 20
"""Longest ICC Profile (0028,2000) that is read."""


class IccProfile(Enum):
    """Values of the query parameter, PS3.18 8.3.5.1.5 "ICC Profile"."""

    NO = "no"
    YES = "yes"
    SRGB = "srgb"
    ADOBE_RGB = "adobergb"
    ROMM_RGB = "rommrgb"
    DISPLAY_P3 = "displayp3"


# Chromaticities of red, green, blue and white; then the tone curve of ICC.1:2022 10.18, function type 0 or 3.
_D65, _D50 = (0.3127, 0.3290), (0.3457, 0.3585)
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_SPACES = {
    IccProfile.ADOBE_RGB: (
        "Compatible with Adobe RGB (1998)",
        ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
        _D65,
        (563 / 256,),
    ),
    IccProfile.ROMM_RGB: (
        "ROMM RGB",
        ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),
        _D50,
        (1.8, 1.0, 0.0, 1 / 16, 16 * 0.001953),
    ),
    IccProfile.DISPLAY_P3: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), _D65, _SRGB_CURVE),
}
_PCS_WHITE = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def with_profile(picture: Image.Image, own: bytes | None, wanted: IccProfile) -> tuple[Image.Image, bytes | None]:
    """A colour picture in the space that was asked for, and the profile to put into its file.

    Parameters
    ----------
    picture
        Mode RGB; pictures without a profile are taken as sRGB.
    own
        The instance's profile.
    wanted
        NO gives the pixels as they are and no profile, YES the pixels as they are and their profile.

    Raises
    ------
    InvalidDescription
        The instance's profile is none that can be used for RGB.
    """
    if wanted is IccProfile.NO:
        return picture, None
    source = own if own is not None else profile(IccProfile.SRGB)
    if wanted is IccProfile.YES:
        return picture, source
    target = profile(wanted)
    if source == target:
        return picture, target
    try:
        converted = ImageCms.profileToProfile(picture, _opened(source), _opened(target), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise InvalidDescription("the instance's ICC profile is not usable for RGB pixels") from error
    assert converted is not None
    return converted, target


def _opened(data: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(data))


@cache
def profile(space: IccProfile) -> bytes:
    """The profile of a named space."""
    if space is IccProfile.SRGB:
        made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        made[24:36] = _DATE  # the library's clock: the same request has to give the same bytes
        return bytes(made)
    name, primaries, white, curve = _SPACES[space]
    return _matrix_profile(name, _colorants(primaries, white), curve)


_DATE = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)


def _xyz(chromaticity: tuple[float, float]) -> npt.NDArray[np.float64]:
    x, y = chromaticity
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _colorants(primaries: tuple[tuple[float, float], ...], white: tuple[float, float]) -> npt.NDArray[np.float64]:
    """XYZ of red, green and blue in columns, adapted to the D50 of the connection space by Bradford's matrix."""
    columns = np.stack([_xyz(each) for each in primaries], axis=1)
    scaled = columns * np.linalg.solve(columns, _xyz(white))
    ratio = (_BRADFORD @ _PCS_WHITE) / (_BRADFORD @ _xyz(white))
    adapted: npt.NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ np.diag(ratio) @ _BRADFORD @ scaled
    return adapted


def _matrix_profile(name: str, colorants: npt.NDArray[np.float64], curve: tuple[float, ...]) -> bytes:
    """A version 4 display profile of three colorants and one tone curve (ICC.1:2022 7, 8.3.3)."""
    tone = b"para" + struct.pack(">IHH", 0, 0 if len(curve) == 1 else 3, 0) + _fixed(*curve)
    tags = {
        b"desc": _text(name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_PCS_WHITE),
        **{
            key: b"XYZ \0\0\0\0" + _fixed(*colorants[:, place]) for place, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone),
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        table += key + struct.pack(">II", start + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    head += _DATE + b"acsp" + b"\0" * 28 + _fixed(*_PCS_WHITE) + b"\0" * 48
    return head + struct.pack(">I", len(tags)) + table + body


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def _text(value: str) -> bytes:
    encoded = value.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(encoded), 28) + encoded
