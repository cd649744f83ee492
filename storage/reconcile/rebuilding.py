"""The reindex: an index filled from the bucket alone, by replaying what arrived in the order of versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from storage.archive import Archive
from storage.index.arrivals import Conflicts
from storage.reconcile import recorded
from storage.reconcile.indexing import Indexing
from storage.reconcile.readers import OneReader, Readers
from storage.reconcile.report import Report
from storage.reconcile.worklist import Worklist


def reindex(
    archive: Archive,
    progress: Callable[[Report], None] = lambda _: None,
    *,
    worklist: Worklist | None = None,
    report: Report | None = None,
    readers: Readers | None = None,
    writes: bool = True,
) -> Report:
    """Fill an index from the bucket alone.

    Afterwards it answers every search and retrieval as the one that the objects were stored through. Objects that are
    not this archive's, or cannot be read, are reported and left alone. What has a row already is not read again, so a
    run that broke off, wherever it was, is completed by the next one.

    Parameters
    ----------
    archive
        Its index is empty, or what an earlier run left, and takes objects of any age.
    progress
        Called after every object that was listed and every transaction, with the report so far.
    worklist, report
        What ``Worklist.fill`` gave, when it was filled before.
    readers
        Who reads the objects; this process when not given.
    writes
        False when the bucket is another's: no second copy is removed, and nothing is put in quarantine anew.
    """
    report = report or Report()
    if worklist is None:
        worklist = Worklist()
        worklist.fill(archive.objects, report, progress)
    known = {tenant: recorded.load(archive.objects, tenant, report) for tenant in sorted(worklist.tenants)}
    indexing = Indexing(archive, known, Conflicts(), report, writes=writes)
    reading = readers or OneReader(archive.objects, archive.limits)
    for _ in indexing.take(reading.read(_unknown(worklist, indexing))):
        progress(report)
    worklist.close()
    for tenant, found in known.items():
        recorded.apply(archive.index, tenant, found)
        recorded.bury(archive, found)
    progress(report)
    return report


def _unknown(worklist: Worklist, indexing: Indexing) -> Iterator[list[str]]:
    for batch in worklist.batches():
        left = indexing.without_known(batch)
        if left:
            yield left
