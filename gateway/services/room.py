"""Whether there is room for what arrives: free space on the disks that it needs, and the tenant's quota."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import QuotaExceeded
from storage.dicom import identifiers as ids
from storage.errors import StorageFull, StorageUnavailable
from storage.index.base import Index
from storage.index.stored import Usage


@dataclass(frozen=True, slots=True)
class Quota:
    """Most objects and bytes of a tenant; None is no bound."""

    objects: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that an arrival needs, under the name that messages and metrics give it."""

    name: str
    directory: Path


class Room:
    """Refuses arrivals before anything breaks. Safe to use from several threads.

    Parameters
    ----------
    quotas
        Of the tenants that have one.
    places, min_free_bytes
        Below so much free space in one of the places nothing more is stored; 0 does not look.
    """

    def __init__(self, index: Index, quotas: Mapping[str, Quota], places: Sequence[Place], min_free_bytes: int) -> None:
        self._index = index
        self._quotas = quotas
        self._places = places
        self._min_free_bytes = min_free_bytes
        self._lock = threading.Lock()
        self._objects_arriving: Counter[str] = Counter()
        self._bytes_arriving: Counter[str] = Counter()

    def check_disks(self, times: int = 1) -> None:
        """Look whether there is room on the disks: some microseconds. Raises StorageFull, StorageUnavailable.

        What can wait asks for more than arrivals do: ``times`` as much.
        """
        needed = times * self._min_free_bytes
        if not needed:
            return
        for place in self._places:
            if free_bytes(place.directory) < needed:
                raise StorageFull(f"less than {needed} bytes are free for the {place.name}")

    @contextmanager
    def arriving(self, tenant: ids.Tenant, size: int, share: float = 1.0) -> Iterator[Callable[[], None]]:
        """Around the storing of an object; what it gives raises QuotaExceeded when the object would be too much.

        What nobody sent has a ``share`` of the quota and leaves the rest to arrivals.

        The index knows what has been committed, by whichever process, and this process what it is about to commit. So
        a quota is overstepped by no more than what other processes store at that very moment.
        """
        quota = self._quotas.get(tenant)
        if quota is None:
            yield lambda: None
            return
        with self._lock:
            self._objects_arriving[tenant] += 1
            self._bytes_arriving[tenant] += size
        try:
            yield lambda: self._check_quota(tenant, quota, share)
        finally:
            with self._lock:
                self._objects_arriving[tenant] -= 1
                self._bytes_arriving[tenant] -= size

    def _check_quota(self, tenant: ids.Tenant, quota: Quota, share: float) -> None:
        # In this order: what is committed between the two counts twice for a moment, never not at all.
        with self._lock:
            objects, size = self._objects_arriving[tenant], self._bytes_arriving[tenant]
        used = self._index.usage().get(tenant, Usage())
        objects, size = objects + used.objects, size + used.bytes
        if quota.objects is not None and objects > share * quota.objects:
            raise QuotaExceeded("the tenant has as many objects as it may have")
        if quota.bytes is not None and size > share * quota.bytes:
            raise QuotaExceeded("the tenant has no room left for the object")


def free_bytes(directory: Path) -> int:
    """What is free on a directory's disk for who is not root. Raises StorageUnavailable."""
    try:
        found = os.statvfs(directory)
    except OSError as error:
        raise StorageUnavailable(f"a disk cannot be asked for its room: {error.strerror}") from error
    return found.f_bavail * found.f_frsize
