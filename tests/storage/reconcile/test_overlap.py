"""Two background workers at the same time, as a lost node may bring about."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from storage import reconcile
from storage.archive import Archive, Sender
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.errors import StorageUnavailable
from storage.index.arrivals import Arrival, Commit, Conflict, Conflicts
from storage.index.sqlite import SqliteIndex
from storage.objects.memory import MemoryObjectStore
from tests.instances import data_set, encode, extract


class _Away(SqliteIndex):
    """Cannot commit what arrives."""

    def commit(self, arrival: Arrival) -> Commit:
        raise StorageUnavailable("away")


class _Together(SqliteIndex):
    """Commits only once the other is about to."""

    def __init__(self, path: Path, meeting: threading.Barrier) -> None:
        super().__init__(path, max_age_s=float("inf"))
        self._meeting = meeting

    def commit_all(self, arrivals: Sequence[Arrival]) -> Sequence[Commit]:
        self._meeting.wait(30)
        return super().commit_all(arrivals)


def test_two_that_take_in_the_same_object_leave_it_where_it_is(tmp_path: Path) -> None:
    objects, path = MemoryObjectStore(), tmp_path / "index.sqlite"
    crashed = Archive(objects, _Away(path), Limits())
    body = encode(data_set())
    extracted = extract(body)
    try:
        crashed.store(ids.tenant("main"), crashed.new_version(), extracted, [body], Sender("A", "B"), Conflict.VERSION)
    except StorageUnavailable:
        crashed.index.close()
    (orphan,) = objects.list("main/")
    meeting = threading.Barrier(2)
    archives = [Archive(objects, _Together(path, meeting), Limits()) for _ in range(2)]
    reports: list[reconcile.Report] = []

    def adopt(archive: Archive) -> None:
        reports.append(reconcile.adopt_orphans(archive, 60.0, Conflicts(), time.time() + 3600))

    threads = [threading.Thread(target=adopt, args=(archive,)) for archive in archives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(report.removed, report.damaged) for report in reports] == [(0, []), (0, [])]
    assert [info.key for info in objects.list("main/")] == [orphan.key]
    assert archives[0].index.known_objects([orphan.key]) == {orphan.key}
    for archive in archives:
        archive.index.close()
