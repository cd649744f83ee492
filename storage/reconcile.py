"""Bringing bucket and index together: the reindex from the bucket, and rows for objects that have none."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from storage import records
from storage.archive import Archive
from storage.dicom import file_meta, part10
from storage.dicom import identifiers as ids
from storage.dicom.elements import Readable
from storage.errors import InvalidIdentifier, ObjectDamaged, ObjectNotFound, Unreadable
from storage.index.base import Arrival, Conflict, Index, Outcome, Quarantined, StoredVersion
from storage.objects.base import ObjectReader, ObjectStore

_BATCH = 500


@dataclass(slots=True)
class Report:
    """What a run did. ``damaged`` names objects that could not be read, with the reason."""

    objects: int = 0
    indexed: int = 0
    quarantined: int = 0
    records: int = 0
    removed: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Records:
    """A tenant's records, by what they are about."""

    deletions: dict[str, tuple[str, bytes]]
    """Object key to the deletion record, when no later record brought the object back, and its body."""
    restorations: list[tuple[str, bytes, records.Restoration]]
    """Record, its body, and what is in it."""
    quarantines: dict[str, str]
    """Object key to the reason."""


def reindex(archive: Archive, progress: Callable[[Report], None] = lambda _: None) -> Report:
    """Fill an empty index from the bucket alone.

    Afterwards the index answers every search and retrieval as the one that the objects were stored through. Objects
    that are not this archive's, or cannot be read, are reported and left alone.

    Parameters
    ----------
    archive
        Its index is empty and takes objects of any age.
    progress
        Called after every object with the report so far.
    """
    report = Report()
    known: dict[ids.Tenant, _Records] = {}
    for info in archive.objects.list(""):
        report.objects += 1
        try:
            tenant = ids.tenant(info.key.partition("/")[0])
            if tenant not in known:
                known[tenant] = _load_records(archive.objects, tenant, report)
            if not records.is_record(info.key):
                _index_one(archive, info.key, known[tenant], Conflict.VERSION, report)
        except (Unreadable, InvalidIdentifier, ObjectDamaged) as error:
            report.damaged.append((info.key, str(error)))
        progress(report)
    for tenant, found in known.items():
        _apply_records(archive.index, tenant, found)
        _bury(archive, found)
    return report


def _load_records(objects: ObjectStore, tenant: ids.Tenant, report: Report) -> _Records:
    found = _Records({}, [], {})
    # In the order of the keys, which is that of time: of all records that name an object, the last one counts.
    for info in objects.list(records.prefix(tenant)):
        body = objects.get(info.key)
        report.records += 1
        try:
            record = records.loads(body)
        except ObjectDamaged as error:
            report.damaged.append((info.key, str(error)))
            continue
        name = info.key.rpartition("/")[2].removesuffix(".json")
        if isinstance(record, records.Quarantine):
            found.quarantines[record.object_key] = record.reason
        elif isinstance(record, records.Restoration):
            found.restorations.append((name, body, record))
            for key in record.objects:
                found.deletions.pop(key, None)
        else:
            found.deletions.update((key, (name, body)) for key in record.objects)
    return found


def _index_one(archive: Archive, object_key: str, found: _Records, conflict: Conflict, report: Report) -> None:
    key, version = ids.parse_object_key(object_key)
    extract, offset, source = _read(archive, object_key)
    if (extract.study_uid, extract.series_uid, extract.sop_uid) != (key.study_uid, key.series_uid, key.sop_uid):
        raise ObjectDamaged("the object's key is not that of the instance in it")
    reason = found.quarantines.get(object_key)
    if reason is not None:
        archive.index.quarantine(Quarantined(key, version, object_key, reason))
        report.quarantined += 1
        return
    deletion = found.deletions.get(object_key, ("", b""))[0]
    commit = archive.index.commit(
        Arrival(key, version, extract, offset, source.size, source.sha256(), conflict, deletion_record=deletion)
    )
    if commit.outcome is Outcome.MISPLACED:
        archive.quarantine(Quarantined(key, version, object_key, commit.reason))
        report.quarantined += 1
    elif commit.outcome is Outcome.REJECTED:
        report.damaged.append((object_key, commit.reason))
    elif commit.outcome is Outcome.DUPLICATE:
        archive.objects.delete(object_key)
        report.removed += 1
    else:
        report.indexed += 1


def _read(archive: Archive, object_key: str) -> tuple[part10.Extract, int, _Hashed]:
    with archive.objects.open(object_key) as reader:
        source = _Hashed(reader)
        meta, offset, rest = file_meta.read(source, archive.limits)
        announced = part10.Announced(meta.sop_class_uid, meta.sop_uid)
        extract = part10.extract(_Rest(rest, source), meta.transfer_syntax_uid, archive.limits, announced)
        source.drain()
    return extract, offset, source


