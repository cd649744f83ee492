"""Objects of several tenants, each tenant's in a store of its own or in the common one."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from storage.objects.base import ByteRange, Draft, ObjectInfo, ObjectReader, ObjectStore, Piece, Segment
from storage.objects.keys import check_prefix, check_start_after


class RoutedObjectStore:
    """An ObjectStore over several: the first segment of a key, the tenant, says which one has it.

    Parameters
    ----------
    common
        Has the objects of every tenant without a store of its own. What it holds of the others does not exist here.
    own
        Stores by tenant; one tenant's store is never asked for another's objects.
    """

    def __init__(self, common: ObjectStore, own: Mapping[str, ObjectStore]) -> None:
        self._common = common
        self._own = dict(own)

    def _of(self, key: str) -> ObjectStore:
        return self._own.get(key.partition("/")[0], self._common)

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        """See ObjectStore."""
        return self._of(key).put(key, body)

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:
        """See ObjectStore."""
        return self._of(key).draft(key, head, file, start)

    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractContextManager[ObjectReader]:
        """See ObjectStore."""
        return self._of(key).open(key, byte_range)

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        return self._of(key).get(key, byte_range)

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        return self._of(key).read_at(key, start, length)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        return self._of(key).head(key)

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        self._of(key).delete(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore. Of a prefix within one tenant only that tenant's store is asked."""
        check_prefix(prefix)
        check_start_after(start_after)
        tenant, slash, _ = prefix.partition("/")
        if slash:
            return self._of(prefix).list(prefix, start_after)
        own = [
            store.list(f"{name}/", start_after) for name, store in self._own.items() if f"{name}/".startswith(tenant)
        ]
        return heapq.merge(self._of_the_others(prefix, start_after), *own, key=lambda info: info.key)

    def _of_the_others(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        return (info for info in self._common.list(prefix, start_after) if info.key.partition("/")[0] not in self._own)

    def ping(self) -> None:
        """See ObjectStore: every one of them."""
        for store in (self._common, *self._own.values()):
            store.ping()

    def close(self) -> None:
        """See ObjectStore: every one of them."""
        for store in (self._common, *self._own.values()):
            store.close()
