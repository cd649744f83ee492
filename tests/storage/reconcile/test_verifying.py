"""Objects compared with their rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import reconcile, records
from storage.archive import Archive, Sender
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import StorageUnavailable
from storage.index.arrivals import Conflict
from storage.index.questions import Target
from storage.index.sqlite import SqliteIndex
from storage.objects.local import LocalObjectStore
from storage.reconcile.verifying import Selection, Verification, Wrong
from tests.instances import data_set, encode, extract

TENANT = ids.tenant("main")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    index = SqliteIndex(tmp_path / "index.sqlite", fsync=False)
    objects = LocalObjectStore(tmp_path / "archive", fsync=False)
    yield Archive(objects, index, Limits())
    index.close()
    objects.close()


def store(archive: Archive, tenant: ids.Tenant = TENANT) -> str:
    body = encode(data_set())
    version, found = archive.new_version(), extract(body)
    archive.store(tenant, version, found, [body], Sender(), Conflict.VERSION)
    return ids.InstanceKey(tenant, found.study_uid, found.series_uid, found.sop_uid).object_key(version)


def file_of(tmp_path: Path, object_key: str) -> Path:
    return tmp_path / "archive" / "objects" / object_key


def verify(archive: Archive, selection: Selection | None = None) -> Verification:
    found = Verification()
    reconcile.find_without_row(archive, selection.tenant if selection else None, found)
    reconcile.verify(archive, selection or Selection(), found, threads=3)
    return found


def test_what_is_whole_is_found_so_and_nothing_is_changed(archive: Archive, tmp_path: Path) -> None:
    keys = [store(archive) for _ in range(3)]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*")}
    found = verify(archive)
    assert (found.checked, found.wrong, found.without_row, found.foreign) == (3, [], [], [])
    assert found.checked_bytes == sum(file_of(tmp_path, key).stat().st_size for key in keys)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*")} == before


def test_everything_that_can_be_wrong_with_an_object_is_told_of_that_object(archive: Archive, tmp_path: Path) -> None:
    keys = [store(archive) for _ in range(4)]
    file_of(tmp_path, keys[0]).unlink()
    whole = file_of(tmp_path, keys[1]).read_bytes()
    file_of(tmp_path, keys[1]).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    file_of(tmp_path, keys[2]).write_bytes(whole[:-1])
    found = verify(archive)
    assert found.wrong == [(keys[0], Wrong.MISSING), (keys[1], Wrong.DIGEST), (keys[2], Wrong.SIZE)]
    assert found.checked == 4


class BadSector(LocalObjectStore):
    """A disk on which one object cannot be read, and then nothing at all."""

    bad = ""
    gone = False

    def open(self, key, byte_range=None):  # type: ignore[no-untyped-def]
        if self.gone or key == self.bad:
            raise StorageUnavailable("Input/output error")
        return super().open(key, byte_range)

    def list(self, prefix, start_after=""):  # type: ignore[no-untyped-def]
        if self.gone:
            raise StorageUnavailable("Input/output error")
        return super().list(prefix, start_after)


def test_one_object_that_cannot_be_read_is_told_and_a_store_that_does_not_answer_ends_it(tmp_path: Path) -> None:
    index, objects = SqliteIndex(tmp_path / "index.sqlite", fsync=False), BadSector(tmp_path / "archive", fsync=False)
    archive = Archive(objects, index, Limits())
    keys = [store(archive) for _ in range(3)]
    objects.bad = keys[1]
    assert verify(archive).wrong == [(keys[1], Wrong.UNREADABLE)]
    objects.gone = True
    with pytest.raises(StorageUnavailable):
        reconcile.verify(archive, Selection(), Verification(), threads=2)
    index.close()
    objects.close()


def test_deleted_objects_are_looked_at_until_they_are_removed(archive: Archive, tmp_path: Path) -> None:
    key = store(archive)
    target = Target(TENANT, ids.parse_object_key(key)[0].study_uid)
    archive.delete(target, archive.index.versions(target, EVERYTHING))
    assert verify(archive).checked == 1
    reconcile.purge(archive, 0.0, time.time() + 60)
    found = verify(archive)
    assert (found.checked, found.wrong) == (0, [])


class PurgedMeanwhile(LocalObjectStore):
    """An object is removed for good between its row and the look at it."""

    archive: Archive | None = None

    def open(self, key, byte_range=None):  # type: ignore[no-untyped-def]
        if self.archive is not None:
            reconcile.purge(self.archive, 0.0, time.time() + 60)
        return super().open(key, byte_range)


def test_what_is_removed_for_good_meanwhile_is_not_missing(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite", fsync=False)
    objects = PurgedMeanwhile(tmp_path / "archive", fsync=False)
    archive = Archive(objects, index, Limits())
    key = store(archive)
    target = Target(TENANT, ids.parse_object_key(key)[0].study_uid)
    archive.delete(target, archive.index.versions(target, EVERYTHING))
    objects.archive = archive
    assert verify(archive).wrong == []
    index.close()
    objects.close()


def test_objects_without_a_row_and_foreign_ones_are_told_but_not_wrong(archive: Archive) -> None:
    key = store(archive)
    old = ids.Version("0" + "1" * 25)
    orphan = ids.parse_object_key(key)[0].object_key(old)
    archive.objects.put(orphan, [b"x"])
    just_now = ids.parse_object_key(key)[0].object_key(archive.new_version())
    archive.objects.put(just_now, [b"x"])
    archive.objects.put("main/notes.txt", [b"x"])
    archive.objects.put(records.key(TENANT, archive.new_version()), [b"{}"])
    found = verify(archive)
    assert (found.without_row, found.foreign, found.wrong) == ([orphan], ["main/notes.txt"], [])


def test_a_part_of_them_can_be_chosen_and_a_run_goes_on_after_a_version(archive: Archive) -> None:
    keys = [store(archive) for _ in range(3)] + [store(archive, ids.tenant("other"))]
    versions = [ids.parse_object_key(key)[1] for key in keys]
    assert verify(archive, Selection(tenant=ids.tenant("other"))).checked == 1
    found = verify(archive, Selection(after=versions[1]))
    assert (found.checked, found.last) == (2, versions[3])
    found = verify(archive, Selection(chosen=lambda holding: holding.version == versions[2]))
    assert (found.checked, found.skipped) == (1, 3)
    assert verify(archive, Selection(after=ids.before_time(time.time() + 1))).checked == 0
    assert verify(archive, Selection(after=ids.before_time(time.time() - 60))).checked == 4
