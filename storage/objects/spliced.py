"""Objects put together of bytes of their own and of ranges of other objects, so that nothing large is stored twice.

A de-identified instance is the same pixels behind another header. Its object holds the header, and says where the
pixels are; whoever reads it gets one Part 10 file, and any range of it, without knowing.
"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

import orjson

from storage.errors import ObjectDamaged
from storage.objects.base import (
    BlocksReader,
    ByteRange,
    Draft,
    ObjectInfo,
    ObjectReader,
    ObjectStore,
    Piece,
    Segment,
    body_length,
)
from storage.objects.keys import check_key, check_prefix, check_start_after

_MAGIC = b"SPLICED1"
_HEAD = struct.Struct("<8sI")
_FIRST_READ_BYTES = 1 << 16
_KEPT_LAYOUTS = 4096


@dataclass(frozen=True, slots=True)
class Reference:
    """A range of another object in the store behind, which stays as long as what refers to it is of use."""

    key: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """The pieces of an object, each a reference into the store behind, and where each ends in the whole."""

    pieces: tuple[Reference, ...]
    ends: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.ends[-1] if self.ends else 0

    def within(self, start: int, end: int) -> Iterator[Reference]:
        """What has the bytes from ``start`` to ``end``."""
        number = bisect_right(self.ends, start)
        while start < end:
            piece, begin = self.pieces[number], self.ends[number] - self.pieces[number].length
            until = min(end, self.ends[number])
            if until > start:
                yield Reference(piece.key, piece.start + start - begin, until - start)
            start, number = until, number + 1


class SplicedObjectStore:
    """An ObjectStore in a part of another one.

    Parameters
    ----------
    objects
        Holds what is put here, and what is referred to. It is somebody else's, and is not closed with this one.
    folder
        Before every key there, with a slash at its end; keys here are as much shorter as it is long.
    """

    def __init__(self, objects: ObjectStore, folder: str) -> None:
        self._objects = objects
        self._folder = folder
        self._layouts: OrderedDict[str, _Layout] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: str, body: Sequence[Segment | Reference]) -> ObjectInfo:
        """See ObjectStore; ``body`` may refer to ranges of objects in the store behind.

        Nobody looks at them here: a range that is not there shows when it is read.
        """
        check_key(key)
        parts: list[dict[str, int | str]] = []
        own: list[Segment] = []
        for piece in body:
            if isinstance(piece, Reference):
                parts.append({"key": piece.key, "start": piece.start, "length": piece.length})
            else:
                parts.append({"own": body_length([piece])})
                own.append(piece)
        manifest = orjson.dumps(parts)
        info = self._objects.put(self._folder + key, [_HEAD.pack(_MAGIC, len(manifest)), manifest, *own])
        size = body_length(own) + sum(piece.length for piece in body if isinstance(piece, Reference))
        return ObjectInfo(key, size, None, info.modified_s)

    def references(self, key: str) -> Sequence[Reference]:
        """The ranges of other objects that an object is made of, in order. Raises as ``open``."""
        behind = self._folder + key
        return [piece for piece in self._layout(key).pieces if piece.key != behind]

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:  # noqa: ARG002
        """See ObjectStore. What is put here is short."""
        return None

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore."""
        layout = self._layout(key)
        wanted = byte_range or ByteRange(0, layout.size)
        if wanted.end > layout.size:
            raise ObjectDamaged(f"{key} has {layout.size} bytes, asked for up to {wanted.end}")
        pieces = layout.within(wanted.start, wanted.end)
        with ExitStack() as stack:
            first = next(pieces, None)
            begun: Iterator[bytes] = iter(())
            if first is not None:
                # Begun before anything is promised: it may be gone.
                begun = stack.enter_context(self._objects.open(first.key, _range(first))).blocks()
            yield BlocksReader(wanted.length, chain(begun, self._rest(pieces)))

    def _rest(self, pieces: Iterator[Reference]) -> Iterator[bytes]:
        for piece in pieces:
            with self._objects.open(piece.key, _range(piece)) as reader:
                yield from reader.blocks()

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        with self.open(key, byte_range) as reader:
            return b"".join(reader.blocks())

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        size = self._layout(key).size
        if start > size:
            raise ObjectDamaged(f"{key} has {size} bytes, asked for from {start}")
        return Piece(self.get(key, ByteRange(start, min(start + length, size))), size)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore. Nobody knows the digest of the whole."""
        info = self._objects.head(self._folder + key)
        return ObjectInfo(key, self._layout(key).size, None, info.modified_s)

    def delete(self, key: str) -> None:
        """See ObjectStore. What it refers to stays."""
        self._objects.delete(self._folder + key)
        with self._lock:
            self._layouts.pop(key, None)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore. Each object is looked into for its size."""
        check_prefix(prefix)
        check_start_after(start_after)
        after = self._folder + start_after if start_after else ""
        return (self._known(info) for info in self._objects.list(self._folder + prefix, after))

    def _known(self, info: ObjectInfo) -> ObjectInfo:
        key = info.key.removeprefix(self._folder)
        return ObjectInfo(key, self._layout(key).size, None, info.modified_s)

    def ping(self) -> None:
        """See ObjectStore."""
        self._objects.ping()

    def close(self) -> None:
        """See ObjectStore."""

    def _layout(self, key: str) -> _Layout:
        check_key(key)
        with self._lock:
            found = self._layouts.get(key)
            if found is not None:
                self._layouts.move_to_end(key)
                return found
        found = self._read(key)
        with self._lock:
            self._layouts[key] = found
            if len(self._layouts) > _KEPT_LAYOUTS:
                self._layouts.popitem(last=False)
        return found

    def _read(self, key: str) -> _Layout:
        behind = self._folder + key
        begun = self._objects.read_at(behind, 0, _FIRST_READ_BYTES)
        try:
            magic, length = _HEAD.unpack_from(begun.data)
            if magic != _MAGIC or _HEAD.size + length > begun.object_size:
                raise ValueError("not a spliced object")
            data = begun.data[_HEAD.size :]
            if len(data) < length:
                data += self._objects.get(behind, ByteRange(_FIRST_READ_BYTES, _HEAD.size + length))
            pieces, place = [], _HEAD.size + length
            for part in orjson.loads(data[:length]):
                if "own" in part:
                    pieces.append(Reference(behind, place, part["own"]))
                    place += part["own"]
                else:
                    pieces.append(Reference(part["key"], part["start"], part["length"]))
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise ObjectDamaged(f"{key} does not say what it is made of") from error
        return _Layout(tuple(pieces), tuple(accumulate(piece.length for piece in pieces)))


def _range(piece: Reference) -> ByteRange:
    return ByteRange(piece.start, piece.start + piece.length)
