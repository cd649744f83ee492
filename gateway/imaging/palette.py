"""Look-up tables as an instance writes them: descriptors, 8 and 16 bit entries, segmented palettes."""

import struct
from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.imaging.attributes import BulkReader, JsonDataset, reals, text, words
from gateway.imaging.errors import InvalidDescription

MAX_ENTRIES = 65536
"""Entries of a table, PS3.3 C.11.1.1.1 "LUT Descriptor"."""

_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class LookupTable:
    """One LUT: ``entries`` are 16-bit little endian words, the first for ``first_value`` and below.

    References
    ----------
    PS3.3 C.11.1.1.1 "LUT Descriptor", C.7.6.3.1.5 "Palette Color Lookup Table Descriptor"
    """

    first_value: int
    bits: int
    entries: bytes
    explanation: str = ""

    def array(self) -> npt.NDArray[np.uint16]:
        """Return the entries, (n,), uint16, values 0 to 2**bits - 1."""
        return np.frombuffer(self.entries, "<u2")

    def apply(self, inputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Map inputs to entries; those outside take the first or the last entry."""
        table = self.array()
        index = np.clip(np.rint(inputs) - self.first_value, 0, len(table) - 1)
        outputs: npt.NDArray[np.float64] = table[np.nan_to_num(index).astype(np.int64)].astype(np.float64)
        return outputs

    def apply_fraction(self, fraction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Map 0 to 1 over the whole table, to 0 to 1."""
        last = len(self.entries) // 2 - 1
        return self.apply(fraction * last + self.first_value) / float((1 << self.bits) - 1)


@dataclass(frozen=True, slots=True)
class Palette:
    """The three tables of a PALETTE COLOR image, PS3.3 C.7.9 "Palette Color Lookup Table Module"."""

    red: LookupTable
    green: LookupTable
    blue: LookupTable

    def colours(self, stored: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """RGB of stored values: (n,) to (n, 3)."""
        return np.stack([_eight_bits(lut.apply(stored), lut) for lut in (self.red, self.green, self.blue)], axis=-1)

    def ramp(self) -> npt.NDArray[np.uint8]:
        """RGB of 256 equal steps through the tables, (256, 3)."""
        steps = np.arange(256) / 255.0
        luts = (self.red, self.green, self.blue)
        return np.stack([np.rint(lut.apply_fraction(steps) * 255.0).astype(np.uint8) for lut in luts], axis=-1)


def _eight_bits(entries: npt.NDArray[np.float64], lut: LookupTable) -> npt.NDArray[np.uint8]:
    return np.rint(entries * (255.0 / ((1 << lut.bits) - 1))).astype(np.uint8)


def read_palette(dataset: JsonDataset, signed: bool, bulk: BulkReader) -> Palette:
    """The palette of a data set, plain or segmented; raises InvalidDescription."""
    red, green, blue = (
        read_table(dataset, f"0028110{index}", f"0028120{index}", signed, bulk, segmented_tag=f"0028122{index}")
        for index in (1, 2, 3)
    )
    return Palette(red, green, blue)


def read_table(
    dataset: JsonDataset,
    descriptor_tag: str,
    data_tag: str,
    signed: bool,
    bulk: BulkReader,
    *,
    segmented_tag: str = "",
) -> LookupTable:
    """Read one table.

    Parameters
    ----------
    dataset
        Of the instance or of the sequence item that has the table.
    descriptor_tag, data_tag, segmented_tag
        Eight hexadecimal digits; the segmented data counts when it is there.
    signed
        Whether the first mapped value is two's complement.
    bulk
        Called for data behind a BulkDataURI.

    Raises
    ------
    InvalidDescription
        A descriptor or data that cannot be right.
    """
    descriptor = [int(number) for number in reals(dataset, descriptor_tag)]
    if len(descriptor) != 3:
        raise InvalidDescription("a LUT Descriptor does not have three values")
    count, first_value, bits = descriptor
    # 65536 entries are written as 0, and a big count may have been read as SS (PS3.3 C.11.1.1.1).
    count = (count & 0xFFFF) or MAX_ENTRIES
    if signed and first_value > 0x7FFF:
        first_value -= 0x10000
    if not 8 <= bits <= 16:
        raise InvalidDescription(f"a LUT has {bits} bits an entry")
    if segmented_tag in dataset:
        table = _expanded(words(dataset, segmented_tag, bulk, 4 * MAX_ENTRIES) or b"", bits, count)
    else:
        table = _entries(words(dataset, data_tag, bulk, 2 * MAX_ENTRIES) or b"", bits, count)
    if bits == 16 and count <= 256 and int(table.max()) <= 0xFF:
        # Known senders describe 16 bits and store 8: the picture would be almost black.
        bits = 8
    clipped = np.minimum(table, (1 << bits) - 1).astype("<u2")
    return LookupTable(first_value, bits, clipped.tobytes(), text(dataset, "00283003") or "")


def _entries(data: bytes, bits: int, count: int) -> npt.NDArray[np.uint16]:
    if len(data) >= 2 * count:
        return np.frombuffer(data, "<u2", count)
    if bits == 8 and len(data) >= count:
        return np.frombuffer(data, np.uint8, count).astype("<u2")
    raise InvalidDescription(f"a LUT of {count} entries has {len(data)} bytes")


def _expanded(data: bytes, bits: int, count: int) -> npt.NDArray[np.uint16]:
    """The entries that segments stand for; what passes ``count`` is never made.

    References
    ----------
    PS3.3 C.7.9.2 "Segmented Palette Color Lookup Table Data"
    """
    narrow = bits == 8 and not _are_segments(data)
    code = "<B" if narrow else "<H"
    size = struct.calcsize(code)
    numbers = [number for (number,) in struct.iter_unpack(code, data[: len(data) // size * size])]
    expansion = _Expansion(numbers, size, count)
    expansion.run(0, len(numbers))
    if len(expansion.entries) < count:
        raise InvalidDescription(f"a segmented LUT of {count} entries gives {len(expansion.entries)}")
    return np.frombuffer(expansion.entries.tobytes(), np.uint16, count)


def _are_segments(data: bytes) -> bool:
    """Whether 8-bit segments were written as 16-bit words: then every opcode is one of three and lengths fit."""
    numbers = [number for (number,) in struct.iter_unpack("<H", data[: len(data) // 2 * 2])]
    position = 0
    while position + 1 < len(numbers):
        if numbers[position] not in (_DISCRETE, _LINEAR, _INDIRECT):
            return False
        position += _length(numbers, position, 2)
    return position == len(numbers)


def _length(numbers: list[int], position: int, size: int) -> int:
    """Numbers in a segment; an offset of an indirect one is 4 bytes, in as many numbers as that needs."""
    opcode = numbers[position]
    return 2 + numbers[position + 1] if opcode == _DISCRETE else 3 if opcode == _LINEAR else 2 + 4 // size


class _Expansion:
    """Segments made into entries. Every segment gives at least one, so that no table can keep it busy."""

    def __init__(self, numbers: list[int], size: int, count: int) -> None:
        self._numbers = numbers
        self._size = size
        self._count = count
        self.entries = array("H")

    def run(self, position: int, end: int, *, nested: bool = False) -> None:
        while position + 1 < end and len(self.entries) < self._count:
            opcode, length = self._numbers[position], self._numbers[position + 1]
            following = position + _length(self._numbers, position, self._size)
            body = self._numbers[position + 2 : following]
            if opcode not in (_DISCRETE, _LINEAR, _INDIRECT) or following > len(self._numbers) or length == 0:
                raise InvalidDescription("a segmented LUT has a broken segment")
            wanted = min(length, self._count - len(self.entries))
            if opcode == _DISCRETE:
                self.entries.extend(body[:wanted])
            elif opcode == _LINEAR:
                self._ramp(length, wanted, body[0])
            else:
                self._copy(position, length, body, nested)
            position = following

    def _ramp(self, length: int, wanted: int, last: int) -> None:
        if not self.entries:
            raise InvalidDescription("a segmented LUT begins with a linear segment")
        ramp = np.rint(np.linspace(self.entries[-1], last, length + 1)[1 : wanted + 1]).astype(int)
        self.entries.extend(ramp.tolist())

    def _copy(self, position: int, segments: int, body: list[int], nested: bool) -> None:
        offset_bytes = sum(number << (8 * self._size * place) for place, number in enumerate(body))
        start = end = offset_bytes // self._size
        if nested or start >= position:
            raise InvalidDescription("a segmented LUT has an indirect segment to no earlier segment")
        for _ in range(segments):
            if end >= position:
                raise InvalidDescription("a segmented LUT has an indirect segment to no earlier segment")
            end += _length(self._numbers, end, self._size)
        self.run(start, end, nested=True)
