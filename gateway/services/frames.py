"""Frames of a stored instance: as stored where a byte range gives them, the decoding way where none does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.errors import InvalidParameter, NotAcceptable, NotFound
from gateway.imaging.decode import EncodedFrame, decoded_description
from gateway.imaging.description import PixelDescription
from gateway.imaging.pool import ImagingPool
from storage.archive import Archive
from storage.dicom import file_meta, json_model
from storage.dicom import identifiers as ids
from storage.dicom.frames import FrameKind
from storage.dicom.json_model import JsonDataSet
from storage.index.base import Layout, Located

MAX_FRAMES = 100_000
"""Frame numbers in one request."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame's bytes: a codestream, or native pixels in Explicit VR Little Endian."""

    data: bytes
    transfer_syntax_uid: ids.TransferSyntaxUid


class FrameReader:
    """Frames of one instance.

    Parameters
    ----------
    data_set
        The instance's metadata in the DICOM JSON Model.
    """

    def __init__(self, archive: Archive, pool: ImagingPool, located: Located, data_set: JsonDataSet) -> None:
        self._archive = archive
        self._pool = pool
        self._located = located
        self._data_set = data_set
        self.layout: Layout = archive.index.layout(located.version_id)

    @property
    def count(self) -> int:
        """Number of frames; 0 for an instance without pixels."""
        return self.layout.frames.count

    @property
    def stored_syntax(self) -> ids.TransferSyntaxUid:
        """The transfer syntax of ``stored``."""
        if self._located.transfer_syntax_uid in file_meta.NATIVE:
            return ids.TransferSyntaxUid(file_meta.EXPLICIT_VR_LITTLE_ENDIAN)
        return self._located.transfer_syntax_uid

    def check(self, numbers: Sequence[int]) -> None:
        """Raise NotFound when a frame, numbered from 1, is not there, NotAcceptable when none can be given."""
        table = self.layout.frames
        if len(numbers) > MAX_FRAMES:
            raise InvalidParameter(f"more than {MAX_FRAMES} frames in one request")
        if table.kind is FrameKind.NONE or any(not 1 <= number <= table.count for number in numbers):
            raise NotFound(f"the instance has {table.count} frames")
        if table.kind is FrameKind.DECODE and self._located.transfer_syntax_uid not in file_meta.NATIVE:
            raise NotAcceptable(f"the frames cannot be told apart: {table.reason}; retrieve the instance instead")

    def stored(self, numbers: Sequence[int]) -> Iterator[Frame]:
        """Frames as stored, codestreams without item headers; native ones as Explicit VR Little Endian."""
        table = self.layout.frames
        if table.kind is FrameKind.ENCAPSULATED:
            for fragments in self._archive.index.fragments(self._located.version_id, numbers):
                start = fragments.start
                span = self._archive.read(self._located, start, fragments.end - start)
                pieces = [span[offset - start : offset - start + length] for offset, length in fragments.ranges]
                yield Frame(pieces[0] if len(pieces) == 1 else b"".join(pieces), self.stored_syntax)
            return
        for number in numbers:
            yield Frame(self._native(number), self.stored_syntax)

    def decoded(self, numbers: Sequence[int]) -> Iterator[Frame]:
        """Frames as native pixels in Explicit VR Little Endian."""
        for frame in self.stored(numbers):
            if frame.transfer_syntax_uid == file_meta.EXPLICIT_VR_LITTLE_ENDIAN:
                yield frame
                continue
            data = self._pool.decode(EncodedFrame(frame.data, frame.transfer_syntax_uid, self.description))
            yield Frame(data, ids.TransferSyntaxUid(file_meta.EXPLICIT_VR_LITTLE_ENDIAN))

    @property
    def description(self) -> PixelDescription:
        """The pixels as the instance describes them. Raises InvalidDescription."""
        return PixelDescription.from_metadata(self._data_set)

    @property
    def decoded_description(self) -> PixelDescription:
        """The pixels as ``decoded`` gives them. Raises InvalidDescription."""
        return decoded_description(self.description, self.stored_syntax)

    def _native(self, number: int) -> bytes:
        table = self.layout.frames
        first_bit = (number - 1) * table.stride_bits
        start, shift = divmod(first_bit, 8)
        length = (shift + table.stride_bits + 7) // 8
        raw = self._archive.read(self._located, table.offset + start, length)
        if shift or table.stride_bits % 8:
            raw = _aligned(raw, shift, table.stride_bits)
        if self._located.transfer_syntax_uid == file_meta.EXPLICIT_VR_BIG_ENDIAN:
            raw = json_model.swap(raw, self._word_bytes())
        return raw

    def _word_bytes(self) -> int:
        bits = json_model.number_of(self._data_set, "00280100", 8)
        pixels = next(item for item in self.layout.bulk if item.path in ("7FE00008", "7FE00009", "7FE00010"))
        return max(bits // 8, 2 if pixels.vr == "OW" else 1)


def _aligned(raw: bytes, shift: int, bits: int) -> bytes:
    """Bits that begin within a byte, moved to its start (PS3.5 8.1.1: the first pixel is the lowest bit)."""
    number = int.from_bytes(raw, "little") >> shift
    return (number & ((1 << bits) - 1)).to_bytes((bits + 7) // 8, "little")