def _apply_records(index: Index, tenant: ids.Tenant, found: _Records) -> None:
    by_record: dict[str, tuple[bytes, list[StoredVersion]]] = {}
    for key, (record, body) in found.deletions.items():
        stored = StoredVersion(ids.parse_object_key(key)[1], key)
        by_record.setdefault(record, (body, []))[1].append(stored)
    for record, (body, versions) in sorted(by_record.items()):
        index.delete(tenant, ids.Version(record), body, versions)
    for record, body, restoration in found.restorations:
        back = [key for key in restoration.objects if key not in found.deletions]
        again = [StoredVersion(ids.parse_object_key(key)[1], key) for key in back]
        index.restore(tenant, ids.Version(record), body, ids.Version(restoration.deletion), again)


def _bury(archive: Archive, found: _Records) -> None:
    """Tombstones for what was deleted so long ago that its object is gone."""
    gone = list(found.deletions)
    for start in range(0, len(gone), _BATCH):
        batch = gone[start : start + _BATCH]
        for key in sorted(set(batch) - archive.index.known_objects(batch)):
            try:
                archive.objects.head(key)
            except ObjectNotFound:
                archive.index.bury(*ids.parse_object_key(key), ids.Version(found.deletions[key][0]))


def purge(archive: Archive, grace_s: float, now_s: float | None = None) -> int:
    """Remove the objects of deletions older than the grace time; how many versions it was.

    From the first row on, nobody can undo the deletion; a run that breaks off is completed by the next.
    """
    removed = 0
    due = archive.index.purge_due((time.time() if now_s is None else now_s) - grace_s)
    for start in range(0, len(due), _BATCH):
        batch = due[start : start + _BATCH]
        for version in batch:
            archive.objects.delete(version.object_key)
        archive.index.purged(batch)
        removed += len(batch)
    return removed


def adopt_orphans(archive: Archive, grace_s: float, conflict: Conflict, now_s: float | None = None) -> Report:
    """Give every object that has had no row for the grace time its row, or remove it when its content is there.

    A crash between object and row leaves such objects, and so does an index that was restored from an older copy:
    nothing tells the two apart, so nothing is removed that is not kept elsewhere. What cannot be read is reported and
    left alone. Safe beside running writers: a commit refuses an object older than half the grace time.

    Parameters
    ----------
    archive
        Its index takes objects of any age.
    conflict
        As for arrivals: an orphan that the policy would have refused is reported and left alone.
    """
    report = Report()
    now = time.time() if now_s is None else now_s
    tenants: set[ids.Tenant] = set()
    orphans: list[str] = []
    for batch in _batches(archive.objects, now - grace_s, report):
        tenants.update(ids.parse_object_key(key)[0].tenant for key in batch)
        orphans.extend(sorted(set(batch) - archive.index.known_objects(batch)))
    known = {tenant: _load_records(archive.objects, tenant, report) for tenant in sorted(tenants)}
    for tenant, found in known.items():
        # Before any orphan is looked at: on an older index what was deleted is still live, and what came after it
        # would be taken for a second copy. It also completes a deletion that a crash cut off after its record.
        _apply_records(archive.index, tenant, found)
    for object_key in orphans:
        try:
            _index_one(archive, object_key, known[ids.parse_object_key(object_key)[0].tenant], conflict, report)
        except (Unreadable, ObjectDamaged) as error:
            report.damaged.append((object_key, str(error)))
    for found in known.values():
        _bury(archive, found)
    return report


def _batches(objects: ObjectStore, before_s: float, report: Report) -> Iterator[list[str]]:
    """Keys of instances older than a time, in batches."""
    old = _old_instances(objects, before_s, report)
    while batch := list(islice(old, _BATCH)):
        yield batch


def _old_instances(objects: ObjectStore, before_s: float, report: Report) -> Iterator[str]:
    for info in objects.list(""):
        report.objects += 1
        try:
            _, version = ids.parse_object_key(info.key)
        except InvalidIdentifier:
            continue  # records, and what is not ours
        if max(ids.version_time_s(version), info.modified_s) < before_s:
            yield info.key


class _Hashed:
    """An object reader as a source to read from, digested on the way."""

    def __init__(self, reader: ObjectReader) -> None:
        self._blocks = reader.blocks()
        self._left = b""
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        block = self._left
        if not block:
            block = next(self._blocks, b"")
            self._digest.update(block)
            self.size += len(block)
        taken, self._left = block[:size], block[size:]
        return taken

    def drain(self) -> None:
        """Digest what was not read."""
        while self.read(1 << 20):
            pass

    def sha256(self) -> str:
        return self._digest.hexdigest()


class _Rest:
    """Bytes already taken, then the source they were taken from."""

    def __init__(self, taken: bytes, source: Readable) -> None:
        self._taken = taken
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._taken:
            taken, self._taken = self._taken[:size], self._taken[size:]
            return taken
        return self._source.read(size)
