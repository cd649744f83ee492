"""The pixel data of a view's instance: a reference to where they are stored, or other bytes where they had to change.

They change where something may be read in them that is not for the view: text that a device burned in, comments in
compressed frames, bits of a cell that are no sample's. Everything else stays in the archive, and is referred to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from pydicom.dataset import Dataset

from gateway.deid import codestreams, markers
from gateway.deid.burned_in import BurnedIn
from gateway.deid.engine import Deidentified
from gateway.deid.pixel_data import PixelFindings
from gateway.deid.values import made
from gateway.errors import NotAcceptable, NotDeidentified, NotFound
from gateway.imaging import encode
from gateway.imaging.blanking import Rectangle
from gateway.imaging.errors import ImagingError
from gateway.imaging.pool import ImagingPool
from gateway.services.frames import FrameReader
from gateway.services.spool import Spool
from storage.archive import InstanceReader
from storage.dicom import explicit, file_meta, json_model
from storage.dicom import identifiers as ids
from storage.dicom.frames import FrameKind
from storage.dicom.part10 import BulkItem
from storage.dicom.vr import WORD_BYTES
from storage.index.stored import Located
from storage.objects.base import FileSegment
from storage.objects.spliced import Reference

Piece = bytes | Reference | FileSegment
"""A piece of a view's object."""

