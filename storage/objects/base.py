"""What an object store promises, whatever engine is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.errors import ObjectDamaged


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A span of bytes; ``start`` counts from 0, ``end`` is exclusive."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"not a byte range: {self.start}-{self.end}")

    @property
    def length(self) -> int:
        """Number of bytes in the range."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class FileSegment:
    """A span of a local file (a spool) that is to become part of an object."""

    path: Path
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class MadeSegment:
    """Bytes that are made when they are asked for, the same each time: an engine may ask more than once.

    ``blocks`` gives ``length`` bytes in all; each block is valid until the next one is asked for.
    """

    length: int
    blocks: Callable[[], Iterator[bytes]]


Segment = bytes | memoryview | FileSegment | MadeSegment
"""One piece of an object's body; a body is the pieces in order."""


def body_length(body: Sequence[Segment]) -> int:
    """Bytes that the segments have together."""
    return sum(
        segment.length if isinstance(segment, FileSegment | MadeSegment) else memoryview(segment).nbytes
        for segment in body
    )


def body_blocks(body: Sequence[Segment], block_bytes: int) -> Iterator[memoryview]:
    """The bytes of a body in order, in blocks of at most ``block_bytes``.

    A block is valid until the next one is asked for.
    Raises ObjectDamaged when a file segment is missing or shorter than it says.
    """
    for segment in body:
        if isinstance(segment, FileSegment):
            yield from _file_blocks(segment, block_bytes)
        elif isinstance(segment, MadeSegment):
            for block in segment.blocks():
                yield from _cut(block, block_bytes)
        else:
            yield from _cut(segment, block_bytes)


def _cut(data: bytes | memoryview, block_bytes: int) -> Iterator[memoryview]:
    view = memoryview(data).cast("B")
    for start in range(0, view.nbytes, block_bytes):
        yield view[start : start + block_bytes]


def _file_blocks(segment: FileSegment, block_bytes: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(block_bytes, segment.length)))
    remaining = segment.length
    try:
        with segment.path.open("rb", buffering=0) as file:
            file.seek(segment.start)
            while remaining:
                count = file.readinto(buffer[: min(block_bytes, remaining)])
                if not count:
                    raise ObjectDamaged(f"a file segment ends {remaining} bytes early")
                remaining -= count
                yield buffer[:count]
    except OSError as error:
        raise ObjectDamaged(f"a file segment cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an object without reading it.

    ``sha256`` is the lower-case hexadecimal digest of the whole object, None where the engine cannot tell it
    without reading; ``modified_s`` is seconds since 1970-01-01 UTC by the engine's clock, or by ours when it comes from
    ``put``.
    """

    key: str
    size: int
    sha256: str | None
    modified_s: float


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an object, and how many it has in all."""

    data: bytes
    object_size: int


class ObjectReader(Protocol):
    """A started read: the size is known, the bytes come in blocks."""

    @property
    def length(self) -> int:
        """Bytes that ``blocks`` will give in all."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """The bytes in order, in blocks of at most 1 MiB.

        Raises ObjectDamaged when the object has fewer bytes, StorageUnavailable when fewer arrive.
        """
        ...


class BlocksReader:
    """A reader of blocks that come from elsewhere, ``length`` bytes in all."""

    def __init__(self, length: int, blocks: Iterator[bytes]) -> None:
        self._length = length
        self._blocks = blocks

    @property
    def length(self) -> int:
        """See ObjectReader."""
        return self._length

    def blocks(self) -> Iterator[bytes]:
        """See ObjectReader."""
        return self._blocks


class Draft(Protocol):
    """An object that is sent while its bytes still arrive in a file; nobody sees it before it is complete.

    It is ``complete`` or ``abandon``-ed in the end; the latter may come twice, and after the former.
    """

    def grown(self, length: int) -> None:
        """So many bytes of it are in the file. Returns at once, and leaves what fails to ``complete``."""
        ...

    def complete(self, length: int) -> ObjectInfo:
        """As ``put`` of everything, once all of its bytes are in the file, so many of them. Raises as ``put``."""
        ...

    def abandon(self) -> None:
        """There will be no such object. Returns at once."""
        ...


class ObjectStore(Protocol):
    """Immutable objects under string keys. Every method is synchronous and safe to call from several threads.

    A key is one or more segments of ``[A-Za-z0-9._-]`` joined by ``/``; no segment is empty, ``.`` or ``..``;
    at most 512 characters, 255 in one segment. Anything else is InvalidIdentifier. Every method may raise
    StorageUnavailable.
    """

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        """Write an object, all or nothing; on return it is durable.

        Raises ObjectExists when the key is taken (the object there is untouched) and StorageFull.
        """
        ...

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:
        """Begin an object that will be ``head`` and what the file holds from ``start`` on; the file is still growing.

        None where nothing is gained by it: then it is to be put once it is whole.
        """
        ...

    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractContextManager[ObjectReader]:
        """Start a read of the whole object or of a range of it. Raises ObjectNotFound.

        A range that ends beyond the object raises ObjectDamaged: the index promised those bytes.
        """
        ...

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """The bytes of the object or of a range of it, in memory. Errors as ``open``."""
        ...

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """At most ``length`` bytes from ``start`` on, in memory: fewer where the object ends before.

        For who does not know the object's size yet, in one step. Raises ObjectNotFound, and ObjectDamaged when the
        object ends before ``start``.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """Raises ObjectNotFound."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; a key without an object is no error."""
        ...

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with ``prefix`` and is greater than ``start_after``, in key order (by code
        point). ``sha256`` may be None here even where ``head`` tells it.
        """
        ...

    def ping(self) -> None:
        """Return when the engine can read and write now; raise StorageUnavailable when not."""
        ...

    def close(self) -> None:
        """Let go of connections and handles. Idempotent."""
        ...
