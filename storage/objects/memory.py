"""Objects in the memory of this process, for tests and demonstrations: they end with it."""

from __future__ import annotations

import hashlib
import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from storage.errors import ObjectDamaged, ObjectExists, ObjectNotFound
from storage.objects.base import ByteRange, Draft, ObjectInfo, ObjectReader, Piece, Segment, body_blocks
from storage.objects.keys import check_key, check_prefix, check_start_after

_BLOCK_BYTES = 1 << 20


class MemoryObjectStore:
    """An ObjectStore whose "durable" means until the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self._keys: list[str] = []

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        """See ObjectStore."""
        check_key(key)
        data = b"".join(bytes(block) for block in body_blocks(body, _BLOCK_BYTES))
        info = ObjectInfo(key, len(data), hashlib.sha256(data).hexdigest(), time.time())
        with self._lock:
            if key in self._objects:
                raise ObjectExists(key)
            self._objects[key] = (info, data)
            insort(self._keys, key)
        return info

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:  # noqa: ARG002
        """See ObjectStore. It takes no time."""
        return None

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore."""
        yield _Reader(self.get(key, byte_range))

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        _, data = self._object(key)
        if byte_range is None:
            return data
        if byte_range.end > len(data):
            raise ObjectDamaged(f"{key} has {len(data)} bytes, asked for up to {byte_range.end}")
        return data[byte_range.start : byte_range.end]

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        data = self.get(key)
        if start > len(data):
            raise ObjectDamaged(f"{key} has {len(data)} bytes, asked for from {start}")
        return Piece(data[start : start + length], len(data))

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        info, _ = self._object(key)
        return info

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        check_key(key)
        with self._lock:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore. Objects put or deleted meanwhile may or may not be seen."""
        check_prefix(prefix)
        check_start_after(start_after)
        return self._list(prefix, start_after)

    def ping(self) -> None:
        """Return: memory answers."""

    def close(self) -> None:
        """Nothing is held open; the objects stay."""

    def _object(self, key: str) -> tuple[ObjectInfo, bytes]:
        check_key(key)
        with self._lock:
            try:
                return self._objects[key]
            except KeyError as error:
                raise ObjectNotFound(key) from error

    def _list(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        last = start_after
        while True:
            with self._lock:
                at = max(bisect_left(self._keys, prefix), bisect_right(self._keys, last))
                if at == len(self._keys) or not self._keys[at].startswith(prefix):
                    return
                info, _ = self._objects[self._keys[at]]
            last = info.key
            yield info


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def length(self) -> int:
        return len(self._data)

    def blocks(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), _BLOCK_BYTES):
            yield self._data[start : start + _BLOCK_BYTES]
