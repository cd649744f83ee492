"""Frames of a stored instance: as stored where a byte range gives them, the decoding way where none does."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from gateway.errors import InvalidParameter, NotAcceptable, NotFound
from gateway.imaging.decode import SUPPORTED_TRANSFER_SYNTAXES, EncodedFrame, decoded_description
from gateway.imaging.description import PixelDescription
from gateway.imaging.encode import HTJ2K_LOSSLESS, encoded_description
from gateway.imaging.errors import ImagingError
from gateway.imaging.pool import ImagingPool
from gateway.services.ahead import ReadAhead
from gateway.services.content import Content, cut
from storage.archive import InstanceReader
from storage.dicom import file_meta, json_model
from storage.dicom import identifiers as ids
from storage.dicom.frames import Fragments, FrameKind
from storage.dicom.json_model import JsonDataSet
from storage.index.stored import Layout, Located

MAX_FRAMES = 100_000
"""Frame numbers in one request."""

MAX_HELD_BYTES = 16 << 20
"""A longer frame goes to its worker in blocks, without being held on the way."""

_EXPLICIT = ids.TransferSyntaxUid(file_meta.EXPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame's bytes: a codestream, or native pixels in Explicit VR Little Endian."""

    data: bytes
    transfer_syntax_uid: ids.TransferSyntaxUid


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames that can be read one by one: the size of each, and each by its place counted from 0."""

    sizes: Sequence[int]
    content: Callable[[int], Content]


class FrameReader:
    """Frames of one instance.

    Parameters
    ----------
    data_set
        Gives the instance's metadata in the DICOM JSON Model; asked where the pixels' description matters.
    beside
        Gives a reader of what was recompressed from the instance, when there is something.
    """

    def __init__(
        self,
        archive: InstanceReader,
        pool: ImagingPool,
        located: Located,
        data_set: Callable[[], JsonDataSet],
        ahead: ReadAhead | None = None,
        beside: Callable[[], FrameReader | None] = lambda: None,
    ) -> None:
        self._archive = archive
        self._beside = beside
        self._ahead = ahead
        self._pool = pool
        self._located = located
        self._data_set = data_set
        self.layout: Layout = archive.index.layout(located.version_id)

    def kept(self, transfer_syntax_uid: str) -> FrameReader | None:
        """A reader of what is kept beside the instance and ``stored`` in a transfer syntax, or as good as that."""
        wanted = transfer_syntax_uid != self.stored_syntax and transfer_syntax_uid in HTJ2K_LOSSLESS
        return self._kept if wanted else None

    @cached_property
    def _kept(self) -> FrameReader | None:
        return self._beside()

    @property
    def version(self) -> ids.Version:
        """The version that is read."""
        return self._located.version

    @property
    def count(self) -> int:
        """Number of frames; 0 for an instance without pixels."""
        return self.layout.frames.count

    @property
    def stored_syntax(self) -> ids.TransferSyntaxUid:
        """The transfer syntax of ``stored``."""
        return _EXPLICIT if self._located.transfer_syntax_uid in file_meta.NATIVE else self._located.transfer_syntax_uid

    def check(self, numbers: Sequence[int]) -> None:
        """Raise NotFound when a frame, numbered from 1, is not there, NotAcceptable when none can be given."""
        table = self.layout.frames
        if len(numbers) > MAX_FRAMES:
            raise InvalidParameter(f"more than {MAX_FRAMES} frames in one request")
        if table.kind is FrameKind.NONE or any(not 1 <= number <= table.count for number in numbers):
            raise NotFound(f"the instance has {table.count} frames")
        if table.kind is FrameKind.DECODE and self._located.transfer_syntax_uid not in file_meta.NATIVE:
            raise NotAcceptable(f"the frames cannot be told apart: {table.reason}; retrieve the instance instead")

    def stored(self, numbers: Sequence[int]) -> Frames:
        """Frames as stored, codestreams without item headers; native ones as Explicit VR Little Endian."""
        if self.layout.frames.kind is not FrameKind.ENCAPSULATED:
            size = (self.layout.frames.stride_bits + 7) // 8
            return Frames(array("Q", [size]) * len(numbers), lambda place: self._native(numbers[place], size))
        found = list(self._archive.index.fragments(self._located.version_id, numbers))
        sizes = array("Q", (sum(length for _, length in each.ranges) for each in found))
        return Frames(sizes, lambda place: self._encapsulated(found[place], sizes[place]))

    def decoded(self, numbers: Sequence[int]) -> Frames:
        """Frames as native pixels in Explicit VR Little Endian; each is decoded when it is read.

        Raises
        ------
        InvalidDescription, FrameTooLarge
        """
        stored = self.stored(numbers)
        if self.stored_syntax == _EXPLICIT:
            return stored
        size = (self.decoded_description.native_bits + 7) // 8

        def content(place: int) -> Content:
            def read(start: int, length: int) -> Iterator[bytes]:
                frame = self._held(stored, place)
                data = self._pool.decode(EncodedFrame(frame.data, frame.transfer_syntax_uid, self.description))
                yield data[start : start + length]

            return Content(size, read)

        return Frames(array("Q", [size]) * len(numbers), content)

    def refusal(self, transfer_syntax_uid: str) -> str:
        """Why the frames cannot be given in a transfer syntax; "" when they can."""
        if transfer_syntax_uid == self.stored_syntax or self.kept(transfer_syntax_uid) is not None:
            return ""
        if self.stored_syntax not in SUPPORTED_TRANSFER_SYNTAXES:
            return f"frames in transfer syntax {self.stored_syntax} are not decoded here"
        try:
            description = self.decoded_description
            if transfer_syntax_uid != _EXPLICIT:
                encoded_description(description, transfer_syntax_uid)
        except ImagingError as error:
            return str(error)
        return ""

    def transcoded(self, numbers: Sequence[int], transfer_syntax_uid: str) -> Iterator[bytes]:
        """Codestreams of frames in another transfer syntax, one after the other.

        Raises
        ------
        gateway.imaging.errors.ImagingError
        """
        self.check(numbers)
        stored = self.stored(numbers)
        for place in range(len(numbers)):
            frame = self._held(stored, place)
            encoded = EncodedFrame(frame.data, frame.transfer_syntax_uid, self.description)
            yield self._pool.encode(encoded, transfer_syntax_uid)

    def held(self, number: int) -> Frame:
        """A stored frame in memory, to be decoded. Raises FrameTooLarge before a byte of it is read."""
        return self._held(self.stored([number]), 0)

    def encoded(self, number: int) -> EncodedFrame:
        """A stored frame for a worker: held when it is small, else read while it is sent. Raises FrameTooLarge.

        Small ones are read first, so that no worker waits for a slow store.
        """
        stored = self.stored([number])
        size = stored.sizes[0]
        if size <= MAX_HELD_BYTES:
            return EncodedFrame(self._held(stored, 0).data, self.stored_syntax, self.description)
        self._pool.admit(self.description, size)

        def source() -> Iterator[bytes]:
            return stored.content(0).read(0, size)

        return EncodedFrame(b"", self.stored_syntax, self.description, source=source, source_bytes=size)

    def _held(self, stored: Frames, place: int) -> Frame:
        size = stored.sizes[place]
        self._pool.admit(self.description, size)
        return Frame(b"".join(stored.content(place).read(0, size)), self.stored_syntax)

    @cached_property
    def description(self) -> PixelDescription:
        """The pixels as the instance describes them. Raises InvalidDescription."""
        return PixelDescription.from_metadata(self._data_set())

    @property
    def decoded_description(self) -> PixelDescription:
        """The pixels as ``decoded`` gives them. Raises InvalidDescription."""
        return decoded_description(self.description, self.stored_syntax)

    def _encapsulated(self, fragments: Fragments, size: int) -> Content:
        def read(start: int, length: int) -> Iterator[bytes]:
            wanted = _within(fragments.ranges, start, length)
            if not wanted:
                return
            # One read over all of them: item headers between them are left out on the way.
            begin, end = wanted[0][0], wanted[-1][0] + wanted[-1][1]
            yield from _picked(self._archive.data_set(self._located, begin, end - begin), begin, wanted)

        return Content(size, read, self._ahead)

    def _native(self, number: int, size: int) -> Content:
        table = self.layout.frames
        frame_bit = (number - 1) * table.stride_bits

        def plain(start: int, length: int) -> Iterator[bytes]:
            place, shift = divmod(frame_bit + start * 8, 8)
            bits = min(length * 8, table.stride_bits - start * 8)
            blocks = self._archive.data_set(self._located, table.offset + place, (shift + bits + 7) // 8)
            return _aligned(blocks, shift, bits) if shift or bits % 8 else blocks

        if self._located.transfer_syntax_uid != file_meta.EXPLICIT_VR_BIG_ENDIAN:
            return Content(size, plain, self._ahead)
        return swapped(Content(size, plain), self._word_bytes())

    def _word_bytes(self) -> int:
        bits = json_model.number_of(self._data_set(), "00280100", 8)
        pixels = next(item for item in self.layout.bulk if item.path in ("7FE00008", "7FE00009", "7FE00010"))
        return max(bits // 8, 2 if pixels.vr == "OW" else 1)


def swapped(content: Content, word_bytes: int) -> Content:
    """A big endian value as little endian."""
    if word_bytes == 1:
        return content

    def read(start: int, length: int) -> Iterator[bytes]:
        begin = start // word_bytes * word_bytes
        end = min(content.size, -(-(start + length) // word_bytes) * word_bytes)
        blocks = json_model.swapped(content.read(begin, end - begin), word_bytes)
        yield from cut(blocks, start - begin, length)

    return Content(content.size, read)


def _within(ranges: Sequence[tuple[int, int]], start: int, length: int) -> list[tuple[int, int]]:
    """The parts of ranges that hold ``length`` bytes from ``start`` of their bytes joined."""
    found = []
    for offset, size in ranges:
        here = min(size - start, length) if start < size else 0
        if here > 0:
            found.append((offset + start, here))
            length -= here
        start = max(0, start - size)
    return found


def _picked(blocks: Iterator[bytes], position: int, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes of ascending ranges from a stream that begins at ``position``."""
    pending = iter(ranges)
    offset, length = next(pending)
    for block in blocks:
        while length and offset < position + len(block):
            wanted = block[offset - position : offset - position + length]
            yield wanted
            offset, length = offset + len(wanted), length - len(wanted)
            if not length:
                offset, length = next(pending, (0, 0))
        position += len(block)


def _aligned(blocks: Iterator[bytes], shift: int, bits: int) -> Iterator[bytes]:
    """``bits`` that begin within a byte, moved to its start (PS3.5 8.1.1: the first pixel is the lowest bit)."""
    carried, carried_bits = 0, 0
    for block in blocks:
        number = carried | (int.from_bytes(block, "little") << carried_bits)
        have = carried_bits + len(block) * 8
        if shift:
            number, have, shift = number >> shift, have - shift, 0
        whole = min(have, bits) // 8 * 8
        yield (number & ((1 << whole) - 1)).to_bytes(whole // 8, "little")
        bits -= whole
        carried, carried_bits = number >> whole, have - whole
    if bits > 0:
        yield (carried & ((1 << bits) - 1)).to_bytes((bits + 7) // 8, "little")
