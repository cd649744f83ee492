"""A fair lock between processes on one host, made of two file locks.

Whoever wants in first takes the gate, then the room, then lets the gate go. So exactly one process waits for the
room at a time, and a process that leaves cannot overtake it. The kernel frees both when a process dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turnstile:
    """One process's view of the lock; its threads must not enter at the same time."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._gate = os.open(path.with_name(path.name + ".gate"), flags, 0o640)
        self._room = os.open(path.with_name(path.name + ".room"), flags, 0o640)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for this process's turn and hold it."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    @contextmanager
    def turn_at_once(self) -> Iterator[bool]:
        """Whether it is this process's turn without waiting, which it then holds."""
        if not _taken(self._gate):
            yield False
            return
        try:
            is_free = _taken(self._room)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        if not is_free:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files."""
        os.close(self._gate)
        os.close(self._room)


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
