"""Overlay planes: drawings of one bit a pixel that lie over an image."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gateway.imaging.attributes import BulkReader, JsonDataset, integer, reals, text, words
from gateway.imaging.description import FloatKind, PixelDescription
from gateway.imaging.errors import InvalidDescription
from gateway.imaging.native import Pixels

MAX_SIDE = 65535
MAX_PLANE_BYTES = 32 << 20
"""Bytes of one plane of one frame; an overlay of 16384 x 16384 pixels."""

GROUPS = tuple(range(0x6000, 0x6020, 2))
"""Repeating groups of the Overlay Plane Module, PS3.5 7.6 "Repeating Groups"."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay plane of one frame.

    ``row`` and ``column`` are where its first pixel lies in the image, 1 being the image's first. ``bits`` holds
    ``rows * columns`` bits from ``bit_offset`` in its first byte, lowest bit first; None when the plane is bit
    ``bit_position`` of the image's own pixels.

    References
    ----------
    PS3.3 C.9.2 "Overlay Plane Module"
    """

    group: int
    rows: int
    columns: int
    row: int = 1
    column: int = 1
    bits: bytes | None = None
    bit_offset: int = 0
    bit_position: int = 0

    def mask(self, pixels: Pixels) -> npt.NDArray[np.bool_]:
        """Where the plane is set over an image: (rows, columns) of ``pixels``, which has (rows, columns, samples)."""
        rows, columns = pixels.shape[:2]
        if self.bits is None:
            plane = pixels[:, :, 0].view(np.dtype(f"<u{pixels.dtype.itemsize}"))
            mask: npt.NDArray[np.bool_] = (plane >> plane.dtype.type(self.bit_position)) & plane.dtype.type(1) == 1
            return mask
        return self.over(rows, columns)

    def over(self, rows: int, columns: int) -> npt.NDArray[np.bool_]:
        """A plane of its own data, cut to an image's size."""
        assert self.bits is not None
        count = self.rows * self.columns
        unpacked = np.unpackbits(np.frombuffer(self.bits, np.uint8), bitorder="little")
        plane = unpacked[self.bit_offset : self.bit_offset + count].reshape(self.rows, self.columns)
        covered = np.zeros((rows, columns), np.bool_)
        top, left = self.row - 1, self.column - 1
        bottom, right = min(top + self.rows, rows), min(left + self.columns, columns)
        if max(top, 0) < bottom and max(left, 0) < right:
            part = plane[max(-top, 0) : bottom - top, max(-left, 0) : right - left]
            covered[max(top, 0) : bottom, max(left, 0) : right] = part == 1
        return covered


def read_overlays(
    dataset: JsonDataset, frame_number: int, bulk: BulkReader, description: PixelDescription | None
) -> tuple[Overlay, ...]:
    """The overlay planes over a frame, in the order of their groups.

    Parameters
    ----------
    dataset
        An image, or a presentation state that has overlays of its own.
    frame_number
        From 1.
    bulk
        Reads the one frame's plane of Overlay Data.
    description
        Of the image, for planes in unused bits of its pixels; None leaves those out.

    Raises
    ------
    InvalidDescription
        A plane with impossible dimensions, or with less data than they need.
    """
    found = []
    for group in GROUPS:
        prefix = f"{group:04X}"
        if f"{prefix}0010" not in dataset or f"{prefix}0011" not in dataset:
            continue
        overlay = _read(dataset, group, frame_number, bulk, description)
        if overlay is not None:
            found.append(overlay)
    return tuple(found)


def _read(
    dataset: JsonDataset, group: int, frame_number: int, bulk: BulkReader, description: PixelDescription | None
) -> Overlay | None:
    prefix = f"{group:04X}"
    rows, columns = integer(dataset, f"{prefix}0010") or 0, integer(dataset, f"{prefix}0011") or 0
    if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE) or rows * columns > MAX_PLANE_BYTES * 8:
        raise InvalidDescription(f"an overlay has {rows} rows and {columns} columns")
    origin = [int(number) for number in reals(dataset, f"{prefix}0050")][:2]
    row, column = origin if len(origin) == 2 else (1, 1)
    overlay = Overlay(group, rows, columns, row, column)
    # Data counts before a bit position: many senders leave the wrong position beside their data.
    if f"{prefix}3000" not in dataset:
        return _embedded(dataset, overlay, description)
    frames = integer(dataset, f"{prefix}0015") or 1
    first = integer(dataset, f"{prefix}0051") or 1
    # One frame of overlay lies over every frame of the image; several begin at the image frame that is named.
    place = frame_number - first if frames > 1 else 0
    if not 0 <= place < frames:
        return None
    first_byte, bit_offset = divmod(place * rows * columns, 8)
    length = (bit_offset + rows * columns + 7) // 8
    bits = words(dataset, f"{prefix}3000", bulk, length, first_byte) or b""
    if len(bits) < length:
        raise InvalidDescription(f"an overlay of {rows * columns} pixels has {len(bits)} bytes")
    return replace(overlay, bits=bits, bit_offset=bit_offset)


def _embedded(dataset: JsonDataset, overlay: Overlay, description: PixelDescription | None) -> Overlay | None:
    position = integer(dataset, f"{overlay.group:04X}0102") or 0
    if description is None or description.float_kind is not FloatKind.NONE or description.samples_per_pixel != 1:
        return None
    used = range(description.high_bit + 1 - description.bits_stored, description.high_bit + 1)
    if not 0 <= position < description.bits_allocated or position in used or description.bits_allocated == 1:
        return None
    return replace(overlay, rows=description.rows, columns=description.columns, row=1, column=1, bit_position=position)


def activation_layer(dataset: JsonDataset, group: int) -> str | None:
    """The layer in which a presentation state shows the overlay of a group; None when it does not."""
    return text(dataset, f"{group:04X}1001") or None
