"""A bounded cache of blocks of objects in local files, shared by all processes of a host.

An object is cut into blocks of 1 MiB from its beginning; a block is a file, ``DIRECTORY/HH/HASH-VERSION-NUMBER``,
written aside and renamed when it is whole. Each carries its checksum, so that what a crash or a power cut left is never
served. Objects never change, so nothing becomes stale; a deletion drops an object's blocks and leaves a mark, which
keeps whoever was reading it from putting one back. What other hosts delete is found by comparing versions with the
index from time to time: a version, in the name of the file, says nothing of anybody.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import math
import os
import re
import secrets
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedWriter, FileIO
from pathlib import Path

from storage.errors import StorageUnavailable
from storage.objects.base import Piece

_log = logging.getLogger("storage.objects")

BLOCK_BYTES = 1 << 20
MIN_BYTES = 16 * BLOCK_BYTES
_HEADER = struct.Struct(">4sQI")  # magic, size of the object, CRC-32 of the block
_MAGIC = b"GWC1"
_FILE_SYSTEM_BLOCK = 4096
_EVICTED_SHARE = 10
_STALE_AFTER_S = 60.0
_MARKED_FOR_S = 86_400.0
_USED_AGAIN_AFTER_S = 60.0
_ASKED_AT_ONCE = 500
_VERSION = re.compile(r"\.([0-9A-Z]{26})\.(?:dcm|htj2k)$")


@dataclass(frozen=True, slots=True)
class _Entry:
    used_s: float
    room: int
    path: Path


class ReadCache:
    """Blocks in files of one directory, at most ``max_bytes`` of them; several processes may use it at the same time.

    What the file system refuses is logged and costs a block its place in the cache, never a read.

    Parameters
    ----------
    trusted_s
        So long after it was compared with the index what is there is served; then it is as if nothing were there, until
        it is compared again.
    """

    def __init__(self, directory: Path, max_bytes: int, *, trusted_s: float = math.inf) -> None:
        self.max_bytes = max(max_bytes, MIN_BYTES)
        self._trusted_s = trusted_s
        self._compared = directory / "compared"
        self._directory = directory
        self._temporary = directory / "tmp"
        self._complained_s = 0.0
        with _engine_errors():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._temporary.mkdir(mode=0o700, exist_ok=True)
            for number in range(256):
                (directory / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
            with self._usage() as usage:
                if usage.read() is None:
                    used = self._swept(0)
                    if not used:
                        self._compared.touch(mode=0o600)  # nothing is there that an index could not know
                    usage.write(used)
                else:
                    for _ in self._entries_of(self._temporary, time.time()):
                        pass  # what crashes left there is removed on the way

    def may_serve(self, key: str) -> bool:
        """Whether anything that was read of an object before may be served: it was not deleted."""
        try:
            return self._is_trusted() and not self._mark(self._path(key, 0)).exists()
        except OSError as error:
            self._complain(error)
            return False

    def has(self, key: str, number: int) -> bool:
        """Whether a block is there now."""
        try:
            return self._is_trusted() and self._path(key, number).exists()
        except OSError as error:
            self._complain(error)
            return False

    def read(self, key: str, number: int) -> Piece | None:
        """A block, or None."""
        path = self._path(key, number)
        try:
            if not self._is_trusted():
                return None
            with path.open("rb", buffering=0) as file:
                found = file.read()
                status = os.fstat(file.fileno())
                if time.time() - status.st_atime > _USED_AGAIN_AFTER_S:
                    os.utime(file.fileno(), ns=(time.time_ns(), status.st_mtime_ns))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(error)
            return None
        if len(found) >= _HEADER.size:
            magic, size, checksum = _HEADER.unpack_from(found)
            data = found[_HEADER.size :]
            whole = len(data) == min(BLOCK_BYTES, size - number * BLOCK_BYTES)
            if magic == _MAGIC and whole and zlib.crc32(data) == checksum:
                return Piece(data, size)
        with suppress(OSError):
            path.unlink()
        return None

    def keep(self, key: str, number: int, piece: Piece) -> None:
        """Keep a block, unless its object was deleted meanwhile."""
        path = self._path(key, number)
        temporary = self._temporary / f"{os.getpid()}.{secrets.token_hex(8)}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with FileIO(os.open(temporary, flags, 0o600), "wb") as raw, BufferedWriter(raw) as file:
                file.write(_HEADER.pack(_MAGIC, piece.object_size, zlib.crc32(piece.data)))
                file.write(piece.data)
            room = _room(_HEADER.size + len(piece.data))
            with self._usage() as usage:
                used = (usage.read() or 0) + room
                # The temporary file is counted when all are, and so is this block.
                usage.write(self._swept(room) if used > self.max_bytes else used)
            with self._locked(path.parent):
                if not self._mark(path).exists():
                    temporary.rename(path)
        except OSError as error:
            self._complain(error)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def drop(self, key: str) -> None:
        """Remove an object's blocks for every process, and let none of them be kept any more."""
        path = self._path(key, 0)
        with _engine_errors():
            self._drop(path.parent, _hash_of(path.name))

    def compare(self, kept: Callable[[Sequence[str]], Collection[str]], every_s: float) -> int | None:
        """Drop every instance whose version is not ``kept``, unless a process has done so less than ``every_s`` ago.

        Parameters
        ----------
        kept
            Which of some versions the archive still has.

        Returns
        -------
        int or None
            How many objects were dropped; None when it was not time, or another process is at it.
        """
        with _engine_errors(), self._turn() as is_ours:
            if not is_ours or self._age_s() < every_s:
                return None
            begun_s, dropped = time.time(), 0
            for number in range(256):
                dropped += self._drop_unknown(self._directory / f"{number:02x}", kept)
            self._compared.touch(mode=0o600)
            # What was kept since may be of what was deleted since.
            os.utime(self._compared, (begun_s, begun_s))
            return dropped

    def used_bytes(self) -> int:
        """Room that the blocks take at most; what was dropped is left out when all are counted anew."""
        with _engine_errors(), self._usage() as usage:
            return usage.read() or 0

    def _drop(self, folder: Path, hashed: str) -> None:
        with self._locked(folder):
            (folder / f"{hashed}.gone").touch(mode=0o600)
            for path in folder.glob(f"{hashed}-*"):
                path.unlink(missing_ok=True)

    def _drop_unknown(self, folder: Path, kept: Callable[[Sequence[str]], Collection[str]]) -> int:
        there: defaultdict[str, set[str]] = defaultdict(set)
        with os.scandir(folder) as found:
            for each in found:
                hashed, *rest = each.name.split("-")
                if len(rest) == 2 and rest[0]:
                    there[rest[0]].add(hashed)
        versions, dropped = sorted(there), 0
        for start in range(0, len(versions), _ASKED_AT_ONCE):
            asked = versions[start : start + _ASKED_AT_ONCE]
            for version in set(asked) - set(kept(asked)):
                for hashed in there[version]:
                    self._drop(folder, hashed)
                    dropped += 1
        return dropped

    def _is_trusted(self) -> bool:
        return self._trusted_s == math.inf or self._age_s() <= self._trusted_s

    def _age_s(self) -> float:
        """How long ago what is there was compared; infinite when it never was."""
        try:
            return time.time() - self._compared.stat().st_mtime
        except FileNotFoundError:
            return math.inf

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Whether it is this process's turn to compare."""
        handle = os.open(self._directory / "comparing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            is_ours = True
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_ours = False
            yield is_ours
        finally:
            os.close(handle)

    def _path(self, key: str, number: int) -> Path:
        hashed = hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
        return self._directory / hashed[:2] / f"{hashed}-{_version_of(key)}-{number:x}"

    @staticmethod
    def _mark(path: Path) -> Path:
        return path.with_name(_hash_of(path.name) + ".gone")

    @contextmanager
    def _locked(self, directory: Path) -> Iterator[None]:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _usage(self) -> Iterator[_Usage]:
        handle = os.open(self._directory / "usage", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield _Usage(handle)
        finally:
            os.close(handle)

    def _swept(self, wanted: int) -> int:
        """Count what is there; when it is too much, remove what was used longest ago. The room taken afterwards."""
        now = time.time()
        entries = list(self._entries(now))
        used = sum(entry.room for entry in entries)
        if used <= self.max_bytes:
            return used
        least = self.max_bytes - max(self.max_bytes // _EVICTED_SHARE, wanted)
        for entry in sorted(entries, key=lambda entry: entry.used_s):
            if used <= least:
                break
            if entry.path.parent != self._temporary:
                entry.path.unlink(missing_ok=True)
                used -= entry.room
        return used

    def _entries(self, now: float) -> Iterator[_Entry]:
        # What is being written first: it may then be counted twice, but never not at all.
        yield from self._entries_of(self._temporary, now)
        for number in range(256):
            yield from self._entries_of(self._directory / f"{number:02x}", now)

    def _entries_of(self, folder: Path, now: float) -> Iterator[_Entry]:
        """Blocks, marks and what is being written; what is left over of the last two is removed on the way."""
        with os.scandir(folder) as found:
            for each in found:
                kept_s = _STALE_AFTER_S if folder == self._temporary else float("inf")
                if each.name.endswith(".gone"):
                    kept_s = _MARKED_FOR_S
                with suppress(FileNotFoundError):
                    status = each.stat(follow_symlinks=False)
                    if now - status.st_mtime > kept_s:
                        Path(each.path).unlink()
                    else:
                        yield _Entry(status.st_atime, _room(status.st_size), Path(each.path))

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._complained_s > _STALE_AFTER_S or not self._complained_s:
            self._complained_s = now
            _log.warning("the read cache does not work: %s", error.strerror or type(error).__name__)


class _Usage:
    """The count of bytes, in an open file that is locked."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def read(self) -> int | None:
        text = os.pread(self._handle, 32, 0)
        return int(text) if text.isdigit() else None

    def write(self, used: int) -> None:
        # Always of the same length: there is no moment at which half a number stands there.
        os.pwrite(self._handle, b"%020d" % used, 0)


def _hash_of(name: str) -> str:
    return name.partition("-")[0]


def _version_of(key: str) -> str:
    """The version that the key of an instance ends in; "" for what is none."""
    found = _VERSION.search(key)
    return found[1] if found else ""


def _room(size: int) -> int:
    return -(-size // _FILE_SYSTEM_BLOCK) * _FILE_SYSTEM_BLOCK


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"the read cache does not work: {error.strerror or error}") from error
