"""Where each frame lies in the stored bytes, found without decoding (PS3.5 8.2, A.4)."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from storage.dicom.json_model import JsonDataSet, number_of, text_of
from storage.errors import FramesNotLocatable

CHUNK_FRAMES = 4096
"""Frames in one chunk of an encapsulated frame table."""

_FRAGMENT = struct.Struct("<QI")
_COUNT = struct.Struct("<I")

# First bytes of a codestream: JPEG and JPEG-LS SOI + marker, JPEG 2000 SOC + SIZ, JP2 signature box.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP")


class FrameKind(StrEnum):
    """How a frame is reached."""

    NONE = "none"  # no pixel data
    NATIVE = "native"  # offset and stride
    ENCAPSULATED = "encapsulated"  # fragments of the frame
    DECODE = "decode"  # not a byte range of the object: see the table's ``reason``


@dataclass(frozen=True, slots=True)
class FrameTable:
    """What one row keeps about an instance's frames; offsets count from the start of the data set.

    For NATIVE, frame ``n`` (from 1) is ``stride`` bytes at ``offset + (n - 1) * stride``. For DECODE the same two
    describe the (inflated) value, ``stride_bits`` being the exact size of a frame. For ENCAPSULATED the ranges are
    in the chunks.
    """

    kind: FrameKind
    count: int = 0
    offset: int = 0
    length: int = 0
    stride_bits: int = 0
    reason: str = ""

    @property
    def stride(self) -> int:
        """Bytes of one native frame."""
        return self.stride_bits // 8


@dataclass(frozen=True, slots=True)
class Fragments:
    """The byte ranges of one encapsulated frame's fragments, item headers left out, in order."""

    ranges: tuple[tuple[int, int], ...]

    @property
    def start(self) -> int:
        """First byte of the first fragment."""
        return self.ranges[0][0]

    @property
    def end(self) -> int:
        """Byte after the last fragment."""
        return self.ranges[-1][0] + self.ranges[-1][1]


class FragmentRecorder:
    """Collects the fragments of one encapsulated Pixel Data as packed arrays (16 bytes a fragment)."""

    def __init__(self) -> None:
        self.basic_offset_table = b""
        self.offsets = array("Q")
        self.lengths = array("I")
        self.starts = bytearray()

    def add(self, offset: int, length: int, beginning: bytes) -> None:
        """One fragment: where its value lies, and its first bytes."""
        self.offsets.append(offset)
        self.lengths.append(length)
        self.starts.append(beginning.startswith(_STARTS))


def native_table(data_set: JsonDataSet, offset: int, length: int, *, addressable: str) -> FrameTable:
    """The table of native pixel data; ``addressable`` is "" or why a range does not serve."""
    stride_bits = frame_bits(data_set)
    declared = max(1, number_of(data_set, "00280008", 1))
    if stride_bits <= 0:
        return FrameTable(FrameKind.DECODE, 0, offset, length, 0, "the image's dimensions are missing")
    count = min(declared, length * 8 // stride_bits)
    if not addressable and count > 1 and stride_bits % 8:
        addressable = "frames do not end on a byte"
    kind = FrameKind.DECODE if addressable else FrameKind.NATIVE
    if not addressable and stride_bits % 8:
        stride_bits = (stride_bits + 7) // 8 * 8
    return FrameTable(kind, count, offset, length, stride_bits, addressable)


def frame_bits(data_set: JsonDataSet) -> int:
    """Bits of one native frame (PS3.5 8.2.1); 0 when its description is missing."""
    pixels = number_of(data_set, "00280010", 0) * number_of(data_set, "00280011", 0)
    samples = number_of(data_set, "00280002", 1)
    if text_of(data_set, "00280004") in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        samples = 2
    return pixels * samples * number_of(data_set, "00280100", 0)


def first_fragments(
    recorder: FragmentRecorder, declared: int, extended: tuple[Sequence[int], Sequence[int]] | None
) -> array[int]:
    """Number of the first fragment of each frame.

    Tried in order: Extended Offset Table, Basic Offset Table, one fragment a frame, one frame, the starts of
    codestreams.

    Raises
    ------
    FramesNotLocatable
        None of these gives as many frames as the instance declares.

    References
    ----------
    PS3.5 A.4 "Transfer Syntaxes for Encapsulation of Encoded Pixel Data"
    """
    total = len(recorder.offsets)
    if total == 0:
        raise FramesNotLocatable("the pixel data has no fragment")
    origin = recorder.offsets[0] - 8
    if extended is not None and len(extended[0]) == declared:
        return _by_offsets(recorder, [origin + offset for offset in extended[0]])
    basic = recorder.basic_offset_table
    if len(basic) == declared * 4 and declared > 1:
        try:
            return _by_offsets(recorder, [origin + offset for (offset,) in struct.iter_unpack("<I", basic)])
        except FramesNotLocatable:
            pass  # some senders write tables that do not fit the fragments; the fragments themselves may do
    if total == declared:
        return array("I", range(total))
    if declared == 1:
        return array("I", [0])
    starts = array("I", [number for number, start in enumerate(recorder.starts) if start])
    if len(starts) == declared and starts[0] == 0:
        return starts
    raise FramesNotLocatable(f"{total} fragments for {declared} frames, and no usable offset table")


def _by_offsets(recorder: FragmentRecorder, wanted: Sequence[int]) -> array[int]:
    first = array("I")
    number = 0
    for offset in wanted:
        while number < len(recorder.offsets) and recorder.offsets[number] - 8 < offset:
            number += 1
        if number == len(recorder.offsets) or recorder.offsets[number] - 8 != offset:
            raise FramesNotLocatable("the offset table does not point at fragments")
        first.append(number)
    if first and first[0] != 0:
        raise FramesNotLocatable("the offset table does not begin at the first fragment")
    return first


def pack_chunks(recorder: FragmentRecorder, first: Sequence[int]) -> Iterator[bytes]:
    """The frames' fragment ranges in chunks of ``CHUNK_FRAMES`` frames, little endian.

    A chunk is its number of frames n, then n + 1 indices into its fragments, then the fragments as (offset,
    length) pairs of 8 and 4 bytes.
    """
    for chunk in range(0, len(first), CHUNK_FRAMES):
        here = first[chunk : chunk + CHUNK_FRAMES]
        last = first[chunk + CHUNK_FRAMES] if chunk + CHUNK_FRAMES < len(first) else len(recorder.offsets)
        indices = array("I", [number - here[0] for number in here] + [last - here[0]])
        if sys.byteorder == "big":
            indices.byteswap()
        ranges = zip(recorder.offsets[here[0] : last], recorder.lengths[here[0] : last], strict=True)
        yield _COUNT.pack(len(here)) + indices.tobytes() + b"".join(_FRAGMENT.pack(*pair) for pair in ranges)


def unpack_frame(chunk: bytes, frame: int) -> Fragments:
    """The fragments of a frame from its chunk; ``frame`` counts from 1 over the whole instance."""
    (count,) = _COUNT.unpack_from(chunk, 0)
    place = (frame - 1) % CHUNK_FRAMES
    begin, end = struct.unpack_from("<II", chunk, 4 + place * 4)
    base = 4 + (count + 1) * 4
    return Fragments(
        tuple(_FRAGMENT.unpack_from(chunk, base + number * _FRAGMENT.size) for number in range(begin, end))
    )
