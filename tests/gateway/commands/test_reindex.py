"""``gateway reindex`` as a process: its report, and what a kill -9 in the middle leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from storage.archive import Archive
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.errors import StorageUnavailable
from storage.index.sqlite import SqliteIndex
from storage.objects.local import LocalObjectStore
from tests.instances import CT, data_set, encode

INSTANCES = 1500
STUDY, SERIES = "1.2.3", "1.2.3.1"


def fill(directory: Path, count: int) -> None:
    objects, clock = LocalObjectStore(directory / "archive", fsync=False), ids.VersionClock()
    place = ids.tenant("main"), ids.study_uid(STUDY), ids.series_uid(SERIES)
    body = encode(data_set(StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SOPInstanceUID="1.2.3.1.99999"))
    for number in range(count):
        sop = f"1.2.3.1.{number + 10_000}"
        meta = file_meta.write(file_meta.FileMeta("1.2.840.10008.1.2.1", CT, sop))
        key = ids.InstanceKey(*place, ids.sop_uid(sop)).object_key(clock.next())
        objects.put(key, [meta, body.replace(b"1.2.3.1.99999", sop.encode())])
    objects.close()


def reindex(directory: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "reindex", *options],
        env={**os.environ, "GATEWAY_STORAGE__DIRECTORY": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(path: Path) -> int:
    """How many instances an index has by now; 0 while it is being made."""
    with suppress(StorageUnavailable), closing(SqliteIndex(path)) as index:
        return len(index.holdings("", INSTANCES + 1))
    return 0


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def test_a_reindex_that_was_killed_goes_on_where_it_was_and_leaves_no_process_behind(tmp_path: Path) -> None:
    fill(tmp_path, INSTANCES)
    process = reindex(tmp_path, "--workers=2")
    fresh = tmp_path / "index.sqlite.rebuilding"
    while not fresh.exists() or not rows(fresh):
        assert process.poll() is None
        time.sleep(0.01)
    readers = children(process.pid)
    assert readers
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "index.sqlite").exists()
    deadline_s = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in readers):
        assert time.monotonic() < deadline_s, "the reading processes outlive the one that they read for"
        time.sleep(0.02)
    again = reindex(tmp_path, "--workers=2", "--json")
    answer, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    report = json.loads(answer)
    assert 0 < report["known"] < INSTANCES
    assert report["known"] + report["indexed"] == report["seen"] == INSTANCES
    assert rows(tmp_path / "index.sqlite") == INSTANCES


def test_what_cannot_be_indexed_is_named_and_the_exit_status_is_1(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    objects = LocalObjectStore(tmp_path / "archive")
    first = next(iter(objects.list(""))).key
    objects.put(first.replace("1.2.3.1/", "1.2.3.2/"), [objects.get(first)])
    objects.put("main/notes.txt", [b"hello"])
    process = reindex(tmp_path, "--workers=1")
    answer, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert answer.startswith("2 instances indexed, 0 in quarantine")
    assert "left alone main/notes.txt: not the key of an instance" in errors
    assert "the object's key is not that of the instance in it" in errors
    index = SqliteIndex(tmp_path / "index.sqlite")
    assert Archive(objects, index, Limits()).index.holdings("", 10)
    index.close()
    objects.close()
