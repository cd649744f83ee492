"""Erasure: nothing of it is left anywhere, a reindex brings nothing back, and everything else is as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storage import reconcile, records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import StorageUnavailable
from storage.index.arrivals import Conflicts
from storage.index.postgres import PostgresIndex
from storage.index.questions import Search, Target
from storage.index.relational import RelationalIndex
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Existence, Held
from storage.index.stored import Usage as Used
from storage.objects.base import ObjectStore
from storage.objects.memory import MemoryObjectStore
from tests.storage.reconcile.dump import dump
from tests.storage.reconcile.test_reconcile import TENANTS, delete, fill, store

MAIN = TENANTS[0]
ANY_AGE = float("inf")


@pytest.fixture(params=["sqlite", "postgres"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    if request.param == "sqlite":
        index: RelationalIndex = SqliteIndex(tmp_path / "index.sqlite", max_age_s=ANY_AGE, fsync=False)
    else:
        index = PostgresIndex(request.getfixturevalue("postgres_schema"), max_age_s=ANY_AGE)
    yield Archive(MemoryObjectStore(), index, Limits())
    index.close()


def index_of(archive: Archive) -> RelationalIndex:
    assert isinstance(archive.index, RelationalIndex)
    return archive.index


def reindexed(archive: Archive, tmp_path: Path) -> tuple[dict[str, list[dict[str, Any]]], reconcile.Report]:
    path = tmp_path / f"fresh-{time.monotonic_ns()}.sqlite"
    with closing(SqliteIndex(path, max_age_s=ANY_AGE, fsync=False)) as fresh:
        report = reconcile.reindex(Archive(archive.objects, fresh, Limits()))
        return dump(fresh), report


def keys(archive: Archive) -> list[str]:
    return [info.key for info in archive.objects.list("")]


def rows_of_all_tables(index: RelationalIndex) -> str:
    """Every value that is text, everywhere."""
    tables = ("patient", "study", "series", "instance", "version", "change", "quarantine", "record", "name_key")
    with index._reader() as db:
        found = [db.execute(f"SELECT * FROM {table}").fetchall() for table in tables]
    return repr([[bytes(v) if isinstance(v, memoryview) else v for v in row] for rows in found for row in rows])


def test_everything_of_a_patient_goes_and_nothing_of_anybody_else(archive: Archive, tmp_path: Path) -> None:
    fill(archive)
    other = store(archive, PatientID="K-1", StudyInstanceUID="77.1")
    before = {key for key in keys(archive) if "/records/" not in key}
    found = reconcile.find(archive, MAIN, reconcile.Patient("", "T-1"))
    assert found.studies == ["1.1", "2.2", "4.4", "7.7", "8.8.8"]
    assert sum(each.quarantined for each in found.versions) == 1
    assert reconcile.find(archive, MAIN, reconcile.Patient("", "T-1")) == found

    record = reconcile.erase(archive, found)

    gone = {each.object_key for each in found.versions}
    left = {key for key in keys(archive) if "/records/" not in key}
    assert left == before - gone
    assert {key.split("/")[1] for key in gone} == {"1.1", "2.2", "4.4", "7.7", "8.8.8", "9.9"}
    # Somebody else's, in quarantine since it names a study of the erased patient.
    (spared,) = [key for key in left if key.startswith("main/1.1/")]
    assert [item.object_key for item in archive.index.quarantined(MAIN)] == [spared]
    text = rows_of_all_tables(index_of(archive)).replace(spared, "")
    for study in found.studies:
        assert archive.index.existence(Target(MAIN, study), EVERYTHING) is Existence.ABSENT
        assert f"main/{study}/" not in text
    assert archive.index.existence(Target(MAIN, other), EVERYTHING) is Existence.LIVE
    assert archive.index.existence(Target(TENANTS[1], ids.study_uid("1.1")), EVERYTHING) is Existence.LIVE
    assert archive.index.studies_of(MAIN, "", "T-1") == []
    sizes = [archive.objects.head(key).size for key in left - {spared} if key.startswith("main/")]
    assert archive.index.usage()[MAIN] == Used(len(sizes), sum(sizes))
    assert not {change.study_uid for change in archive.index.changes(MAIN, EVERYTHING, 0, 1000).rows} & set(
        found.studies
    )
    # No record names what is gone, but the one that says so; and that names versions alone.
    for key in (key for key in keys(archive) if key.startswith(records.prefix(MAIN))):
        body = archive.objects.get(key)
        assert key == records.key(MAIN, record) or not any(
            f"main/{study}/".encode() in body for study in ["2.2", "4.4", "7.7", "8.8.8"]
        )
        assert key != records.key(MAIN, record) or b"/" not in body

    again, report = reindexed(archive, tmp_path)
    assert again == dump(index_of(archive))
    assert (report.damaged, report.removed) == ([], 0)


def test_after_each_study_is_erased_a_reindex_gives_the_same_rows(archive: Archive, tmp_path: Path) -> None:
    fill(archive)
    for study in ("6.6", "4.4", "3.3", "5.5", "1.1", "9.9", "2.2"):
        found = reconcile.find(archive, MAIN, ids.study_uid(study))
        assert found.versions, study
        reconcile.erase(archive, found)
        assert not [key for key in keys(archive) if key.startswith(f"main/{study}/")]
        assert reconcile.find(archive, MAIN, ids.study_uid(study)).versions == []
        again, report = reindexed(archive, tmp_path)
        assert again == dump(index_of(archive)), study
        assert report.damaged == []


def test_an_instance_that_came_back_elsewhere_keeps_its_place_there(archive: Archive, tmp_path: Path) -> None:
    first, second = ids.study_uid("1.2.1"), ids.study_uid("1.2.2")
    same = {"SOPInstanceUID": "1.2.9"}
    store(archive, StudyInstanceUID=first, SeriesInstanceUID="1.2.1.1", **same)
    deletion = delete(archive, Target(MAIN, first))
    store(archive, StudyInstanceUID=second, SeriesInstanceUID="1.2.2.1", PatientID="K-1", **same)

    reconcile.erase(archive, reconcile.find(archive, MAIN, first))
    assert archive.index.existence(Target(MAIN, second), EVERYTHING) is Existence.LIVE
    assert archive.index.deletions(MAIN, EVERYTHING, deletion) == []
    assert f"main/{first}/" not in rows_of_all_tables(index_of(archive))
    assert reindexed(archive, tmp_path)[0] == dump(index_of(archive))

    reconcile.erase(archive, reconcile.find(archive, MAIN, second))
    assert archive.index.existence(Target(MAIN, second), EVERYTHING) is Existence.ABSENT
    assert index_of(archive).count(Search(MAIN, Level.STUDY)) == 0


def test_what_is_put_back_from_a_copy_is_removed_and_never_indexed(archive: Archive, tmp_path: Path) -> None:
    study = store(archive)
    (key,) = keys(archive)
    body = archive.objects.get(key)
    reconcile.erase(archive, reconcile.find(archive, MAIN, study))

    archive.objects.put(key, [body])
    found, report = reindexed(archive, tmp_path)
    assert (found["instance"], report.removed, report.damaged) == ([], 1, [])
    archive.objects.put(key, [body])
    report = reconcile.adopt_orphans(archive, 60.0, Conflicts(), time.time() + 3600)
    assert (report.indexed, report.removed) == (0, 1)
    assert key not in keys(archive)


class FailsToDelete:
    """Objects whose store goes down before the first of them is removed."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def delete(self, key: str) -> None:
        raise StorageUnavailable("down")


