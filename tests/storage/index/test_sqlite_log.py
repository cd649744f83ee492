"""The write-ahead log of SQLite stays short, whoever reads meanwhile."""

from __future__ import annotations

import os
import resource
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.dicom.identifiers import Tenant
from storage.index import sqlite_log
from storage.index.sqlite import SqliteIndex
from storage.index.sqlite_log import WriteAheadLog
from storage.index.stored import Commitment

MAIN = Tenant("main")


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "_CHECKPOINT_BYTES", 1 << 20)
    monkeypatch.setattr(sqlite_log, "_AT_MOST_EVERY_S", 0.0)
    monkeypatch.setattr(sqlite_log, "_TRUNCATE_BYTES", 16 << 20)


def write(index: SqliteIndex, count: int, size: int = 50_000) -> None:
    for number in range(count):
        asked = Commitment("ct", 0.0, os.urandom(size), None)
        index.ask_commitment(MAIN, f"1.2.{time.monotonic_ns()}.{number}", asked)


def wait_until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.002)


@pytest.mark.usefixtures("bounded")
def test_it_is_emptied_beside_the_writers(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite", fsync=False)
    database, log = tmp_path / "index.sqlite", tmp_path / "index.sqlite-wal"
    for _ in range(10):
        before = database.stat().st_size
        write(index, 40)
        wait_until(lambda before=before: database.stat().st_size > before + (1 << 20))  # type: ignore[misc]
    assert log.stat().st_size < 10 << 20, "20 MB were written"
    index.close()
    assert not log.exists(), "the last connection takes it along"


@pytest.mark.usefixtures("bounded")
def test_a_reader_in_the_way_puts_it_off_and_then_it_is_cut(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite", fsync=False)
    log = tmp_path / "index.sqlite-wal"
    with index._reader() as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM commitment").fetchone()
        write(index, 500)
        assert log.stat().st_size > 16 << 20
        assert db.execute("SELECT count(*) FROM commitment").fetchone() == (0,)
        db.execute("ROLLBACK")
    written = 500

    def is_cut() -> bool:
        # At its second look at the latest, if the thread is not just at work on it.
        nonlocal written
        write(index, 16)
        written += 16
        return log.stat().st_size < 4 << 20

    wait_until(is_cut)
    with index._reader() as db:
        assert db.execute("SELECT count(*) FROM commitment").fetchone() == (written,)
    index.close()


def test_a_close_in_the_very_moment_of_waking_is_heard(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite", fsync=False)
    log = WriteAheadLog(tmp_path / "index.sqlite", lambda: index._connect().connection)
    closing = threading.Thread(target=log.close, daemon=True)

    class Due(threading.Event):
        """Closes at the moment at which its flag is taken back."""

        def clear(self) -> None:
            if closing.ident is None:
                closing.start()
                while not log._closed or not self.is_set():
                    time.sleep(0.001)
            super().clear()

    log._due = Due()
    log._start()
    log._due.set()
    deadline_s = time.monotonic() + 60.0
    while closing.ident is None and time.monotonic() < deadline_s:
        time.sleep(0.001)
    closing.join(60.0)
    assert not closing.is_alive()
    index.close()


def test_what_is_committed_is_so_also_where_the_log_cannot_be_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_log, "_TRUNCATE_BYTES", 1 << 20)
    index = SqliteIndex(tmp_path / "index.sqlite", fsync=False)
    write(index, 160)
    size = (tmp_path / "index.sqlite").stat().st_size
    assert size > 6 << 20
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The database has no room to grow, as on a full disk; the log has.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - (1 << 20), limits[1]))
    try:
        write(index, 64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the index's log was not emptied: SQLITE_" in caplog.text
    with index._reader() as db:
        assert db.execute("SELECT count(*) FROM commitment").fetchone() == (224,)
    index.close()


@pytest.mark.usefixtures("bounded")
def test_who_cannot_connect_tries_again_when_it_is_due(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite", fsync=False)
    connect, refusals = index._log._connect, [tmp_path / "nowhere" / "index.sqlite"]

    def refused_once() -> sqlite3.Connection:
        if refusals:
            return sqlite3.connect(refusals.pop())
        return connect()

    index._log._connect = refused_once

    def is_emptied() -> bool:
        write(index, 8)
        return (tmp_path / "index.sqlite").stat().st_size > 1 << 20

    wait_until(is_emptied)
    assert not refusals
    index.close()
