"""Connections for reading, a few of which are kept between reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from storage.errors import StorageUnavailable

Connection = TypeVar("Connection")


class Connections(Generic[Connection]):
    """Gives each reader a connection of its own. Not one a thread: associations bring threads without end.

    Whoever asks makes the connection, so that an engine that refuses is noticed at once.

    Parameters
    ----------
    connect, close
        Make one; let go of one.
    usable
        Whether an idle one may be given out, or one that was used kept.
    at_most
        Connections at the same time; who comes then waits, and after ``timeout_s`` gets StorageUnavailable.
    kept
        Idle ones that are kept.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        close: Callable[[Connection], None],
        usable: Callable[[Connection], bool] = lambda _: True,
        *,
        at_most: int,
        kept: int,
        timeout_s: float,
    ) -> None:
        self._connect, self._close, self._usable = connect, close, usable
        self._places = threading.BoundedSemaphore(at_most)
        self._kept = kept
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[Connection]:
        """A connection for the length of the block."""
        if not self._places.acquire(timeout=self._timeout_s):
            raise StorageUnavailable("the index is too busy to read")
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._places.release()

    def _take(self) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            if self._usable(connection):
                return connection
            self._close(connection)

    def _give_back(self, connection: Connection) -> None:
        usable = self._usable(connection)
        with self._lock:
            kept = usable and not self._closed and len(self._idle) < self._kept
            if kept:
                self._idle.append(connection)
        if not kept:
            self._close(connection)

    def close(self) -> None:
        """Let go of the idle ones; those in use go when they come back. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            self._close(connection)
