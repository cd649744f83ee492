"""The pair of bucket and index."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import records
from storage.archive import Archive, Sender
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import ObjectDamaged, StorageUnavailable
from storage.index.arrivals import Arrival, Commit, Conflict, Outcome
from storage.index.questions import Target
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Existence
from storage.objects.memory import MemoryObjectStore
from tests.instances import data_set, encode, extract
from tests.programs import need_program

MAIN = ids.tenant("main")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    index = SqliteIndex(tmp_path / "index.sqlite")
    yield index
    index.close()


@pytest.fixture
def archive(index: SqliteIndex) -> Archive:
    return Archive(MemoryObjectStore(), index, Limits())


def store(
    archive: Archive, body: bytes, syntax: str = "1.2.840.10008.1.2.1", conflict: Conflict = Conflict.VERSION
) -> Commit:
    return archive.store(MAIN, archive.new_version(), extract(body, syntax), [body], Sender("CT1", "GATEWAY"), conflict)


def keys(archive: Archive) -> list[str]:
    return [info.key for info in archive.objects.list("")]


def only(archive: Archive, body: bytes, syntax: str = "1.2.840.10008.1.2.1") -> object:
    (located,) = archive.index.locate(Target(MAIN, extract(body, syntax).study_uid), EVERYTHING)
    return located


def test_the_object_is_our_file_meta_and_the_data_set_as_received(archive: Archive) -> None:
    body = encode(data_set())
    store(archive, body)
    (located,) = archive.index.locate(Target(MAIN, extract(body).study_uid), EVERYTHING)
    whole = b"".join(archive.blocks(located))
    assert whole[located.data_offset :] == body
    assert whole[:128] == bytes(128)
    assert b"".join(archive.data_set(located)) == body
    assert archive.read(located, 8, 5) == body[8:13]
    info = archive.objects.head(located.object_key)
    assert (info.size, info.sha256) == (located.size, located.sha256)


def test_a_duplicate_leaves_no_second_object(archive: Archive) -> None:
    body = encode(data_set())
    assert store(archive, body).outcome is Outcome.STORED
    assert store(archive, body).outcome is Outcome.DUPLICATE
    assert len(keys(archive)) == 1


def test_a_rejected_arrival_leaves_no_object(archive: Archive) -> None:
    same = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
    store(archive, encode(data_set(**same)))
    again = store(archive, encode(data_set(StudyDescription="other", **same)), conflict=Conflict.REJECT)
    assert again.outcome is Outcome.REJECTED
    assert len(keys(archive)) == 1


def test_a_misplaced_arrival_is_kept_in_quarantine_with_a_record(archive: Archive) -> None:
    same = {"SOPInstanceUID": "1.2.3", "SeriesInstanceUID": "1.3"}
    store(archive, encode(data_set(StudyInstanceUID="1.2", **same)))
    body = encode(data_set(StudyInstanceUID="9.9", **same))
    assert store(archive, body).outcome is Outcome.MISPLACED
    (item,) = archive.index.quarantined(MAIN)
    assert archive.objects.get(item.object_key).endswith(body)
    record = next(key for key in keys(archive) if records.is_record(key))
    assert records.loads(archive.objects.get(record)) == records.Quarantine(item.object_key, item.reason)


class _FailingIndex(SqliteIndex):
    """An index that goes down between the object and its row."""

    def commit(self, arrival: Arrival) -> Commit:
        raise StorageUnavailable("down")


def test_an_index_that_goes_down_leaves_an_orphan_and_no_success(tmp_path: Path) -> None:
    index = _FailingIndex(tmp_path / "index.sqlite")
    archive = Archive(MemoryObjectStore(), index, Limits())
    body = encode(data_set())
    with pytest.raises(StorageUnavailable):
        store(archive, body)
    assert index.existence(Target(MAIN, extract(body).study_uid), EVERYTHING) is Existence.ABSENT
    assert len(keys(archive)) == 1
    index.close()


def test_a_deletion_is_a_record_and_the_object_stays(archive: Archive) -> None:
    body = encode(data_set())
    store(archive, body)
    target = Target(MAIN, extract(body).study_uid)
    versions = archive.index.versions(target, EVERYTHING)
    archive.delete(target, versions)
    assert archive.index.existence(target, EVERYTHING) is Existence.DELETED
    found = [records.loads(archive.objects.get(key)) for key in keys(archive) if records.is_record(key)]
    assert found == [records.Deletion(target.study_uid, None, None, tuple(each.object_key for each in versions))]
    assert len(keys(archive)) == 2


def test_a_range_of_a_deflated_data_set_is_of_the_inflated_bytes(archive: Archive) -> None:
    found = data_set(PixelData=os.urandom(400_000) + bytes(112_000), Rows=512, Columns=500)
    plain = encode(found)
    syntax = file_meta.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    body = encode(found, syntax)
    store(archive, body, syntax)
    (located,) = archive.index.locate(Target(MAIN, extract(plain).study_uid), EVERYTHING)
    assert archive.read(located, 300_000, 1000) == plain[300_000:301_000]
    assert b"".join(archive.data_set(located)) == plain
    with pytest.raises(ObjectDamaged):
        archive.read(located, len(plain) - 10, 1000)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"record": "unheard of"}', b"\xff"])
def test_a_damaged_record_is_said_to_be_damaged(body: bytes) -> None:
    with pytest.raises(ObjectDamaged):
        records.loads(body)


_STORE = """
import os, sys
from pathlib import Path
from storage.archive import Archive, Sender
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.index.arrivals import Conflict
from storage.index.sqlite import SqliteIndex
from storage.objects.local import LocalObjectStore
from tests.instances import data_set, encode, extract
root = Path(sys.argv[1])
archive = Archive(LocalObjectStore(root / "archive"), SqliteIndex(root / "index.sqlite"), Limits())
body = encode(data_set())
os.write(1, b"BEGIN\\n")
archive.store(ids.tenant("main"), archive.new_version(), extract(body), [body], Sender(), Conflict.VERSION)
os.write(1, b"ACKNOWLEDGED\\n")
"""


@need_program("strace", "strace")
def test_the_order_of_system_calls_is_file_then_folder_then_index_then_acknowledgement(tmp_path: Path) -> None:
    log = tmp_path / "strace"
    calls = "fsync,fdatasync,link,linkat,rename,renameat,renameat2,write,pwrite64,openat"
    subprocess.run(
        ["strace", "-f", "-y", "-e", f"trace={calls}", "-o", log, sys.executable, "-c", _STORE, tmp_path],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
    )
    lines = log.read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if '"BEGIN' in line)
    lines = lines[begin:]

    def first(*words: str, after: int = 0) -> int:
        return next(n for n, line in enumerate(lines) if n > after and all(word in line for word in words))

    file_synced = first("sync(", "/archive/tmp/")
    published = first("link", ".dcm", after=file_synced)
    folder_synced = first("sync(", "/archive/objects/main/", after=published)
    row_synced = first("sync(", "index.sqlite-wal", after=folder_synced)
    acknowledged = first("ACKNOWLEDGED")
    assert file_synced < published < folder_synced < row_synced < acknowledged
    last_row_write = max(n for n, line in enumerate(lines) if "pwrite64" in line and "index.sqlite-wal" in line)
    assert last_row_write < max(n for n, line in enumerate(lines) if "sync(" in line and "-wal" in line) < acknowledged


_WITHOUT_FSYNC = """
import sys
from pathlib import Path
from storage.control.sqlite import SqliteControl
from storage.index.sqlite import SqliteIndex
from tests.storage.index.conformance import put
root = Path(sys.argv[1])
index, control = SqliteIndex(root / "index.sqlite", fsync=False), SqliteControl(root / "control.sqlite", fsync=False)
put(index)
control.put("kind", "key", {}, expected=None)
index.close()
control.close()
"""


@need_program("strace", "strace")
def test_without_fsync_no_database_is_synced_from_the_first_moment_on(tmp_path: Path) -> None:
    log = tmp_path / "strace"
    command = [sys.executable, "-c", _WITHOUT_FSYNC, tmp_path]
    subprocess.run(
        ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,pwrite64", "-o", log, *command],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
    )
    assert "index.sqlite-wal" in log.read_text()
    assert [line for line in log.read_text().splitlines() if "sync(" in line] == []
