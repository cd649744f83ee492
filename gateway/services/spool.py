"""Where an arriving instance waits until it is whole: memory up to a size, a file beyond it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

from gateway.errors import PayloadTooLarge
from storage.archive import Begun
from storage.errors import StorageError, StorageFull, StorageUnavailable
from storage.objects.base import FileSegment, Segment

_TOLD_BYTES = 8 << 20
"""A follower is told of each so many bytes more."""
_AS_IT_IS_BYTES = 1 << 14
"""Shorter pieces are put together: each would cost more than its bytes."""


class Follower(Protocol):
    """Is told how far an arrival in a file has come; see ``gateway.services.underway.UnderWay``."""

    @property
    def begun(self) -> Begun | None:
        """What of it is on its way into the archive."""
        ...

    def grown(self, file: Path, size: int) -> None:
        """So many bytes are in the file."""
        ...

    def abandon(self) -> None:
        """The file goes. Idempotent."""
        ...


class Spooled:
    """Received bytes, whole: in memory, or in a file that leaving the ``with`` block removes."""

    def __init__(self, data: bytes | None, path: Path | None, size: int, follower: Follower | None = None) -> None:
        self._data = data
        self._path = path
        self._follower = follower
        self.size = size

    @property
    def begun(self) -> Begun | None:
        """What of it is on its way into the archive."""
        return None if self._follower is None else self._follower.begun

    def open(self) -> BinaryIO:
        """The bytes as a file, from the start."""
        if self._data is not None:
            return io.BytesIO(self._data)
        assert self._path is not None
        return self._path.open("rb", buffering=0)

    def segments(self, start: int) -> Sequence[Segment]:
        """The bytes from ``start`` on, as part of an object's body."""
        if self._data is not None:
            return [memoryview(self._data)[start:]]
        assert self._path is not None
        return [FileSegment(self._path, start, self.size - start)]

    def __enter__(self) -> Spooled:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove the file, if there is one. Idempotent."""
        if self._follower is not None:
            self._follower.abandon()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Spooling:
    """An arrival under way; ``finish`` or ``discard`` it."""

    def __init__(self, spool: Spool, max_bytes: int, follow: Callable[[], Follower | None] | None) -> None:
        self._spool = spool
        self._follow = follow
        self._follower: Follower | None = None
        self._told = 0
        self.max_bytes = max_bytes
        self._memory: list[bytes | bytearray | memoryview] = []
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self.size = 0

    def write(self, block: bytes | memoryview) -> None:
        """Take the next bytes. Raises PayloadTooLarge, StorageFull; the arrival is discarded then.

        Long bytes, and views of such, are kept as they are until the arrival is whole; of what may change, a copy is.
        """
        self.size += len(block)
        if self.size > self.max_bytes:
            self.discard()
            raise PayloadTooLarge(f"an instance of more than {self.max_bytes} bytes")
        if self._file is None and self.size <= self._spool.memory_bytes:
            self._hold(block)
            return
        try:
            if self._file is None:
                self._path, self._file = self._spool.new_file()
                self._file.writelines(self._memory)
                self._memory = []
            self._file.write(block)
            if self.size - self._told >= _TOLD_BYTES:
                self._tell(self._file, self._path)
        except OSError as error:
            raise self._failed(error) from error

    def _tell(self, file: BinaryIO, path: Path | None) -> None:
        if self._follow is not None:
            self._follower, self._follow = self._follow(), None
        self._told = self.size
        if self._follower is not None and path is not None:
            file.flush()
            self._follower.grown(path, self.size)

    def _hold(self, block: bytes | memoryview) -> None:
        stays = isinstance(block.obj if isinstance(block, memoryview) else block, bytes)
        if stays and len(block) >= _AS_IT_IS_BYTES:
            self._memory.append(block)
            return
        last = self._memory[-1] if self._memory else None
        if not isinstance(last, bytearray):
            self._memory.append(last := bytearray())
        last += block

    def finish(self) -> Spooled:
        """What arrived; it is the caller's from then on. Raises StorageFull, StorageUnavailable."""
        if self._file is None:
            found, self._memory = Spooled(b"".join(self._memory), None, self.size), []
            return found
        try:
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error
        found = Spooled(None, self._path, self.size, self._follower)
        self._file, self._path, self._follower = None, None, None
        return found

    def _failed(self, error: OSError) -> StorageError:
        self.discard()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull("the spool has no room")
        return StorageUnavailable("the spool cannot be written")

    def discard(self) -> None:
        """Forget what arrived. Idempotent."""
        self._memory = []
        if self._follower is not None:
            self._follower.abandon()
            self._follower = None
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk may refuse the last flush of what is thrown away
                self._file.close()
            self._file = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None


class Spool:
    """The spool directory and its bounds."""

    SUFFIX = ".spool"
    """Of files that ``clear`` removes."""

    def __init__(self, directory: Path, memory_bytes: int, max_bytes: int) -> None:
        self.directory = directory
        self.memory_bytes = memory_bytes
        self.max_bytes = max_bytes
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)

    def begin(self, max_bytes: int | None = None, follow: Callable[[], Follower | None] | None = None) -> Spooling:
        """Start an arrival.

        Parameters
        ----------
        max_bytes
            Of one that may have fewer bytes than any.
        follow
            Asked for who follows it, once it is so long that it is worth it.
        """
        return Spooling(self, self.max_bytes if max_bytes is None else min(max_bytes, self.max_bytes), follow)

    def new_file(self) -> tuple[Path, BinaryIO]:
        """A fresh file, readable by us alone."""
        path = self.directory / f"{os.getpid()}-{os.urandom(8).hex()}{self.SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return path, os.fdopen(descriptor, "wb", buffering=1 << 18)

    def clear(self) -> None:
        """Remove what an earlier run left; to be called before any process receives."""
        for path in self.directory.iterdir():
            if path.suffix == self.SUFFIX:
                path.unlink(missing_ok=True)