_TAGS = {"7FE00008": 0x7FE00008, "7FE00009": 0x7FE00009, "7FE00010": 0x7FE00010}
_PLAIN = (file_meta.EXPLICIT_VR_BIG_ENDIAN, file_meta.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
_WRITERS = frozenset(encode.ENCODERS) - frozenset(encode.LOSSY_METHODS)
_PHOTOMETRIC, _PLANAR = 0x00280004, 0x00280006


_LOOKED_AT = 100
"""So many frames are looked through for text."""


@dataclass(frozen=True, slots=True)
class Written:
    """The pixel data element in pieces, and the transfer syntax that it, and so the instance, is in."""

    syntax: ids.TransferSyntaxUid
    pieces: Sequence[Piece]


def plain(syntax: ids.TransferSyntaxUid) -> ids.TransferSyntaxUid:
    """The transfer syntax of what is not compressed: big endian and deflated data sets are written plainly."""
    return ids.TransferSyntaxUid(file_meta.EXPLICIT_VR_LITTLE_ENDIAN) if syntax in _PLAIN else syntax


class PixelWriter:
    """Writes pixel data for a view.

    Parameters
    ----------
    scratch
        A folder for what is made, until it is in its object.
    """

    def __init__(self, source: InstanceReader, pool: ImagingPool, scratch: Path) -> None:
        self._source = source
        self._pool = pool
        self._scratch = scratch

    @contextmanager
    def written(self, located: Located, pixels: BulkItem, found: Deidentified, burned: BurnedIn) -> Iterator[Written]:
        """The element, as long as the context lasts; what has to be other in the data set for it is changed there.

        Raises
        ------
        NotDeidentified
            Nobody can tell what is in them.
        storage.errors.StorageUnavailable
        """
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o750)
        with NamedTemporaryFile(dir=self._scratch, prefix="view-", suffix=Spool.SUFFIX) as file:
            path = Path(file.name)
            if burned.is_changed:
                yield self._blanked(located, found.dataset, burned, path)
            elif located.transfer_syntax_uid in file_meta.NATIVE:
                yield self._native(located, pixels, found, path)
            else:
                yield self._encapsulated(located, pixels, found.pixels, path)

    def lettering(self, located: Located) -> Iterator[tuple[int, Rectangle]]:
        """Where something looks like writing, frame by frame: its number and a rectangle.

        Of very many frames some are looked at, the first and the last among them: what a device burns in, it burns
        into all of them.

        Raises
        ------
        NotDeidentified
            Nobody can look.
        """
        reader = self._reader(located)
        try:
            numbers = _spread(reader.count, _LOOKED_AT)
            reader.check(numbers)
            for number in numbers:
                for found in self._pool.lettering(reader.encoded(number)):
                    yield number, found
        except (ImagingError, NotAcceptable, NotFound) as error:
            raise NotDeidentified(f"its pixels cannot be looked through for text: {error}") from error

    # As stored, as far as possible

    def _native(self, located: Located, pixels: BulkItem, found: Deidentified, path: Path) -> Written:
        syntax, tag = plain(located.transfer_syntax_uid), _TAGS[pixels.path]
        word = WORD_BYTES.get(pixels.vr, 1) if located.transfer_syntax_uid == file_meta.EXPLICIT_VR_BIG_ENDIAN else 1
        cells = _Cells.of(found.pixels, found.dataset)
        head = (
            explicit.bare(tag, pixels.length)
            if syntax == file_meta.IMPLICIT_VR_LITTLE_ENDIAN
            else explicit.header(tag, pixels.vr, pixels.length)
        )
        copied = located.transfer_syntax_uid in _PLAIN
        if copied or cells is not None:
            blocks = json_model.swapped(self._source.data_set(located, pixels.offset, pixels.length), word)
            changed = _copy(blocks, path, cells)
            if copied or changed:
                return Written(syntax, [head, FileSegment(path, 0, pixels.length)])
        return Written(
            syntax, [head, Reference(located.object_key, located.data_offset + pixels.offset, pixels.length)]
        )

    def _encapsulated(self, located: Located, pixels: BulkItem, findings: PixelFindings, path: Path) -> Written:
        syntax = located.transfer_syntax_uid
        if findings.unexamined_stream and syntax != encode.RLE_LOSSLESS:
            raise NotDeidentified(f"nobody looks into streams of transfer syntax {syntax}")
        begin = located.data_offset + pixels.offset
        pieces: list[Piece] = [explicit.header(_TAGS[pixels.path], "OB", explicit.UNDEFINED)]
        place = 0
        if codestreams.examined(syntax):
            with path.open("wb") as file:
                for start, stored, cleaned in self._cleaned(located, pixels):
                    if stored == cleaned:
                        continue
                    pieces += [
                        Reference(located.object_key, begin + place, start - place),
                        FileSegment(path, file.tell(), len(cleaned)),
                    ]
                    file.write(cleaned)
                    place = start + len(cleaned)
        # To the sequence's delimiter, which belongs to the value.
        pieces.append(Reference(located.object_key, begin + place, pixels.length - place))
        return Written(syntax, [piece for piece in pieces if not isinstance(piece, Reference) or piece.length])

    def _cleaned(self, located: Located, pixels: BulkItem) -> Iterator[tuple[int, bytes, bytes]]:
        """Fragments of each frame: where they begin in the element, as stored, and without what a decoder needs not."""
        layout = self._source.index.layout(located.version_id)
        if layout.frames.kind is not FrameKind.ENCAPSULATED:
            raise NotDeidentified(f"its frames cannot be told apart: {layout.frames.reason}")
        numbers = range(1, layout.frames.count + 1)
        for fragments in self._source.index.fragments(located.version_id, numbers):
            stored = [self._source.read(located, offset, length) for offset, length in fragments.ranges]
            cleaned = codestreams.blanked(b"".join(stored), located.transfer_syntax_uid)
            at = 0
            for (offset, length), each in zip(fragments.ranges, stored, strict=True):
                yield offset - pixels.offset, each, cleaned[at : at + length]
                at += length

    # Blanked

    def _blanked(self, located: Located, data_set: Dataset, burned: BurnedIn, path: Path) -> Written:
        """Every frame with its parts made black, in its own syntax where that is lossless, else as native pixels."""
        reader = self._reader(located)
        stored = plain(located.transfer_syntax_uid)
        syntax = stored if stored in _WRITERS else ids.TransferSyntaxUid(file_meta.EXPLICIT_VR_LITTLE_ENDIAN)
        try:
            reader.check(range(1, reader.count + 1))
            description = reader.decoded_description
            if syntax in _WRITERS:
                description = encode.encoded_description(description, syntax)
            sizes = self._write_frames(reader, burned, syntax, path)
        except (ImagingError, NotDeidentified) as error:
            raise NotDeidentified(f"its pixels cannot be blanked: {error}") from error
        data_set.add(made(_PHOTOMETRIC, "CS", description.photometric_interpretation.value))
        if description.samples_per_pixel > 1:
            data_set.add(made(_PLANAR, "US", description.planar_configuration))
        markers.pixels_cleaned(data_set)
        return Written(syntax, _element(sizes, syntax, description.bits_allocated, path))

    def _reader(self, located: Located) -> FrameReader:
        def metadata() -> json_model.JsonDataSet:
            found: json_model.JsonDataSet = json_model.loads(
                next(iter(self._source.index.metadata([located.version_id])))
            )
            return found

        return FrameReader(self._source, self._pool, located, metadata)

    def _write_frames(self, reader: FrameReader, burned: BurnedIn, syntax: str, path: Path) -> list[int]:
        sizes = []
        with path.open("wb") as file:
            for number in range(1, reader.count + 1):
                frame = self._pool.blank(reader.encoded(number), burned.blank, burned.keep, syntax)
                file.write(frame)
                sizes.append(len(frame))
                if syntax in _WRITERS and len(frame) % 2:
                    file.write(b"\0")
        return sizes


