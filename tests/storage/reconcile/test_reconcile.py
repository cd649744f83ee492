"""Reindex, reaper, and the bucket's format that they freeze."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from storage import reconcile, records
from storage.archive import Archive, Sender
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Computed, Level
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import StorageUnavailable
from storage.index.arrivals import Conflict, Conflicts
from storage.index.base import Index
from storage.index.postgres import PostgresIndex, PostgresSettings
from storage.index.questions import Search, Target
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Existence, StoredVersion
from storage.objects.base import ObjectInfo, ObjectStore, Segment
from storage.objects.local import LocalObjectStore
from storage.objects.memory import MemoryObjectStore
from storage.objects.s3 import S3ObjectStore, S3Settings
from storage.reconcile.recorded import Recorded
from tests.instances import CT, data_set, encapsulated, encode, extract, text
from tests.storage.reconcile.dump import dump

TENANTS = (ids.tenant("main"), ids.tenant("other"))


@pytest.fixture(params=["local", "memory", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "s3":
        settings: S3Settings = request.getfixturevalue("seaweedfs_bucket")
        store: ObjectStore = S3ObjectStore(settings)
    else:
        store = LocalObjectStore(tmp_path / "archive") if request.param == "local" else MemoryObjectStore()
    yield store
    store.close()


def store(
    archive: Archive,
    tenant: ids.Tenant = TENANTS[0],
    syntax: str = "1.2.840.10008.1.2.1",
    extra: bytes = b"",
    **values: Any,
) -> ids.StudyUid:
    body = encode(data_set(**values)) + extra
    extracted = extract(body, syntax)
    archive.store(tenant, archive.new_version(), extracted, [body], Sender("A", "B"), Conflict.VERSION)
    return extracted.study_uid


def fill(archive: Archive) -> None:
    """Everything that can happen: versions, alternatives, duplicates, quarantine, deletions, returns, tenants."""
    same = {"SOPInstanceUID": "1.1.1", "StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.0"}
    for description in ("first", "second", "first"):
        store(archive, StudyDescription=description, **same)
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "SPS1", "RP1"
    store(
        archive,
        StudyInstanceUID="1.1",
        SeriesInstanceUID="1.1.5",
        SOPInstanceUID="1.1.5.1",
        Modality="MR",
        InstanceNumber=2,
        RequestAttributesSequence=[request],
    )
    store(archive, StudyInstanceUID="9.9", SOPInstanceUID="1.1.1", SeriesInstanceUID="9.9.9")
    store(archive, StudyInstanceUID="1.1", PatientID="somebody else")
    packed = {"StudyInstanceUID": "2.2", "SeriesInstanceUID": "2.2.1", "SOPInstanceUID": "2.2.1.1", "PixelData": None}
    store(archive, extra=text(0x7FE00010, "OB", "aa"), **packed)
    store(archive, syntax="1.2.840.10008.1.2.4.70", extra=encapsulated(b"\xff\xd8\xff!"), **packed)
    for number in range(3):
        store(
            archive,
            StudyInstanceUID="3.3",
            SeriesInstanceUID=f"3.3.{number}",
            StudyDescription=f"series {number}",
            PatientID=None,
        )
    # Blank first in time, last in the bucket's order; then a blank one that is first in that order and late in time.
    for series, patient_id in (("6.6.9", ""), ("6.6.5", "T-6"), ("6.6.1", None), ("6.6.7", "T-6")):
        store(archive, StudyInstanceUID="6.6", SeriesInstanceUID=series, PatientID=patient_id, StudyDescription=series)
    delete(archive, Target(TENANTS[0], ids.study_uid("6.6"), ids.series_uid("6.6.5")))
    delete(archive, Target(TENANTS[0], ids.study_uid("3.3"), ids.series_uid("3.3.0")))
    returning = {"StudyInstanceUID": "4.4", "SeriesInstanceUID": "4.4.1", "SOPInstanceUID": "4.4.1.1"}
    store(archive, **returning)
    delete(archive, Target(TENANTS[0], ids.study_uid("4.4")))
    store(archive, **returning)
    store(archive, StudyInstanceUID="5.5")
    delete(archive, Target(TENANTS[0], ids.study_uid("5.5")))
    reconcile.purge(archive, 0.0, time.time() + 60)
    readers = ["Gray^Ann", "Sato^Ken"]
    store(archive, StudyInstanceUID="8.8.8", PatientName="Back^Again", NameOfPhysiciansReadingStudy=readers)
    archive.restore(TENANTS[0], delete(archive, Target(TENANTS[0], ids.study_uid("8.8.8"))))
    store(archive, StudyInstanceUID="7.7")
    delete(archive, Target(TENANTS[0], ids.study_uid("7.7")))
    store(archive, TENANTS[1], **same)


def delete(archive: Archive, target: Target) -> ids.Version:
    return archive.delete(target, archive.index.versions(target, EVERYTHING))


def answers(index: Index) -> list[object]:
    """Everything that an index answers, but for its own numbers."""
    everything: list[object] = []
    computed = {
        Level.PATIENT: (Computed.PATIENT_STUDIES, Computed.PATIENT_SERIES, Computed.PATIENT_INSTANCES),
        Level.STUDY: (
            Computed.MODALITIES_IN_STUDY,
            Computed.STUDY_SERIES,
            Computed.STUDY_INSTANCES,
            Computed.SOP_CLASSES_IN_STUDY,
        ),
        Level.SERIES: (Computed.SERIES_INSTANCES,),
        Level.INSTANCE: (Computed.TRANSFER_SYNTAXES,),
    }
    for tenant in TENANTS:
        for level in Level:
            everything += index.search(Search(tenant, level, computed=frozenset(computed[level])))
        for study in ("1.1", "2.2", "3.3", "4.4", "5.5", "6.6", "7.7", "8.8.8", "9.9"):
            target = Target(tenant, ids.study_uid(study))
            everything.append((study, index.existence(target, EVERYTHING), index.versions(target, EVERYTHING)))
            for located in index.locate(target, EVERYTHING):
                frames = index.layout(located.version_id).frames
                everything += [
                    (
                        located.key,
                        located.version,
                        located.object_key,
                        located.data_offset,
                        located.size,
                        located.sha256,
                    ),
                    (located.transfer_syntax_uid, located.instance_number, located.sop_class_uid),
                    list(index.metadata([located.version_id])),
                    index.layout(located.version_id),
                    [f.ranges for f in index.fragments(located.version_id, range(1, frames.count + 1))]
                    if frames.kind.value == "encapsulated"
                    else None,
                ]
        everything += index.quarantined(tenant)
    return everything


def test_a_reindex_from_the_bucket_alone_gives_the_same_answers(objects: ObjectStore, tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "before.sqlite")
    fill(Archive(objects, index, Limits()))
    before, everything = answers(index), dump(index)
    index.close()
    assert len(before) > 60
    assert all(everything.values())
    again = SqliteIndex(tmp_path / "after.sqlite", max_age_s=float("inf"))
    seen: list[int] = []
    report = reconcile.reindex(Archive(objects, again, Limits()), lambda so_far: seen.append(so_far.objects))
    assert answers(again) == before
    assert dump(again) == everything
    assert report.damaged == []
    assert (report.quarantined, report.records) == (2, 9)
    assert seen == sorted(seen)
    assert seen[: report.objects] == list(range(1, report.objects + 1))
    again.close()


def test_a_reindex_into_another_engine_gives_the_same_rows(tmp_path: Path, postgres_schema: PostgresSettings) -> None:
    objects, index = MemoryObjectStore(), SqliteIndex(tmp_path / "before.sqlite")
    fill(Archive(objects, index, Limits()))
    again = PostgresIndex(postgres_schema, max_age_s=float("inf"))
    reconcile.reindex(Archive(objects, again, Limits()))
    assert dump(again) == dump(index)
    assert answers(again) == answers(index)
    index.close()
    again.close()


def test_a_reindex_read_by_several_processes_gives_the_same_rows(tmp_path: Path) -> None:
    open_objects = partial(LocalObjectStore, tmp_path / "archive")
    objects, index = open_objects(), SqliteIndex(tmp_path / "before.sqlite")
    fill(Archive(objects, index, Limits()))
    again = SqliteIndex(tmp_path / "after.sqlite", max_age_s=float("inf"))
    with reconcile.ReadingProcesses(open_objects, Limits(), 3) as readers:
        report = reconcile.reindex(Archive(objects, again, Limits()), readers=readers)
    assert report.damaged == []
    assert dump(again) == dump(index)
    index.close()
    again.close()
    objects.close()


def test_a_reindex_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    objects, index = MemoryObjectStore(), SqliteIndex(tmp_path / "before.sqlite")
    archive = Archive(objects, index, Limits())
    fill(archive)
    target = Target(TENANTS[0], ids.study_uid("1.5"))
    for number in range(600):
        store(archive, StudyInstanceUID="1.5", SeriesInstanceUID="1.5.1", SOPInstanceUID=f"1.5.1.{number}")

    def break_off(report: reconcile.Report) -> None:
        if report.indexed:
            raise KeyboardInterrupt

    again = SqliteIndex(tmp_path / "after.sqlite", max_age_s=float("inf"))
    with pytest.raises(KeyboardInterrupt):
        reconcile.reindex(Archive(objects, again, Limits()), break_off)
    # A gateway may have gone on with the old index before the reindex does.
    deletion = delete(archive, target)
    archive.restore(TENANTS[0], deletion)
    delete(archive, Target(TENANTS[0], ids.study_uid("1.1")))
    report = reconcile.reindex(Archive(objects, again, Limits()))
    assert 0 < report.known < 600
    assert report.seen == report.known + report.indexed + report.quarantined
    assert dump(again) == dump(index)
    index.close()
    again.close()


def test_what_came_first_keeps_its_place_whatever_the_order_of_the_keys(tmp_path: Path) -> None:
    """An object that a crash left without a row must not push an acknowledged instance into quarantine."""
    objects, index = MemoryObjectStore(), SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    store(archive, SOPInstanceUID="1.1.1", StudyInstanceUID="9.9")
    leave_orphan(archive, SOPInstanceUID="1.1.1", StudyInstanceUID="1.1")
    again = SqliteIndex(tmp_path / "again.sqlite", max_age_s=float("inf"))
    assert reconcile.reindex(Archive(objects, again, Limits())).quarantined == 1
    assert again.existence(Target(TENANTS[0], ids.study_uid("9.9")), EVERYTHING) is Existence.LIVE
    index.close()
    again.close()


def test_a_second_reindex_into_the_same_index_changes_nothing(tmp_path: Path) -> None:
    objects, index = MemoryObjectStore(), SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    store(archive, StudyInstanceUID="1.1")
    before = answers(index)
    reconcile.reindex(archive)
    assert answers(index) == before
    index.close()


def test_damaged_and_foreign_objects_are_reported_and_left_alone(tmp_path: Path) -> None:
    objects, index = MemoryObjectStore(), SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    study = store(archive)
    (located,) = index.locate(Target(TENANTS[0], study), EVERYTHING)
    clock = ids.VersionClock()
    objects.put(located.key.object_key(clock.next()), [objects.get(located.object_key)[:-10]])
    elsewhere = ids.InstanceKey(TENANTS[0], ids.study_uid("7.7"), ids.series_uid("7.8"), ids.sop_uid("7.9"))
    objects.put(elsewhere.object_key(clock.next()), [objects.get(located.object_key)])
    objects.put("main/notes.txt", [b"hello"])
    objects.put("Foreign/readme.txt", [b"hello"])
    objects.put(records.key(TENANTS[0], clock.next()), [b"not a record"])
    again = SqliteIndex(tmp_path / "again.sqlite", max_age_s=float("inf"))
    report = reconcile.reindex(Archive(objects, again, Limits()))
    assert len(report.damaged) == 5
    assert report.indexed == 1
    assert report.objects == len(list(objects.list("")))
    index.close()
    again.close()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    index = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    yield Archive(MemoryObjectStore(), index, Limits())
    index.close()


def later(archive: Archive, conflict: Conflict = Conflict.VERSION) -> reconcile.Report:
    return reconcile.adopt_orphans(archive, 3600, Conflicts(conflict), now_s=time.time() + 3601)


def leave_orphan(archive: Archive, **values: Any) -> str:
    """An object whose row was never written, as a crash leaves it."""
    body = encode(data_set(**values))
    found = extract(body)
    key = ids.InstanceKey(TENANTS[0], found.study_uid, found.series_uid, found.sop_uid).object_key(
        archive.new_version()
    )
    archive.objects.put(key, [file_meta.write(file_meta.FileMeta(found.transfer_syntax_uid, CT, found.sop_uid)), body])
    return key


def test_what_is_beside_the_archive_is_left_alone(archive: Archive) -> None:
    archive.objects.put(".audit/0/1.json", [b"{}"])
    report = later(archive)
    assert (report.objects, report.damaged) == (0, [])
    assert [info.key for info in archive.objects.list("")] == [".audit/0/1.json"]


def test_an_object_without_a_row_is_left_alone_for_the_grace_time_and_then_indexed(archive: Archive) -> None:
    leave_orphan(archive, StudyInstanceUID="6.6")
    assert reconcile.adopt_orphans(archive, 3600, Conflicts()).indexed == 0
    report = later(archive)
    assert (report.indexed, report.removed) == (1, 0)
    assert archive.index.existence(Target(TENANTS[0], ids.study_uid("6.6")), EVERYTHING) is Existence.LIVE
    assert later(archive).indexed == 0


def test_an_orphan_whose_content_is_there_is_removed(archive: Archive) -> None:
    same = {"SOPInstanceUID": "1.1.1", "StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.0"}
    store(archive, **same)
    kept = {info.key for info in archive.objects.list("")}
    leave_orphan(archive, **same)
    assert later(archive).removed == 1
    assert {info.key for info in archive.objects.list("")} == kept


def test_a_deletion_that_a_crash_cut_off_after_its_record_is_completed(archive: Archive) -> None:
    store(archive, StudyInstanceUID="7.7")
    target = Target(TENANTS[0], ids.study_uid("7.7"))
    versions = tuple(each.object_key for each in archive.index.versions(target, EVERYTHING))
    body = records.Deletion("7.7", None, None, versions).dumps()
    archive.objects.put(records.key(TENANTS[0], archive.new_version()), [body])
    later(archive)
    assert archive.index.existence(target, EVERYTHING) is Existence.DELETED


class Refusing(SqliteIndex):
    """An index whose deletions fail, before they are applied or after."""

    applies = False

    def delete(self, tenant: ids.Tenant, record: ids.Version, body: bytes, versions: Sequence[StoredVersion]) -> None:
        if self.applies:
            super().delete(tenant, record, body, versions)
        raise StorageUnavailable("the index is too busy to write")


@pytest.mark.parametrize("applies", [False, True])
def test_what_is_acknowledged_after_a_deletion_failed_is_not_deleted_later(tmp_path: Path, applies: bool) -> None:
    index = Refusing(tmp_path / "index.sqlite", max_age_s=float("inf"))
    index.applies = applies
    archive = Archive(MemoryObjectStore(), index, Limits())
    same = {"SOPInstanceUID": "4.4.1.1", "StudyInstanceUID": "4.4", "SeriesInstanceUID": "4.4.1"}
    store(archive, **same)
    target = Target(TENANTS[0], ids.study_uid("4.4"))
    with pytest.raises(StorageUnavailable):
        delete(archive, target)
    store(archive, **same)
    index.close()
    again = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(archive.objects, again, Limits())
    later(archive)
    assert again.existence(target, EVERYTHING) is Existence.LIVE
    rebuilt = SqliteIndex(tmp_path / "rebuilt.sqlite", max_age_s=float("inf"))
    reconcile.reindex(Archive(archive.objects, rebuilt, Limits()))
    assert rebuilt.existence(target, EVERYTHING) is Existence.LIVE
    again.close()
    rebuilt.close()


def test_of_two_deletions_at_once_that_both_failed_none_counts() -> None:
    clock = ids.VersionClock()
    version, first, second, one, other = (clock.next() for _ in range(5))
    where = ids.InstanceKey(TENANTS[0], ids.study_uid("4.4"), ids.series_uid("4.4.1"), ids.sop_uid("4.4.1.1"))
    key = where.object_key(version)
    found = Recorded()
    for name in (first, second):
        found.take(name, records.Deletion("4.4", None, None, (key,)).dumps())
    for name, failed in ((one, first), (other, second)):
        found.take(name, records.Restoration(failed, (key,), withdrawal=True).dumps())
    assert found.deletion_of(key) == ""


def test_a_deletion_holds_when_another_one_of_the_same_moment_failed(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(MemoryObjectStore(), index, Limits())
    store(archive, StudyInstanceUID="4.4")
    target = Target(TENANTS[0], ids.study_uid("4.4"))
    versions = index.versions(target, EVERYTHING)
    held = archive.delete(target, versions)
    refusing = Refusing(tmp_path / "index.sqlite", max_age_s=float("inf"))
    with pytest.raises(StorageUnavailable):
        Archive(archive.objects, refusing, Limits()).delete(target, versions)
    refusing.close()
    later(archive)
    rebuilt = SqliteIndex(tmp_path / "rebuilt.sqlite", max_age_s=float("inf"))
    reconcile.reindex(Archive(archive.objects, rebuilt, Limits()))
    assert dump(rebuilt) == dump(index)
    for each in (index, rebuilt):
        assert each.existence(target, EVERYTHING) is Existence.DELETED
        assert each.restorable(TENANTS[0], held) == versions
        each.close()


def test_a_purge_removes_the_objects_of_old_deletions_only(archive: Archive) -> None:
    store(archive, StudyInstanceUID="5.5")
    store(archive, StudyInstanceUID="6.6")
    target = Target(TENANTS[0], ids.study_uid("5.5"))
    ((version),) = archive.index.versions(target, EVERYTHING)
    deletion = delete(archive, target)
    assert reconcile.purge(archive, 3600.0) == 0
    assert reconcile.purge(archive, 3600.0, time.time() + 7200) == 1
    keys = [info.key for info in archive.objects.list("")]
    assert version.object_key not in keys
    assert len([key for key in keys if not records.is_record(key)]) == 1
    assert archive.restore(TENANTS[0], deletion) == 0
    assert reconcile.purge(archive, 3600.0, time.time() + 7200) == 0


def test_an_undone_deletion_is_undone_on_an_older_index_too(tmp_path: Path) -> None:
    objects = MemoryObjectStore()
    index = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    store(archive, StudyInstanceUID="6.6")
    deletion = delete(archive, Target(TENANTS[0], ids.study_uid("6.6")))
    older = SqliteIndex(tmp_path / "older.sqlite", max_age_s=float("inf"))
    reconcile.reindex(Archive(objects, older, Limits()))
    archive.restore(TENANTS[0], deletion)
    later(Archive(objects, older, Limits()))
    assert answers(older) == answers(index)
    index.close()
    older.close()


def test_what_came_back_after_a_deletion_is_not_taken_for_a_second_copy_on_an_older_index(tmp_path: Path) -> None:
    objects = MemoryObjectStore()
    index = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    same = {"SOPInstanceUID": "4.4.1.1", "StudyInstanceUID": "4.4", "SeriesInstanceUID": "4.4.1"}
    store(archive, **same)
    older = SqliteIndex(tmp_path / "older.sqlite", max_age_s=float("inf"))
    reconcile.reindex(Archive(objects, older, Limits()))
    target = Target(TENANTS[0], ids.study_uid("4.4"))
    delete(archive, target)
    store(archive, **same)
    before = answers(index)
    assert later(Archive(objects, older, Limits())).removed == 0
    assert answers(older) == before
    index.close()
    older.close()


def test_a_deletion_after_an_undone_one_holds_on_an_older_index(tmp_path: Path) -> None:
    objects = MemoryObjectStore()
    index = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    store(archive, StudyInstanceUID="6.6")
    target = Target(TENANTS[0], ids.study_uid("6.6"))
    first = delete(archive, target)
    older = SqliteIndex(tmp_path / "older.sqlite", max_age_s=float("inf"))
    reconcile.reindex(Archive(objects, older, Limits()))
    archive.restore(TENANTS[0], first)
    second = delete(archive, target)
    later(Archive(objects, older, Limits()))
    assert older.existence(target, EVERYTHING) is Existence.DELETED
    assert [each.record for each in older.deletions(TENANTS[0], EVERYTHING)] == [second]
    index.close()
    older.close()


def test_what_an_undoing_left_deleted_stays_so_after_a_reindex(tmp_path: Path) -> None:
    objects = MemoryObjectStore()
    index = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    for sop in ("1.1.1", "1.1.2"):
        store(archive, StudyInstanceUID="1.1", SOPInstanceUID=sop)
    deletion = delete(archive, Target(TENANTS[0], ids.study_uid("1.1")))
    store(archive, StudyInstanceUID="9.9", SOPInstanceUID="1.1.1")
    assert archive.restore(TENANTS[0], deletion) == 1
    again = SqliteIndex(tmp_path / "again.sqlite", max_age_s=float("inf"))
    assert reconcile.reindex(Archive(objects, again, Limits())).quarantined == 0
    assert answers(again) == answers(index)
    assert again.existence(Target(TENANTS[0], ids.study_uid("9.9")), EVERYTHING) is Existence.LIVE
    index.close()
    again.close()


class TakenAway(MemoryObjectStore):
    """Objects; something happens just after a record of an undoing is written."""

    then: Callable[[], object] | None = None

    def put(self, key: str, segments: Sequence[Segment]) -> ObjectInfo:
        found = super().put(key, segments)
        if self.then is not None and records.is_record(key):
            then, self.then = self.then, None
            then()
        return found


def test_two_undoings_at_once_undo_once_and_take_nothing_back(tmp_path: Path) -> None:
    objects = TakenAway()
    index = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    store(archive, StudyInstanceUID="5.5")
    target = Target(TENANTS[0], ids.study_uid("5.5"))
    deletion = delete(archive, target)
    objects.then = lambda: archive.restore(TENANTS[0], deletion)
    assert archive.restore(TENANTS[0], deletion) == 1
    assert index.existence(target, EVERYTHING) is Existence.LIVE
    # The background work of another process may come first as well.
    deletion = delete(archive, target)
    objects.then = lambda: later(archive)
    assert archive.restore(TENANTS[0], deletion) == 1
    assert index.existence(target, EVERYTHING) is Existence.LIVE
    index.close()


def test_a_deletion_that_an_undoing_of_an_earlier_one_overtakes_holds_after_a_reindex_too(tmp_path: Path) -> None:
    objects = TakenAway()
    index = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    store(archive, StudyInstanceUID="5.5")
    target = Target(TENANTS[0], ids.study_uid("5.5"))
    versions = index.versions(target, EVERYTHING)
    first = archive.delete(target, versions)
    objects.then = lambda: archive.restore(TENANTS[0], first)
    second = archive.delete(target, versions)
    again = SqliteIndex(tmp_path / "again.sqlite", max_age_s=float("inf"))
    reconcile.reindex(Archive(objects, again, Limits()))
    assert dump(again) == dump(index)
    for each in (index, again):
        assert each.existence(target, EVERYTHING) is Existence.DELETED
        assert each.restorable(TENANTS[0], second) == versions
        each.close()


def test_an_undoing_that_a_purge_overtakes_is_no_undoing_after_a_reindex_either(tmp_path: Path) -> None:
    objects = TakenAway()
    index = SqliteIndex(tmp_path / "index.sqlite", max_age_s=float("inf"))
    archive = Archive(objects, index, Limits())
    store(archive, StudyInstanceUID="5.5")
    target = Target(TENANTS[0], ids.study_uid("5.5"))
    deletion = delete(archive, target)
    objects.then = lambda: index.purge_due(time.time() + 60)
    assert archive.restore(TENANTS[0], deletion) == 0
    again = SqliteIndex(tmp_path / "again.sqlite", max_age_s=float("inf"))
    reconcile.reindex(Archive(objects, again, Limits()))
    for each in (index, again):
        assert each.existence(target, EVERYTHING) is Existence.DELETED
        each.close()


def test_an_orphan_that_the_policy_would_have_refused_is_left_alone(archive: Archive) -> None:
    same = {"SOPInstanceUID": "1.1.1", "StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.0"}
    store(archive, **same)
    leave_orphan(archive, StudyDescription="other", **same)
    report = later(archive, Conflict.REJECT)
    assert (report.removed, len(report.damaged)) == (0, 1)


def test_an_orphan_in_the_wrong_place_goes_to_quarantine(archive: Archive) -> None:
    store(archive, SOPInstanceUID="1.1.1", StudyInstanceUID="1.1")
    leave_orphan(archive, SOPInstanceUID="1.1.1", StudyInstanceUID="9.9")
    assert later(archive).quarantined == 1
    assert len(archive.index.quarantined(TENANTS[0])) == 1


def test_what_has_a_row_or_is_no_instance_or_cannot_be_read_is_left_alone(archive: Archive) -> None:
    fill(archive)
    archive.objects.put("main/notes.txt", [b"hello"])
    archive.objects.put("Foreign/readme.txt", [b"hello"])
    broken = leave_orphan(archive, StudyInstanceUID="8.8")
    archive.objects.delete(broken)
    archive.objects.put(broken, [b"not what it was"])
    before, kept = answers(archive.index), {info.key for info in archive.objects.list("")}
    report = later(archive)
    assert [key for key, _ in report.damaged] == [broken]
    assert {info.key for info in archive.objects.list("")} == kept
    assert answers(archive.index) == before


def test_an_index_restored_from_an_older_copy_gets_the_rows_it_lacks(tmp_path: Path) -> None:
    objects = MemoryObjectStore()
    index = SqliteIndex(tmp_path / "index.sqlite")
    fill(Archive(objects, index, Limits()))
    before = answers(index)
    index.close()
    empty = Archive(objects, SqliteIndex(tmp_path / "older.sqlite", max_age_s=float("inf")), Limits())
    later(empty)
    assert answers(empty.index) == before
    empty.index.close()
