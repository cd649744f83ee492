"""``gateway reindex`` as a process: its report, and what a kill -9 in the middle leaves."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path

from storage.archive import Archive
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.index.sqlite import SqliteIndex
from storage.index.turnstile import Turnstile
from storage.objects.local import LocalObjectStore
from tests.instances import CT, data_set, encode
from tests.programs import running

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


def reindex(directory: Path, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return running(
        [sys.executable, "-m", "gateway.cli", "reindex", *options],
        env={**os.environ, "GATEWAY_STORAGE__DIRECTORY": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(path: Path) -> int:
    """How many instances an index has by now; 0 while it is being made."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM instance").fetchone()[0])
    return 0


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def test_a_reindex_that_was_killed_goes_on_where_it_was_and_leaves_no_process_behind(tmp_path: Path) -> None:
    fill(tmp_path, INSTANCES)
    fresh = tmp_path / "index.sqlite.rebuilding"
    with closing(Turnstile(fresh)) as writing, reindex(tmp_path, "--workers=2") as process:
        some = 0
        while not some:
            assert process.poll() is None
            # It writes in turn with us, so that it cannot come to its end between two looks.
            with writing.turn():
                some = rows(fresh)
                readers = children(process.pid)
                time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert readers
    assert not (tmp_path / "index.sqlite").exists()
    deadline_s = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in readers):
        assert time.monotonic() < deadline_s, "the reading processes outlive the one that they read for"
        time.sleep(0.02)
    with reindex(tmp_path, "--workers=2", "--json") as again:
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
    with reindex(tmp_path, "--workers=1") as process:
        answer, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert answer.startswith("2 instances indexed, 0 in quarantine")
    assert "left alone main/notes.txt: not the key of an instance" in errors
    assert "the object's key is not that of the instance in it" in errors
    index = SqliteIndex(tmp_path / "index.sqlite")
    assert Archive(objects, index, Limits()).index.holdings("", 10)
    index.close()
    objects.close()
