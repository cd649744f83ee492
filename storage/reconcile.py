"""Bringing bucket and index together: the reindex from the bucket, and the reaper of orphans."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from storage import records
from storage.dicom import file_meta, part10
from storage.dicom import identifiers as ids
from storage.dicom.elements import Readable
from storage.dicom.limits import Limits
from storage.errors import InvalidIdentifier, ObjectDamaged, Unreadable
from storage.index.base import Arrival, Index, Outcome, Quarantined
from storage.objects.base import ObjectInfo, ObjectReader, ObjectStore

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
    """Version to the deletion record and its body."""
    quarantines: dict[str, str]
    """Object key to the reason."""


def reindex(
    objects: ObjectStore, index: Index, limits: Limits, progress: Callable[[Report], None] = lambda _: None
) -> Report:
    """Fill an empty index from the bucket alone.

    Afterwards the index answers every search and retrieval as the one that the objects were stored through.
    Objects that no release of this archive wrote are reported and left alone.

    Parameters
    ----------
    progress
        Called after every object with the report so far.
    """
    report = Report()
    known: dict[ids.Tenant, _Records] = {}
    for info in objects.list(""):
        report.objects += 1
        tenant = ids.tenant(info.key.partition("/")[0])
        if tenant not in known:
            known[tenant] = _load_records(objects, tenant, report)
        if not records.is_record(info.key):
            try:
                _index_one(objects, index, limits, info, known[tenant], report)
            except (Unreadable, InvalidIdentifier, ObjectDamaged) as error:
                report.damaged.append((info.key, str(error)))
        progress(report)
    for tenant, found in known.items():
        _apply_deletions(index, tenant, found)
    return report


def _load_records(objects: ObjectStore, tenant: ids.Tenant, report: Report) -> _Records:
    found = _Records({}, {})
    for info in objects.list(records.prefix(tenant)):
        body = objects.get(info.key)
        report.records += 1
        try:
            record = records.loads(body)
        except ObjectDamaged as error:
            report.damaged.append((info.key, str(error)))
            continue
        if isinstance(record, records.Quarantine):
            found.quarantines[record.object_key] = record.reason
        else:
            name = info.key.rpartition("/")[2].removesuffix(".json")
            found.deletions.update((version, (name, body)) for version in record.versions)
    return found


def _index_one(
    objects: ObjectStore, index: Index, limits: Limits, info: ObjectInfo, found: _Records, report: Report
) -> None:
    key, version = ids.parse_object_key(info.key)
    with objects.open(info.key) as reader:
        source = _Hashed(reader)
        meta, offset, rest = file_meta.read(source, limits)
        extract = part10.extract(
            _Rest(rest, source),
            meta.transfer_syntax_uid,
            limits,
            part10.Announced(meta.sop_class_uid, meta.sop_uid),
        )
        source.drain()
    if (extract.study_uid, extract.series_uid, extract.sop_uid) != (key.study_uid, key.series_uid, key.sop_uid):
        raise ObjectDamaged("the object's key is not that of the instance in it")
    reason = found.quarantines.get(info.key)
    if reason is not None:
        index.quarantine(Quarantined(key, version, info.key, reason))
        report.quarantined += 1
        return
    deletion = found.deletions.get(version, ("", b""))[0]
    arrival = Arrival(key, version, extract, offset, source.size, source.sha256(), deletion_record=deletion)
    if index.commit(arrival).outcome not in (Outcome.DUPLICATE, Outcome.MISPLACED):
        report.indexed += 1


def _apply_deletions(index: Index, tenant: ids.Tenant, found: _Records) -> None:
    by_record: dict[str, tuple[bytes, list[ids.Version]]] = {}
    for version, (record, body) in found.deletions.items():
        by_record.setdefault(record, (body, []))[1].append(ids.Version(version))
    for record, (body, versions) in sorted(by_record.items()):
        index.delete(tenant, ids.Version(record), body, versions)


def reap_orphans(objects: ObjectStore, index: Index, grace_s: float, now_s: float | None = None) -> Report:
    """Remove objects that no row names and that are older than the grace time.

    Safe beside running writers: a commit refuses an object older than half the grace time, so what is removed here
    can no longer get a row.
    """
    report = Report()
    now = time.time() if now_s is None else now_s
    for batch in _batches(objects, now - grace_s, report):
        rowless = set(batch) - index.known_objects(batch)
        for object_key in sorted(rowless):
            objects.delete(object_key)
            report.removed += 1
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
