"""An object store that is only read, whatever its credentials would allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from storage.errors import ReadOnly
from storage.objects.base import ByteRange, ObjectInfo, ObjectReader, ObjectStore, Piece, Segment


class ReadOnlyObjectStore:
    """Another store without its ways to write: ReadOnly from ``put`` and ``delete``."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:  # noqa: ARG002
        """Raises ReadOnly."""
        raise ReadOnly("the objects may only be read from here")

    def delete(self, key: str) -> None:  # noqa: ARG002
        """Raises ReadOnly."""
        raise ReadOnly("the objects may only be read from here")

    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractContextManager[ObjectReader]:
        """See ObjectStore."""
        return self._objects.open(key, byte_range)

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        return self._objects.get(key, byte_range)

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        return self._objects.read_at(key, start, length)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        return self._objects.head(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        return self._objects.list(prefix, start_after)

    def ping(self) -> None:
        """Return when the engine lists: a store that may not be written to cannot be asked by writing."""
        next(iter(self._objects.list(".ping/")), None)

    def close(self) -> None:
        """See ObjectStore."""
        self._objects.close()
