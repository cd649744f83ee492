"""An object store that is only read, whatever its credentials would allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from storage.errors import ObjectNotFound, ObjectRemoved, ReadOnly
from storage.objects.base import ByteRange, Draft, ObjectInfo, ObjectReader, ObjectStore, Piece, Segment


class ReadOnlyObjectStore:
    """Another store without its ways to write: ReadOnly from ``put`` and ``delete``.

    Somebody else may write to it and remove what is found here: ObjectRemoved in place of ObjectNotFound.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:  # noqa: ARG002
        """Raises ReadOnly."""
        raise ReadOnly("the objects may only be read from here")

    def delete(self, key: str) -> None:  # noqa: ARG002
        """Raises ReadOnly."""
        raise ReadOnly("the objects may only be read from here")

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:  # noqa: ARG002
        """See ObjectStore. Nothing is put here."""
        return None

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore. Raises ObjectRemoved."""
        with _removed(), self._objects.open(key, byte_range) as reader:
            yield reader

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore. Raises ObjectRemoved."""
        with _removed():
            return self._objects.get(key, byte_range)

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore. Raises ObjectRemoved."""
        with _removed():
            return self._objects.read_at(key, start, length)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore. Raises ObjectRemoved."""
        with _removed():
            return self._objects.head(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        return self._objects.list(prefix, start_after)

    def ping(self) -> None:
        """Return when the engine lists: a store that may not be written to cannot be asked by writing."""
        next(iter(self._objects.list("")), None)

    def close(self) -> None:
        """See ObjectStore."""
        self._objects.close()


@contextmanager
def _removed() -> Iterator[None]:
    try:
        yield
    except ObjectRemoved:
        raise
    except ObjectNotFound as error:
        raise ObjectRemoved("the object was removed since it was found") from error
