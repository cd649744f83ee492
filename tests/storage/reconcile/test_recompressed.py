"""What is recompressed in a bucket: an index made anew knows it, and what is left of a crash is taken in or goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import reconcile
from storage.archive import Archive, Sender
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.dicom.origin import Origin
from storage.index.arrivals import Arrival, Conflict, Conflicts, Outcome
from storage.index.questions import Target
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Located
from storage.objects.base import ObjectStore
from storage.objects.local import LocalObjectStore
from storage.objects.s3 import S3ObjectStore
from storage.reconcile import reading
from tests.instances import data_set, encapsulated, encode, extract, text
from tests.storage.reconcile.dump import dump

MAIN = ids.tenant("main")
PACKED = "1.2.840.10008.1.2.4.202"
ANY_AGE = float("inf")


@pytest.fixture(params=["local", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    store: ObjectStore = (
        LocalObjectStore(tmp_path / "archive")
        if request.param == "local"
        else S3ObjectStore(request.getfixturevalue("seaweedfs_bucket"))
    )
    with closing(store):
        yield store


@pytest.fixture
def archive(objects: ObjectStore, tmp_path: Path) -> Iterator[Archive]:
    with closing(SqliteIndex(tmp_path / "index.sqlite", max_age_s=ANY_AGE, fsync=False)) as index:
        yield Archive(objects, index, Limits())


class Pair:
    """An instance and what is to stand beside it."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        base = encode(data_set(PixelData=None))
        self.body, self.packed = base + text(0x7FE00010, "OB", "aa"), base + encapsulated(b"\xff\x4f\xff\x51")
        self.extract = extract(self.body)
        self.version = archive.new_version()
        self.target = Target(MAIN, self.extract.study_uid)
        archive.store(MAIN, self.version, self.extract, [self.body], Sender("CT", "GW"), Conflict.VERSION)
        self.source = self.located()
        assert self.source is not None

    def located(self) -> Located | None:
        return next(iter(self.archive.index.locate(self.target, EVERYTHING)), None)

    def origin(self) -> Origin:
        assert self.source is not None
        return Origin(self.version, self.source.sha256, self.source.transfer_syntax_uid, "cd" * 32)

    def recompress(self) -> Outcome:
        made = extract(self.packed, PACKED)
        sender, version = Sender("CT", "GW", "CT"), ids.version_beside(self.version)
        return self.archive.store(
            MAIN, version, made, [self.packed], sender, Conflict.VERSION, made_of=self.origin()
        ).outcome

    def leave_object(self) -> str:
        """What a crash between object and row leaves."""
        assert self.source is not None
        meta = file_meta.FileMeta(
            PACKED, self.source.sop_class_uid, self.source.key.sop_uid, private=self.origin().dumps()
        )
        key = self.source.key.object_key(ids.version_beside(self.version))
        self.archive.objects.put(key, [file_meta.write(meta), self.packed])
        return key

    def beside(self) -> Located | None:
        located = self.located()
        return None if located is None else self.archive.index.beside(located)

    def object_keys(self) -> list[str]:
        return [info.key for info in self.archive.objects.list(f"main/{self.target.study_uid}/")]

    def adopt(self) -> reconcile.Report:
        return reconcile.adopt_orphans(self.archive, 60.0, Conflicts(), time.time() + 3600)


def test_an_index_made_anew_knows_what_stands_beside_what(archive: Archive, tmp_path: Path) -> None:
    live, gone = Pair(archive), Pair(archive)
    for each in (live, gone):
        assert each.recompress() is Outcome.ALTERNATIVE
    archive.delete(gone.target, archive.index.versions(gone.target, EVERYTHING))
    found = live.beside()
    assert found is not None
    made = reading.read(archive.objects, Limits(), found.object_key)
    assert isinstance(made, Arrival)
    assert (made.beside, made.source_ae_title) == (live.version, "CT")
    with closing(SqliteIndex(tmp_path / "fresh.sqlite", max_age_s=ANY_AGE, fsync=False)) as fresh:
        report = reconcile.reindex(Archive(archive.objects, fresh, Limits()))
        assert (report.indexed, report.damaged) == (4, [])
        assert isinstance(archive.index, SqliteIndex)
        assert dump(fresh) == dump(archive.index)


def test_what_a_crash_left_without_a_row_is_taken_in_beside_its_source(archive: Archive) -> None:
    pair = Pair(archive)
    key = pair.leave_object()
    assert pair.adopt().indexed == 1
    found = pair.beside()
    assert found is not None
    assert found.object_key == key
    located = pair.located()
    assert located is not None
    assert located.version == pair.version


@pytest.mark.parametrize("how", ["deleted", "erased"])
def test_what_a_crash_left_does_not_outlive_its_source(archive: Archive, how: str) -> None:
    pair = Pair(archive)
    found = reconcile.find(archive, MAIN, pair.target.study_uid)
    key = pair.leave_object()
    if how == "deleted":
        archive.delete(pair.target, archive.index.versions(pair.target, EVERYTHING))
    else:
        # It was put while the erasure was under way.
        reconcile.erase(archive, found)
    assert key in pair.object_keys()
    report = pair.adopt()
    assert (report.removed, report.indexed, report.damaged) == (1, 0, [])
    assert key not in pair.object_keys()
    assert pair.located() is None


def test_without_its_source_it_is_left_and_reported_and_never_served(archive: Archive) -> None:
    pair = Pair(archive)
    key = pair.leave_object()
    assert pair.source is not None
    archive.index.withdraw(pair.source.key, pair.version)
    archive.objects.delete(pair.source.object_key)
    report = pair.adopt()
    assert [damaged for damaged, _ in report.damaged] == [key]
    assert key in pair.object_keys()
    assert pair.located() is None


def test_an_erasure_takes_both_objects_and_purging_a_deletion_does(archive: Archive) -> None:
    erased, purged = Pair(archive), Pair(archive)
    for each in (erased, purged):
        each.recompress()
        assert len(each.object_keys()) == 2
    reconcile.erase(archive, reconcile.find(archive, MAIN, erased.target.study_uid))
    assert erased.object_keys() == []
    archive.delete(purged.target, archive.index.versions(purged.target, EVERYTHING))
    assert reconcile.purge(archive, 0.0, time.time() + 60) == 2
    assert purged.object_keys() == []


@pytest.mark.parametrize("how", ["deleted", "erased"])
def test_what_is_made_while_its_source_is_removed_goes_with_it(archive: Archive, how: str) -> None:
    pair = Pair(archive)
    found = reconcile.find(archive, MAIN, pair.target.study_uid)
    versions = archive.index.versions(pair.target, EVERYTHING)
    assert pair.recompress() is Outcome.ALTERNATIVE
    if how == "deleted":
        archive.delete(pair.target, versions)
        assert pair.object_keys() == [versions[0].object_key]
    else:
        reconcile.erase(archive, found)
        assert pair.object_keys() == []


def test_one_that_is_refused_leaves_no_object(archive: Archive) -> None:
    pair = Pair(archive)
    assert pair.recompress() is Outcome.ALTERNATIVE
    assert pair.recompress() is Outcome.DUPLICATE
    assert len(pair.object_keys()) == 2
    archive.delete(pair.target, archive.index.versions(pair.target, EVERYTHING))
    assert pair.recompress() is Outcome.DUPLICATE
    assert len(pair.object_keys()) == 2