def test_an_erasure_that_breaks_off_after_its_rows_is_completed_by_the_background_work(archive: Archive) -> None:
    study = store(archive)
    (key,) = keys(archive)
    broken: Any = FailsToDelete(archive.objects)
    found = reconcile.find(archive, MAIN, study)
    with pytest.raises(StorageUnavailable):
        reconcile.erase(Archive(broken, archive.index, Limits()), found)
    assert archive.index.existence(Target(MAIN, study), EVERYTHING) is Existence.ABSENT
    assert key in keys(archive)
    assert reconcile.adopt_orphans(archive, 60.0, Conflicts(), time.time() + 3600).removed == 1
    assert key not in keys(archive)


def hold(archive: Archive, held: Held) -> ids.Version:
    record = archive.new_version()
    body = records.Hold(held).dumps()
    archive.objects.put(records.key(MAIN, record), [body])
    archive.index.hold(MAIN, record, body, held)
    return record


def test_what_is_held_is_not_purged_until_the_hold_has_ended(archive: Archive) -> None:
    by_study, by_patient, free = (store(archive, PatientID=name) for name in ("A-1", "B-1", "C-1"))
    for study in (by_study, by_patient, free):
        delete(archive, Target(MAIN, study))
    holds = [hold(archive, Held(by_study, "", "", "")), hold(archive, Held("", "", "B-1", ""))]
    assert archive.index.held(MAIN, [by_study, by_patient, free]) == {by_study, by_patient}
    assert archive.index.held(TENANTS[1], [by_study]) == frozenset()
    assert reconcile.purge(archive, -1.0) == 1
    for number, ended in enumerate(holds, 1):
        record, body = archive.new_version(), records.Release(ended).dumps()
        archive.objects.put(records.key(MAIN, record), [body])
        archive.index.release(MAIN, record, body, ended)
        assert reconcile.purge(archive, -1.0) == 1
        assert len(archive.index.in_force(MAIN)) == 2 - number


def test_a_reindex_keeps_the_holds_in_force(archive: Archive, tmp_path: Path) -> None:
    study = store(archive)
    ended, kept = hold(archive, Held(study, "", "", "case 1")), hold(archive, Held("", "X", "P 1", "case 2"))
    record, body = archive.new_version(), records.Release(ended).dumps()
    archive.objects.put(records.key(MAIN, record), [body])
    archive.index.release(MAIN, record, body, ended)
    with closing(SqliteIndex(tmp_path / "again.sqlite", max_age_s=ANY_AGE)) as fresh:
        reconcile.reindex(Archive(archive.objects, fresh, Limits()))
        ((tenant, state),) = fresh.in_force()
    assert (tenant, state.record, state.held) == (MAIN, kept, Held("", "X", "P 1", "case 2"))
    assert archive.index.in_force() == [(tenant, state)]
