"""An index that follows a bucket which somebody else writes: what is new there gets its rows here, again and again.

Nothing in a bucket says what is new, so it is listed whole: a request for every thousand objects. Nothing is
written to it. What the archive decided but has not yet written down (an object that it will remove as a second copy, or
put in quarantine) is left for the next round, and what proves to have been none of the archive's is taken back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from storage import records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.errors import ObjectNotFound, StorageUnavailable
from storage.index.arrivals import Conflicts, Quarantined
from storage.index.stored import StoredVersion
from storage.reconcile import recorded
from storage.reconcile.indexing import Indexing
from storage.reconcile.readers import OneReader
from storage.reconcile.recorded import Recorded
from storage.reconcile.report import Report
from storage.reconcile.worklist import Worklist

_BATCH = 500
_YOUNG_S = 3600.0
"""For so long after its arrival the archive may remove an object that it would not keep."""


class Follower:
    """Follows one bucket; kept between rounds, since records are read once.

    Parameters
    ----------
    archive
        Its index takes objects of any age and is this follower's alone; its objects are only read.
    folder
        Where long lists are sorted, see ``Worklist``.
    """

    def __init__(self, archive: Archive, folder: Path | None = None) -> None:
        self._archive = archive
        self._folder = folder
        self._recorded: dict[ids.Tenant, Recorded] = {}
        self._records: dict[ids.Tenant, list[str]] = {}
        self._quarantined: set[str] = set()
        self._rows_since = ids.before_time(time.time() - _YOUNG_S)

    def follow(self, stopped: Callable[[], bool] = lambda: False) -> Report:
        """One round, or less of it once ``stopped``; the report counts what is new.

        Raises
        ------
        StorageUnavailable
            Also when the bucket is empty although it was not: it may be a directory on which nothing is mounted.
        """
        report = Report()
        new, gone = self._look(report)
        try:
            # After the objects, so that what was decided of them meanwhile is known. Before they get rows: what came
            # again after its deletion is no second copy.
            for tenant in sorted(new.tenants):
                self._read_records(tenant, report)
            for tenant, found in self._recorded.items():
                recorded.apply(self._archive.index, tenant, found)
            self._put_in_quarantine(report)
            self._forget(gone, report)
            indexing = Indexing(self._archive, self._recorded, Conflicts(), report, writes=False)
            reader = OneReader(self._archive.objects, self._archive.limits)
            for _ in indexing.take(reader.read(self._wanted(new))):
                if stopped():
                    return report
        finally:
            new.close()
        for found in self._recorded.values():
            recorded.bury(self._archive, found)
        return report

    def _wanted(self, new: Worklist) -> Iterator[list[str]]:
        for batch in new.batches():
            yield [key for key in batch if key not in self._quarantined]

    def _look(self, report: Report) -> tuple[Worklist, dict[str, bool]]:
        """What the bucket holds without a row here, and the rows whose objects it may no longer hold.

        Those are the young and the deleted ones; True for a deleted one.
        """
        index = self._archive.index
        held: dict[str, bool] = {}
        after = self._rows_since
        while batch := index.holdings(after, _BATCH):
            held.update((each.object_key, each.deleted) for each in batch)
            after = batch[-1].version
        for tenant in self._recorded:
            for state in index.deletions(tenant, EVERYTHING):
                deletion = records.loads(state.body)
                assert isinstance(deletion, records.Deletion)
                held.update(dict.fromkeys(deletion.objects, True))
        listed = Worklist(self._folder)
        infos = (info for info in self._archive.objects.list("") if not records.is_beside(info.key))
        while chunk := list(islice(infos, _BATCH)):
            report.objects += len(chunk)
            for info in chunk:
                held.pop(info.key, None)
            listed.add_unknown(chunk, index.known_objects, report)
        if held and not report.objects:
            raise StorageUnavailable("there is not one object any more: is the archive mounted?")
        self._rows_since = max(self._rows_since, ids.before_time(time.time() - _YOUNG_S))
        return listed, held

    def _read_records(self, tenant: ids.Tenant, report: Report) -> None:
        """Read the records that are new; all of them again when one comes late, since their order counts."""
        objects = self._archive.objects
        names = [info.key for info in objects.list(records.prefix(tenant))]
        seen = self._records.get(tenant, [])
        if names[: len(seen)] != seen:
            seen = []
        if not seen:
            self._recorded[tenant] = Recorded()
            self._quarantined |= {item.object_key for item in self._archive.index.quarantined(tenant)}
        found = self._recorded[tenant]
        for key, body in recorded.bodies(objects, iter(names[len(seen) :])):
            report.records += 1
            recorded.take(found, key, body, report)
        self._records[tenant] = names

    def _put_in_quarantine(self, report: Report) -> None:
        """Put in quarantine what new records say so of, also what had got a row before its record was there."""
        for found in self._recorded.values():
            for object_key in found.quarantines.keys() - self._quarantined:
                key, version = ids.parse_object_key(object_key)
                item = Quarantined(key, version, object_key, found.quarantines[object_key])
                self._archive.index.withdraw(key, version, item)
                self._quarantined.add(object_key)
                report.quarantined += 1

    def _forget(self, gone: dict[str, bool], report: Report) -> None:
        """Note what was removed for good, and take back the rows of objects that the archive did not keep."""
        index = self._archive.index
        purged: list[StoredVersion] = []
        for object_key in sorted(gone):
            key, version = ids.parse_object_key(object_key)
            if self._is_there(object_key) or object_key not in index.known_objects([object_key]):
                continue
            if self._recorded.get(key.tenant, Recorded()).deletion_of(object_key):
                purged.append(StoredVersion(version, object_key))
            elif not gone[object_key] and object_key not in self._quarantined:
                index.withdraw(key, version)
            report.removed += 1
        index.purged(purged)

    def _is_there(self, object_key: str) -> bool:
        try:
            self._archive.objects.head(object_key)
        except ObjectNotFound:
            return False
        return True
