"""The write-ahead log of SQLite stays short, whoever reads meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from storage.dicom.identifiers import Tenant
from storage.index import sqlite_log
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Commitment

MAIN = Tenant("main")


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "_CHECKPOINT_BYTES", 1 << 20)
    monkeypatch.setattr(sqlite_log, "_TRUNCATE_BYTES", 16 << 20)


def write(index: SqliteIndex, count: int, size: int = 50_000) -> None:
    for number in range(count):
        asked = Commitment("ct", 0.0, os.urandom(size), None)
        index.ask_commitment(MAIN, f"1.2.{time.monotonic_ns()}.{number}", asked)


@pytest.mark.usefixtures("bounded")
def test_it_is_emptied_beside_the_writers(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite", fsync=False)
    log = tmp_path / "index.sqlite-wal"
    write(index, 400)
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
    write(index, 16)
    assert log.stat().st_size < 4 << 20
    with index._reader() as db:
        assert db.execute("SELECT count(*) FROM commitment").fetchone() == (516,)
    index.close()
