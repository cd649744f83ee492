"""Moments by name that the processes of a host share: until when a rate is used up, or somebody is locked out.

A table of fixed size in a file that each process maps. Names are kept as keyed digests, in sets of eight: who finds a
set full takes the place of the moment that is nearest to being over, so a flood of new names drives out one another
before whoever is held back longest.

A moment changes under a lock of the file, which the kernel takes back from a process that dies. Nobody waits for one
that stands still with it: after some tries the change is made without, and at worst one of two changes at the same
instant is lost.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import threading
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from storage.errors import StorageFull, StorageUnavailable

_WAYS = 8
_SETS = 2048
_DIGEST_BYTES = 16
_MOMENT_BYTES = 8
_DIGESTS_BYTES = _WAYS * _DIGEST_BYTES
_SET_BYTES = _WAYS * (_DIGEST_BYTES + _MOMENT_BYTES)
_SALT_BYTES = 64
_FILE_BYTES = _SALT_BYTES + _SETS * _SET_BYTES
_FREE = bytes(_DIGEST_BYTES)
_PAUSES_S = (0.0,) * 100 + (0.0005,) * 100
"""Between tries for the lock. Whoever has it is done in microseconds, unless something else has its processor."""

MOST = _SETS * _WAYS
"""So many names at the same time."""


class Moments:
    """Moments of a clock that the processes share, such as ``time.monotonic``; 0.0 where there is none.

    Safe to use from several threads, and from the event loop.

    Parameters
    ----------
    path
        The file, made with its folder when absent; None for a table of this process alone.

    Raises
    ------
    StorageFull, StorageUnavailable
        The file cannot be made.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._turn = threading.Lock()
        self._file = -1
        if path is None:
            self._map = mmap.mmap(-1, _FILE_BYTES)
            self._map[:_SALT_BYTES] = secrets.token_bytes(_SALT_BYTES)
        else:
            self._file = _opened(path)
            self._map = mmap.mmap(self._file, _FILE_BYTES)
        # Nobody who does not know it can choose names that share a set.
        self._salt = self._map[:_SALT_BYTES]
        self._values = memoryview(self._map).cast("d")

    def get(self, name: str) -> float:
        """The moment of a name."""
        digest, place = self._place(name)
        at = self._map.find(digest, place, place + _DIGESTS_BYTES)
        if at < 0:
            return 0.0
        moment = self._values[_value(place, at)]
        # Whoever takes a place removes the name before the moment changes.
        return moment if self._map[at : at + _DIGEST_BYTES] == digest else 0.0

    def change(self, name: str, changed: Callable[[float], float | None]) -> None:
        """Change the moment of a name by a function of what it is, which says by None that it stays."""
        digest, place = self._place(name)
        with self._turn:
            locked = self._lock()
            try:
                at = self._map.find(digest, place, place + _DIGESTS_BYTES)
                moment = changed(self._values[_value(place, at)] if at >= 0 else 0.0)
                if moment is None:
                    return
                if at >= 0:
                    self._values[_value(place, at)] = moment
                else:
                    self._add(digest, place, moment)
            finally:
                if locked:
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def put(self, name: str, moment: float) -> None:
        """Set the moment of a name."""
        self.change(name, lambda _: moment)

    def close(self) -> None:
        """Let go of the file; nobody may ask any more. Idempotent."""
        with self._turn:
            self._values.release()
            self._map.close()
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def __len__(self) -> int:
        """How many names there are; for tests, as it looks at every place."""
        starts = range(_SALT_BYTES, _FILE_BYTES, _SET_BYTES)
        digests = (self._map[at : at + _DIGESTS_BYTES] for at in starts)
        return sum(
            found[way : way + _DIGEST_BYTES] != _FREE
            for found in digests
            for way in range(0, _DIGESTS_BYTES, _DIGEST_BYTES)
        )

    def _place(self, name: str) -> tuple[bytes, int]:
        """What a name is kept as, and where its set begins."""
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES, key=self._salt).digest()
        return digest, _SALT_BYTES + int.from_bytes(digest[:4], "little") % _SETS * _SET_BYTES

    def _add(self, digest: bytes, place: int, moment: float) -> None:
        first = _value(place, place)
        moments = self._values[first : first + _WAYS].tolist()
        way = moments.index(min(moments))
        at = place + way * _DIGEST_BYTES
        # A process that dies between these leaves a free place.
        self._map[at : at + _DIGEST_BYTES] = _FREE
        self._values[first + way] = moment
        self._map[at : at + _DIGEST_BYTES] = digest

    def _lock(self) -> bool:
        if self._file < 0:
            return False
        for pause_s in _PAUSES_S:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(pause_s)
            else:
                return True
        return False


class Tables:
    """The tables of a host, by name, each opened when it is asked for first. Safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._open: dict[str, Moments] = {}

    def of(self, name: str) -> Moments:
        """A table. Raises StorageFull, StorageUnavailable."""
        with self._lock:
            if name not in self._open:
                self._open[name] = Moments(self._directory / name)
            return self._open[name]

    def close(self) -> None:
        """Let go of all of them. Idempotent."""
        with self._lock:
            for each in self._open.values():
                each.close()


def _value(place: int, at: int) -> int:
    """Where the moment of the digest at a place of a set is, counted in moments."""
    return (place + _DIGESTS_BYTES) // _MOMENT_BYTES + (at - place) // _DIGEST_BYTES


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # one process makes it, which takes no time
            if os.fstat(descriptor).st_size < _FILE_BYTES:
                os.pwrite(descriptor, secrets.token_bytes(_SALT_BYTES), 0)
                # A mapped page without a block on a full disk would end the process.
                os.posix_fallocate(descriptor, 0, _FILE_BYTES)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("there is no room for what limits who may ask how often") from error
        raise StorageUnavailable(f"what limits who may ask how often cannot be kept: {error.strerror}") from error
    return descriptor


def clear(directory: Path) -> None:
    """Begin anew: remove the tables of an earlier run, whose moments may be of another clock. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o750)
    for path in directory.iterdir():
        path.unlink(missing_ok=True)
