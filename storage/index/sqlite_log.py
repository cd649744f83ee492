"""SQLite's write-ahead log is kept short, beside the writers rather than by them.

A checkpoint writes to the database what the log holds, and syncs both: a tenth of a writer's time when it does so
itself. So a thread does it while readers and writers go on. What came meanwhile, which is little, a writer adds in its
turn: only a log that is in the database to its end is begun anew.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger("storage.index")

_LOOK_EVERY = 8
_AT_MOST_EVERY_S = 1.0
_CHECKPOINT_BYTES = 32 << 20
_TRUNCATE_BYTES = 256 << 20
_TRUNCATE_WITHIN_MS = 100


class WriteAheadLog:
    """The log as one process sees to it.

    Parameters
    ----------
    path
        The database file.
    connect
        A connection of its own for the thread.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._log = path.with_name(path.name + "-wal")
        self._connect = connect
        self._commits = 0
        self._next_s = 0.0
        self._nearly = False
        self._due = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def committed(self, connection: sqlite3.Connection) -> None:
        """Look from time to time how long it is; called after a commit, by who still has the turn to write."""
        if self._thread is None:
            # Not before: a process that forks before it writes takes no thread along.
            self._start()
        if self._nearly:
            self._nearly = False
            _empty(connection, "PASSIVE")
        self._commits += 1
        if self._commits % _LOOK_EVERY:
            return
        try:
            size = self._log.stat().st_size
        except FileNotFoundError:
            return
        if size > _TRUNCATE_BYTES:
            # It grows faster than it is emptied, or a reader was in the way for long. Nobody else writes now.
            (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
            connection.execute(f"PRAGMA busy_timeout = {_TRUNCATE_WITHIN_MS}")
            _empty(connection, "TRUNCATE")
            connection.execute(f"PRAGMA busy_timeout = {int(before)}")
        elif size > _CHECKPOINT_BYTES and time.monotonic() >= self._next_s:
            # The file does not become shorter when its log is begun anew: it says no more than that there may be much.
            self._next_s = time.monotonic() + _AT_MOST_EVERY_S
            if self._thread is not None and not self._thread.is_alive():
                self._start()
            self._due.set()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="index-log", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            connection = self._connect()
        except sqlite3.Error as error:
            _log.warning("the index's log cannot be emptied for now: %s", error.sqlite_errorname)
            return
        try:
            while True:
                self._due.wait()
                # Before the look, or a close in between would be waited for without end.
                self._due.clear()
                if self._closed:
                    return
                _empty(connection, "PASSIVE")
                self._nearly = True
        finally:
            connection.close()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._closed = True
        self._due.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _empty(connection: sqlite3.Connection, how: str) -> None:
    """Checkpoint as far as that is possible: what is committed is so in any case, and stays in the log."""
    try:
        connection.execute(f"PRAGMA wal_checkpoint({how})")
    except sqlite3.Error as error:
        _log.warning("the index's log was not emptied: %s", error.sqlite_errorname)
