"""What the background work does for a bucket: rows for objects that have none, removal of what was deleted long ago."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

from storage import records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier
from storage.index.arrivals import Conflicts
from storage.objects.base import ObjectStore
from storage.reconcile import recorded
from storage.reconcile.indexing import Indexing
from storage.reconcile.readers import OneReader
from storage.reconcile.report import Report

_BATCH = 500


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


def adopt_orphans(archive: Archive, grace_s: float, conflicts: Conflicts, now_s: float | None = None) -> Report:
    """Give every object that has had no row for the grace time its row, or remove it when its content is there.

    A crash between object and row leaves such objects, and so does an index that was restored from an older copy:
    nothing tells the two apart, so nothing is removed that is not kept elsewhere. What cannot be read is reported and
    left alone. Safe beside running writers: a commit refuses an object older than half the grace time.

    Parameters
    ----------
    archive
        Its index takes objects of any age.
    conflicts
        As for arrivals: an orphan that the policy would have refused is reported and left alone.
    """
    report = Report()
    now = time.time() if now_s is None else now_s
    tenants: set[ids.Tenant] = set()
    orphans: list[str] = []
    for batch in _batches(archive.objects, now - grace_s, report):
        tenants.update(ids.parse_object_key(key)[0].tenant for key in batch)
        orphans.extend(set(batch) - archive.index.known_objects(batch))
    orphans.sort(key=lambda key: ids.parse_object_key(key)[1])
    known = {tenant: recorded.load(archive.objects, tenant, report) for tenant in sorted(tenants)}
    for tenant, found in known.items():
        # Before any orphan is looked at: on an older index what was deleted is still live, and what came after it
        # would be taken for a second copy. It also completes a deletion that a crash cut off after its record.
        recorded.apply(archive.index, tenant, found)
    indexing = Indexing(archive, known, conflicts, report)
    batches = (indexing.without_known(orphans[start : start + _BATCH]) for start in range(0, len(orphans), _BATCH))
    for _ in indexing.take(OneReader(archive.objects, archive.limits).read(batches)):
        pass
    for found in known.values():
        recorded.bury(archive, found)
    return report


def _batches(objects: ObjectStore, before_s: float, report: Report) -> Iterator[list[str]]:
    """Keys of instances older than a time, in batches."""
    old = _old_instances(objects, before_s, report)
    while batch := list(islice(old, _BATCH)):
        yield batch


def _old_instances(objects: ObjectStore, before_s: float, report: Report) -> Iterator[str]:
    for info in objects.list(""):
        if records.is_beside(info.key):
            continue
        report.objects += 1
        try:
            _, version = ids.parse_object_key(info.key)
        except InvalidIdentifier:
            continue  # records, and what is not ours
        if max(ids.version_time_s(version), info.modified_s) < before_s:
            yield info.key
