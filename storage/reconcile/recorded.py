"""A tenant's records: read in their order, and their deletions, undoings and quarantine applied to an index."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from storage import records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.errors import ObjectDamaged, ObjectNotFound
from storage.index.base import Index
from storage.index.stored import StoredVersion
from storage.objects.base import ObjectStore
from storage.reconcile.report import Report

_BATCH = 500
_AT_ONCE = 8
"""Records that are fetched at the same time: a bucket takes its time over each."""


@dataclass(slots=True)
class Recorded:
    """What a tenant's records come to: the last deletion of an object counts, unless it or a later one was undone."""

    deletions: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Object key to the deletion record, when no later record brought the object back, and its body."""
    _before: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    """Object key to its deletions before the last one, when there were several at once."""
    undone: dict[str, bytes] = field(default_factory=dict)
    """Deletion records of which nothing is left, and their bodies."""
    restorations: list[tuple[str, bytes, records.Restoration]] = field(default_factory=list)
    """Record, its body, and what is in it."""
    quarantines: dict[str, str] = field(default_factory=dict)
    """Object key to the reason."""

    erasures: list[tuple[str, bytes, records.Erasure]] = field(default_factory=list)
    """Record, its body, and what is in it."""
    erased: set[str] = field(default_factory=set)
    """Versions that must not come back."""
    holds: list[tuple[str, bytes, records.Hold | records.Release]] = field(default_factory=list)
    """Record, its body, and what is in it."""

    def take(self, name: str, body: bytes) -> None:
        """Take note of the next record. Raises ObjectDamaged."""
        record = records.loads(body)
        if isinstance(record, records.Quarantine):
            self.quarantines[record.object_key] = record.reason
        elif isinstance(record, records.Restoration):
            self._restore(name, body, record)
        elif isinstance(record, records.Erasure):
            self._erase(name, body, record)
        elif isinstance(record, records.Hold | records.Release):
            self.holds.append((name, body, record))
        else:
            self.undone[name] = body
            for key in record.objects:
                if key in self.deletions:
                    self._before.setdefault(key, []).append(self.deletions[key])
                self.deletions[key] = (name, body)

    def _restore(self, name: str, body: bytes, record: records.Restoration) -> None:
        self.restorations.append((name, body, record))
        for key in record.objects:
            if key not in self.deletions:
                continue
            # One that came since stands, though its record may be older than that of the undoing.
            stand = [
                (deletion, its)
                for deletion, its in (*self._before.pop(key, ()), self.deletions.pop(key))
                if (deletion != record.deletion if record.withdrawal else deletion > record.deletion)
            ]
            if stand:
                self.deletions[key] = stand.pop()
            if stand:
                self._before[key] = stand

    def _erase(self, name: str, body: bytes, record: records.Erasure) -> None:
        self.erasures.append((name, body, record))
        self.erased.update(record.versions)
        for named in (self.deletions, self.quarantines):
            for key in [key for key in named if ids.parse_object_key(key)[1] in self.erased]:
                del named[key]

    def is_erased(self, object_key: str) -> bool:
        """Whether an object was removed for good: one that is there was put back by hand, or has yet to go."""
        return bool(self.erased) and ids.parse_object_key(object_key)[1] in self.erased

    def deletion_of(self, object_key: str) -> str:
        """The record by which an object is deleted; "" when it is not."""
        return self.deletions.get(object_key, ("", b""))[0]


def name_of(record_key: str) -> ids.Version:
    """A record's own version, from the key of its object."""
    return ids.Version(record_key.rpartition("/")[2].removesuffix(".json"))


def load(objects: ObjectStore, tenant: ids.Tenant, report: Report) -> Recorded:
    """Read all records of a tenant."""
    found = Recorded()
    for key, body in bodies(objects, (info.key for info in objects.list(records.prefix(tenant)))):
        report.records += 1
        take(found, key, body, report)
    return found


def take(found: Recorded, record_key: str, body: bytes, report: Report) -> None:
    """Take note of the next record, or report that it is damaged."""
    try:
        found.take(name_of(record_key), body)
    except ObjectDamaged as error:
        report.damaged.append((record_key, str(error)))


def bodies(objects: ObjectStore, keys: Iterator[str]) -> Iterator[tuple[str, bytes]]:
    """Small objects and what is in them, in the order of the keys, several fetched at the same time."""
    with ThreadPoolExecutor(_AT_ONCE, "records") as pool:
        while chunk := list(islice(keys, _BATCH)):
            yield from zip(chunk, pool.map(objects.get, chunk), strict=True)


def apply(index: Index, tenant: ids.Tenant, found: Recorded) -> None:
    """Apply deletions, undoings, erasures and holds; those that were applied before change nothing."""
    by_record: dict[str, tuple[bytes, list[StoredVersion]]] = {
        record: (body, []) for record, body in found.undone.items()
    }
    for key, (record, _) in found.deletions.items():
        by_record[record][1].append(StoredVersion(ids.parse_object_key(key)[1], key))
    others = (*found.restorations, *found.erasures, *found.holds)
    known = _known(index, [*by_record, *(record for record, _, _ in others)])
    for record, (body, versions) in sorted(by_record.items()):
        if record not in known:
            index.delete(tenant, ids.Version(record), body, versions)
    for record, body, restoration in found.restorations:
        if record not in known:
            back = [key for key in restoration.objects if key not in found.deletions]
            again = [StoredVersion(ids.parse_object_key(key)[1], key) for key in back]
            index.restore(tenant, ids.Version(record), body, ids.Version(restoration.deletion), again)
    for record, body, erasure in found.erasures:
        if record not in known:
            index.erase(tenant, ids.Version(record), body, erasure.versions)
    for record, body, held in found.holds:
        if record in known:
            continue
        if isinstance(held, records.Hold):
            index.hold(tenant, ids.Version(record), body, held.held)
        else:
            index.release(tenant, ids.Version(record), body, ids.Version(held.hold))


def _known(index: Index, names: list[str]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for start in range(0, len(names), _BATCH):
        found |= index.known_records(names[start : start + _BATCH])
    return found


def bury(archive: Archive, found: Recorded) -> None:
    """Tombstones for what was deleted so long ago that its object is gone."""
    gone = list(found.deletions)
    for start in range(0, len(gone), _BATCH):
        batch = gone[start : start + _BATCH]
        for key in sorted(set(batch) - archive.index.known_objects(batch)):
            try:
                archive.objects.head(key)
            except ObjectNotFound:
                archive.index.bury(*ids.parse_object_key(key), ids.Version(found.deletions[key][0]))