def _spread(count: int, most: int) -> Sequence[int]:
    """Numbers of frames, counted from 1: all of them, or so many evenly spread, the first and the last among them."""
    if count <= most:
        return range(1, count + 1)
    return [1 + each * (count - 1) // (most - 1) for each in range(most)]


def _element(sizes: Sequence[int], syntax: str, bits_allocated: int, path: Path) -> list[Piece]:
    if syntax not in _WRITERS:
        length = sum(sizes)
        pad = [b"\0"] if length % 2 else []
        head = explicit.header(0x7FE00010, "OW" if bits_allocated > 8 else "OB", length + length % 2)
        return [head, FileSegment(path, 0, length), *pad]
    pieces: list[Piece] = [explicit.header(0x7FE00010, "OB", explicit.UNDEFINED) + explicit.fragment(0)]
    place = 0
    for size in sizes:
        even = size + size % 2
        pieces += [explicit.fragment(even), FileSegment(path, place, even)]
        place += even
    return [*pieces, explicit.SEQUENCE_END]


@dataclass(frozen=True, slots=True)
class _Cells:
    """Makes cells of Pixel Data hold nothing but their samples (PS3.5 8.1.1).

    Bits above a signed sample repeat its sign, as senders write them; all others are cleared.
    """

    kind: np.dtype[np.unsignedinteger]
    used: int
    high_bit: int
    signed: bool

    @classmethod
    def of(cls, findings: PixelFindings, data_set: Dataset) -> _Cells | None:
        """None where nothing else can be in them."""
        allocated = int(data_set.get("BitsAllocated", 0) or 0)
        if not findings.unused_bits or allocated not in (8, 16, 32):
            return None
        used = ~findings.unused_bits & ((1 << allocated) - 1)
        signed = bool(data_set.get("PixelRepresentation", 0))
        return cls(np.dtype(f"<u{allocated // 8}"), used, int(data_set["HighBit"].value), signed)

    def cleared(self, block: bytes) -> bytes:
        """Whole cells, and what is left at the end of a value of odd length."""
        whole = len(block) // self.kind.itemsize * self.kind.itemsize
        cells = np.frombuffer(block[:whole], self.kind)
        found = cells & self.kind.type(self.used)
        if self.signed:
            every = (1 << 8 * self.kind.itemsize) - 1
            above = self.kind.type(every & ~((1 << (self.high_bit + 1)) - 1))
            negative = (cells >> self.kind.type(self.high_bit)) & self.kind.type(1)
            found = np.where(negative, found | above, found)
        return bytes(found.astype(self.kind, copy=False).tobytes()) + block[whole:]


def _copy(blocks: Iterator[bytes], path: Path, cells: _Cells | None) -> bool:
    """Write blocks, their cells cleared; whether that changed anything."""
    changed, rest = False, b""
    with path.open("wb") as file:
        for block in blocks:
            data = rest + block
            whole = len(data) // 4 * 4
            data, rest = data[:whole], data[whole:]
            found = data if cells is None else cells.cleared(data)
            changed = changed or found != data
            file.write(found)
        found = rest if cells is None else cells.cleared(rest)
        file.write(found)
    return changed or found != rest
