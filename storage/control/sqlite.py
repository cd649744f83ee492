"""The control state in an SQLite file: one host, any number of processes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from storage.control.relational import FAILURES, LOGGED, SCHEMA, RelationalControl
from storage.control.relational_steps import STEPS
from storage.index.connections import Connections
from storage.index.sqlite import SqliteDatabase, sync_folder, translated

_READERS = 64
_IDLE_READERS = 4


class SqliteControl(RelationalControl):
    """Documents in one file, made with its folder when absent and readable by its owner only: it holds secrets.

    Parameters
    ----------
    fsync
        False gives up durability; for benchmarks and tests only.
    """

    def __init__(self, path: Path, *, fsync: bool = True, timeout_s: float = 10.0) -> None:
        self._path = path
        self._synchronous = "FULL" if fsync else "OFF"
        self._timeout_s = timeout_s
        self._turn = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        path.touch(mode=0o600)
        with _one_at_a_time(path.parent), self.writer() as db:
            db.script(SCHEMA + FAILURES + LOGGED + STEPS)
        if fsync:
            sync_folder(path.parent)
        self._readers: Connections[SqliteDatabase] = Connections(
            self._connect,
            lambda db: db.connection.close(),
            at_most=_READERS,
            kept=_IDLE_READERS,
            timeout_s=timeout_s,
        )

    def _connect(self) -> SqliteDatabase:
        connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False)
        # First: making a new file one with a write-ahead log is a transaction of its own.
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA journal_mode = WAL")
        return SqliteDatabase(connection)

    @contextmanager
    def reader(self) -> Iterator[SqliteDatabase]:
        """See RelationalControl."""
        with translated(), self._readers.one() as db:
            yield db

    @contextmanager
    def writer(self) -> Iterator[SqliteDatabase]:
        """See RelationalControl."""
        with self._turn, translated(), closing(self._connect().connection) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield SqliteDatabase(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """See ControlStore."""
        self._readers.close()


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Of those that open a new file: while one gives it a write-ahead log, SQLite fails the others at once."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
