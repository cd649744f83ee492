"""What leaves the quarantine leaves nothing of itself, and a reindex brings nothing back."""

from __future__ import annotations

from pathlib import Path

from storage import reconcile, records
from storage.archive import Archive
from tests.storage.reconcile.dump import dump
from tests.storage.reconcile.test_erasing import archive, index_of, keys, reindexed
from tests.storage.reconcile.test_reconcile import TENANTS, fill

__all__ = ["archive"]
MAIN = TENANTS[0]


def test_it_goes_with_its_record_and_everything_else_stays(archive: Archive, tmp_path: Path) -> None:
    fill(archive)
    before, (item, *others) = keys(archive), archive.index.quarantined(MAIN)
    quarantines = [key for key in before if key.startswith(records.prefix(MAIN))]
    (record,) = [key for key in quarantines if item.object_key.encode() in archive.objects.get(key)]
    usage = archive.index.usage()

    reconcile.remove(archive, item)

    after = keys(archive)
    assert set(before) - set(after) == {item.object_key, record}
    (erasure,) = set(after) - set(before)
    assert archive.objects.get(erasure) == records.Erasure((item.version,)).dumps()
    assert (list(archive.index.quarantined(MAIN)), archive.index.usage()) == (others, usage)
    again, report = reindexed(archive, tmp_path)
    assert again == dump(index_of(archive))
    assert (report.damaged, report.removed) == ([], 0)


def test_it_goes_although_its_record_is_gone(archive: Archive, tmp_path: Path) -> None:
    fill(archive)
    (item, *others) = archive.index.quarantined(MAIN)
    for key in keys(archive):
        if key.startswith(records.prefix(MAIN)) and item.object_key.encode() in archive.objects.get(key):
            archive.objects.delete(key)
    reconcile.remove(archive, item)
    assert list(archive.index.quarantined(MAIN)) == others
    assert item.object_key not in keys(archive)
