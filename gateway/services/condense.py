"""Recompression instead of what was sent: an original is kept as its codestreams and the bytes around its pixels.

It is put together again on each read, byte for byte (``storage.objects.condensed``), so nobody else sees a difference.
What was put is removed when it was read back whole from what is condensed and has the SHA-256 of its row.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from functools import partial

from gateway.imaging import encode, form
from gateway.imaging.description import PixelDescription
from gateway.imaging.errors import FrameDamaged, FrameMismatch
from gateway.imaging.pool import ImagingPool
from storage.archive import Archive
from storage.dicom import file_meta, json_model
from storage.dicom import identifiers as ids
from storage.dicom.frames import FrameKind, FrameTable
from storage.errors import ObjectDamaged, ObjectNotFound
from storage.index.stored import Located
from storage.objects.base import ByteRange, MadeSegment
from storage.objects.condensed import MAX_PIECE_BYTES, CondensedObjectStore
from storage.objects.container import Coded, Shared

MAX_FRAMES = 16_384
"""Of more the table alone would take megabytes of memory in each process that reads them."""

REPLACED = frozenset((file_meta.IMPLICIT_VR_LITTLE_ENDIAN, file_meta.EXPLICIT_VR_LITTLE_ENDIAN))
"""Transfer syntaxes of originals that are replaced."""
_ITEM = b"\xfe\xff\x00\xe0"


class NotTheSame(Exception):
    """Other bytes came back: what was put stays."""


class Stays(Exception):
    """Not native in little endian, or too large: what was put stays."""


class Condenser:
    """Condenses originals that have HTJ2K beside them.

    Parameters
    ----------
    archive
        Over ``objects``.
    pool
        Decodes what is read back.
    """

    def __init__(self, archive: Archive, objects: CondensedObjectStore, pool: ImagingPool) -> None:
        self._archive = archive
        self._objects = objects
        self._pool = pool

    def condense(self, located: Located, beside: Located, go_on: Callable[[], None]) -> int | None:
        """Keep an original, and what stands beside it, as one; the bytes that both take then, None when they were one.

        Parameters
        ----------
        go_on
            Called between frames; what it raises leaves everything as it is.

        Raises
        ------
        NotTheSame, Stays, gateway.imaging.errors.ImagingError, storage.errors.StorageError
        """
        done = [self._objects.forms(each.object_key) == (False, True) for each in (located, beside)]
        if all(done):
            return None
        frames = self._archive.index.layout(located.version_id).frames
        if not done[0]:
            if not self._is_replaced(located, frames):
                raise Stays
            self._replace(located, partial(self._write, located, beside, frames, go_on), go_on)
        if beside.object_key in self._objects.sharers(located.object_key):
            self._replace(beside, partial(self._write_beside, located, beside, frames.count), go_on)
        return sum(self._objects.kept_bytes(each.object_key) for each in (located, beside))

    def _is_replaced(self, located: Located, frames: FrameTable) -> bool:
        around = located.size - frames.count * frames.stride
        return (
            located.transfer_syntax_uid in REPLACED
            and frames.kind is FrameKind.NATIVE
            and frames.stride_bits % 8 == 0
            and 0 < frames.count <= MAX_FRAMES
            and max(around, frames.stride) <= MAX_PIECE_BYTES
        )

    def _replace(self, each: Located, write: Callable[[], None], go_on: Callable[[], None]) -> None:
        """Have an object condensed, and not as it was put; whatever a crash left of it before.

        No verdict removes what is condensed: a decoder that was killed or a byte lost on the way makes it wrong for a
        moment, and somebody else may just have found that it is whole, and removed what was put. It goes with the
        instance; until then both are there, and it is looked at again.
        """
        objects, key = self._objects, each.object_key
        plain, condensed = objects.forms(key)
        if plain and not condensed:
            write()
        whole = not plain or self._is_whole(each, go_on)
        if not self._archive.index.kept_versions([ids.parse_object_key(key)[1]]):
            # Erased or purged meanwhile: nothing of it may come back.
            objects.delete(key)
            raise ObjectNotFound(key)
        if not whole:
            raise NotTheSame
        if plain:
            objects.keep_condensed(key)

    def _is_whole(self, each: Located, go_on: Callable[[], None]) -> bool:
        """Whether what is condensed gives the object that was put, by the digest in its row."""
        digest = hashlib.sha256()
        try:
            with self._objects.rebuilt(each.object_key, self._decoded) as reader:
                for block in reader.blocks():
                    digest.update(block)
                    go_on()
        except (ObjectDamaged, FrameDamaged, FrameMismatch):
            return False
        return digest.hexdigest() == each.sha256

    def _decoded(self, codestream: bytes, text: str) -> bytes:
        return form.loads(text).restored(self._pool, codestream)

    def _write(self, located: Located, beside: Located, frames: FrameTable, go_on: Callable[[], None]) -> None:
        objects, key = self._archive.objects, located.object_key
        begin = located.data_offset + frames.offset
        end = begin + frames.count * frames.stride
        (text,) = self._archive.index.metadata([located.version_id])
        native = PixelDescription.from_metadata(json_model.loads(text))
        encoded = encode.encoded_description(native, beside.transfer_syntax_uid)
        pieces: list[bytes | Coded | Shared] = [objects.get(key, ByteRange(0, begin))]
        for number, codestream in enumerate(self._codestreams(beside, frames.count)):
            start = begin + number * frames.stride
            frame = objects.get(key, ByteRange(start, start + frames.stride))
            body = MadeSegment(
                codestream.length, partial(self._archive.blocks, beside, codestream.start, codestream.length)
            )
            pieces.append(Coded(body, frames.stride, zlib.crc32(frame)))
            go_on()
        pieces.append(objects.get(key, ByteRange(end, located.size)))
        self._objects.condense(
            key,
            pieces,
            sha256=located.sha256,
            form=form.Form(beside.transfer_syntax_uid, encoded, native).dumps(),
            sharers=[beside.object_key],
        )

    def _write_beside(self, located: Located, beside: Located, count: int) -> None:
        objects, key = self._archive.objects, beside.object_key
        pieces: list[bytes | Coded | Shared] = []
        place = 0
        shared = self._objects.coded(located.object_key)
        for codestream, there in zip(self._codestreams(beside, count), shared, strict=True):
            if place == 0:
                pieces.append(objects.get(key, ByteRange(0, codestream.start)))
            elif codestream.start - place == len(_ITEM) + 4:
                pieces.append(_ITEM + codestream.length.to_bytes(4, "little"))
            else:
                pieces.append(objects.get(key, ByteRange(place, codestream.start)))
            pieces.append(Shared(there.start, there.length))
            place = codestream.end
        pieces.append(objects.get(key, ByteRange(place, beside.size)))
        self._objects.condense(key, pieces, sha256=beside.sha256, source=located.object_key)

    def _codestreams(self, beside: Located, count: int) -> Iterator[ByteRange]:
        """Where they lie in the object: one fragment each, as we make them."""
        for each in self._archive.index.fragments(beside.version_id, range(1, count + 1)):
            yield ByteRange(beside.data_offset + each.start, beside.data_offset + each.end)
