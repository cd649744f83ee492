"""Objects as files under one local directory, durable by the order of system calls.

``ROOT/objects/KEY`` is the object, ``ROOT/tmp`` is where it is written: into a file without a name where the file
system has such, which saves two changes of a directory, else into a temporary one. A put runs: write the file, fsync
it, link it to its final name (which never replaces anything), fsync the directory, return. Every directory is reached
step by step from a handle on ``ROOT/objects`` without following symbolic links.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import heapq
import os
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from io import FileIO
from pathlib import Path

from storage.errors import ObjectDamaged, ObjectExists, ObjectNotFound, ReadOnly, StorageFull, StorageUnavailable
from storage.objects.base import ByteRange, Draft, ObjectInfo, ObjectReader, Piece, Segment, body_blocks
from storage.objects.keys import check_key, check_prefix, check_start_after, is_segment

_BLOCK_BYTES = 1 << 20
_FILE_MODE = 0o640
_DIRECTORY_MODE = 0o750
_DIGEST_ATTRIBUTE = "user.sha256"
_STALE_AFTER_S = 3600.0
_PUBLISH_ATTEMPTS = 100
_ATTEMPTS_BESIDE_REMOVALS = 3
_KEPT_DIRECTORIES = 128
_NAMES_AT_ONCE = 50_000
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOT_AN_OBJECT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_NEW = os.O_WRONLY | os.O_CLOEXEC
_OPEN_FILES = "/proc/self/fd"
# Of file systems without files that have no name; EISDIR of a kernel that does not know them.
_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
_MOUNTS = "/proc/self/mountinfo"
# Where the first link of a file waits until everything that is pending is on disk, past the log that an fsync goes to.
_SLOW_FIRST_LINKS = frozenset(("zfs",))
# O_NONBLOCK: a named pipe that someone put there must not hang the reader.
_OPEN_OBJECT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalObjectStore:
    """An ObjectStore over a directory of a POSIX file system that has hard links.

    Several processes may use one directory at the same time. No key can be the folder of another key: with an
    object ``a``, putting ``a/b`` raises ObjectExists.

    Parameters
    ----------
    root
        Created where missing. Temporary files in it that nobody wrote to for an hour are removed.
    fsync
        False gives up durability against power loss, for benchmarks and tests.
    read_only
        Nothing is made, written or removed, and the directory may be mounted so; ReadOnly from what would.
    """

    def __init__(self, root: Path, *, fsync: bool = True, read_only: bool = False) -> None:
        self._fsync = fsync
        self._durable: OrderedDict[str, _Directory] = OrderedDict()
        self._durable_lock = threading.Lock()
        self._temporary: _Directory | None = None
        self._has_unnamed = False
        with _engine_errors():
            if not read_only:
                self._temporary = self._make(root)
                self._has_unnamed = _has_unnamed_files(self._temporary.handle)
                self._remove_stale_files(self._temporary)
            self._objects = _Directory(os.open(root / "objects", _OPEN_DIRECTORY))

    def _make(self, root: Path) -> _Directory:
        """Make what is not there, durably; the directory of what is being written."""
        root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        for name in ("objects", "tmp"):
            (root / name).mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
        if self._fsync:
            for folder in (root, root.parent):
                with _directory_handle(folder) as handle:
                    os.fsync(handle)
        return _Directory(os.open(root / "tmp", _OPEN_DIRECTORY))

    def _writable(self) -> _Directory:
        if self._temporary is None:
            raise ReadOnly("the objects may only be read from here")
        return self._temporary

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        """See ObjectStore. ObjectDamaged when a file segment of the body cannot be read in full."""
        check_key(key)
        temporary = self._writable()
        with _engine_errors(), self._new_file(temporary) as (file, path):
            info = self._write(file, key, body)
            self._publish(temporary, path, key)
        return info

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:  # noqa: ARG002
        """See ObjectStore. A file of its own costs no more when all is there."""
        return None

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore."""
        with self._open_file(key) as file:
            with _engine_errors():
                size = os.fstat(file.fileno()).st_size
            wanted = byte_range or ByteRange(0, size)
            if wanted.end > size:
                raise ObjectDamaged(f"{key} has {size} bytes, asked for up to {wanted.end}")
            yield _Reader(key, file, wanted)

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        with self.open(key, byte_range) as reader:
            return b"".join(reader.blocks())

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        with self._open_file(key) as file:
            with _engine_errors():
                size = os.fstat(file.fileno()).st_size
            if start > size:
                raise ObjectDamaged(f"{key} has {size} bytes, asked for from {start}")
            wanted = ByteRange(start, min(start + length, size))
            return Piece(b"".join(_Reader(key, file, wanted).blocks()), size)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore. The digest is None on file systems without extended attributes."""
        with self._open_file(key) as file, _engine_errors():
            status = os.fstat(file.fileno())
            return ObjectInfo(key, status.st_size, _read_digest(file.fileno()), status.st_mtime)

    def delete(self, key: str) -> None:
        """See ObjectStore. Parent directories that become empty go as well."""
        check_key(key)
        temporary = self._writable()
        folder, _, name = key.rpartition("/")
        with _engine_errors(), suppress(FileNotFoundError, NotADirectoryError):
            with self._walk(folder) as handle:
                with suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(name, dir_fd=handle)
                # Also when the file was gone: whoever removed it may have crashed before its fsync.
                self._sync(handle)
            self._remove_empty(temporary, folder)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore. ``sha256`` is None; objects put or deleted meanwhile may or may not be seen."""
        check_prefix(prefix)
        check_start_after(start_after)
        return self._list(prefix.rpartition("/")[0], prefix, start_after)

    def ping(self) -> None:
        """See ObjectStore. Where nothing may be written, the directory is looked at."""
        temporary = self._temporary
        if temporary is None:
            with _engine_errors(), os.scandir(self._objects.handle) as entries:
                next(entries, None)
            return
        try:
            with _engine_errors(), self._new_file(temporary) as (file, _):
                self._write(file, "ping", [b"ping"])
        except StorageFull as error:
            raise StorageUnavailable("no room to write") from error

    def close(self) -> None:
        """See ObjectStore. The store cannot be used afterwards."""
        with self._durable_lock:
            self._durable.clear()
        self._objects.close()
        if self._temporary is not None:
            self._temporary.close()

    def _sync(self, handle: int) -> None:
        if self._fsync:
            os.fsync(handle)

    def _remove_stale_files(self, temporary: _Directory) -> None:
        before = time.time() - _STALE_AFTER_S
        with os.scandir(temporary.handle) as entries:
            for entry in entries:
                # Another process may be clearing up as well.
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.name, dir_fd=temporary.handle)

    # Writing

    @contextmanager
    def _new_file(self, temporary: _Directory) -> Iterator[tuple[FileIO, str]]:
        """A file to be written, and the path that it can be linked from as long as the context lasts."""
        if self._has_unnamed:
            try:
                handle = os.open(".", _OPEN_NEW | os.O_TMPFILE, _FILE_MODE, dir_fd=temporary.handle)
            except OSError as error:
                if error.errno not in _NO_UNNAMED_FILES:
                    raise
                self._has_unnamed = False
            else:
                with FileIO(handle, "wb") as file:
                    yield file, f"{_OPEN_FILES}/{handle}"
                return
        name = f"{os.getpid()}.{secrets.token_hex(16)}"
        handle = os.open(name, _OPEN_NEW | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _FILE_MODE, dir_fd=temporary.handle)
        try:
            with FileIO(handle, "wb") as file:
                yield file, name
        finally:
            with suppress(OSError):
                os.unlink(name, dir_fd=temporary.handle)

    def _write(self, file: FileIO, key: str, body: Sequence[Segment]) -> ObjectInfo:
        handle, digest = file.fileno(), hashlib.sha256()
        for block in body_blocks(body, _BLOCK_BYTES):
            digest.update(block)
            rest = block
            while rest:
                rest = rest[os.write(handle, rest) :]
        _write_digest(handle, digest.hexdigest())
        self._sync(handle)
        status = os.fstat(handle)
        return ObjectInfo(key, status.st_size, digest.hexdigest(), status.st_mtime)

    def _publish(self, temporary: _Directory, written: str, key: str) -> None:
        with ExitStack() as removals:
            for attempt in range(_PUBLISH_ATTEMPTS):
                if attempt == _ATTEMPTS_BESIDE_REMOVALS:
                    removals.enter_context(self._one_at_a_time(temporary))
                if self._link(temporary, written, key):
                    return
        raise StorageUnavailable(f"{key}: its directory is removed again and again")

    def _link(self, temporary: _Directory, written: str, key: str) -> bool:
        """Whether the object stands under its name; not when a delete took its empty directory meanwhile."""
        folder, _, name = key.rpartition("/")
        try:
            directory = self._durable_directory(folder)
            # A file without a name is linked from the symbolic link that stands for it among the open ones.
            os.link(
                written, name, src_dir_fd=temporary.handle, dst_dir_fd=directory.handle,
                follow_symlinks=written.startswith(_OPEN_FILES),
            )  # fmt: skip
        except FileNotFoundError:
            self._forget(folder)
            return False
        except FileExistsError as error:
            raise ObjectExists(key) from error
        except NotADirectoryError as error:
            raise ObjectExists(f"{key}: something other than a directory is in its path") from error
        if self._fsync:
            try:
                directory.sync()
            except OSError:
                # Not durable, hence not put: leave nothing behind that looks as if it were.
                with suppress(OSError):
                    os.unlink(name, dir_fd=directory.handle)
                raise
        return True

    @contextmanager
    def _one_at_a_time(self, temporary: _Directory) -> Iterator[None]:
        """Held to take a directory away, and by a put that lost its directory to such removals before.

        A lock belongs to an open file, so each holder opens one: threads of a process exclude each other too.
        """
        handle = os.open(".", _OPEN_DIRECTORY, dir_fd=temporary.handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _durable_directory(self, folder: str) -> _Directory:
        """The directory, created where missing, whose own name is durable all the way up.

        A directory found, not made, may come from a process that has not synced it yet; so its parent is
        synced here, once. The handle is kept: a directory that was removed since can only answer ENOENT.
        """
        if not folder:
            return self._objects
        with self._durable_lock:
            kept = self._durable.get(folder)
            if kept is not None:
                self._durable.move_to_end(folder)
                return kept
        above, _, name = folder.rpartition("/")
        parent = self._durable_directory(above)
        with suppress(FileExistsError):
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent.handle)
        directory = _Directory(os.open(name, _OPEN_DIRECTORY, dir_fd=parent.handle))
        if self._fsync:
            parent.sync()
        with self._durable_lock:
            directory = self._durable.setdefault(folder, directory)
            if len(self._durable) > _KEPT_DIRECTORIES:
                self._durable.popitem(last=False)
        return directory

    def _forget(self, folder: str) -> None:
        with self._durable_lock:
            while folder:
                self._durable.pop(folder, None)
                folder = folder.rpartition("/")[0]

    def _remove_empty(self, temporary: _Directory, folder: str) -> None:
        while folder:
            above, _, name = folder.rpartition("/")
            with self._walk(above) as handle:
                try:
                    # Gone already: removed by another process, whose fsync may still be to come.
                    with suppress(FileNotFoundError), self._one_at_a_time(temporary):
                        os.rmdir(name, dir_fd=handle)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return
                    raise
                self._sync(handle)
            self._forget(folder)
            folder = above

    # Reading

    @contextmanager
    def _walk(self, folder: str) -> Iterator[int]:
        """A fresh handle on a directory that exists; OSError where there is none or a symbolic link."""
        handle = os.dup(self._objects.handle)
        try:
            for name in folder.split("/") if folder else ():
                below = os.open(name, _OPEN_DIRECTORY, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)

    def _open_file(self, key: str) -> FileIO:
        check_key(key)
        folder, _, name = key.rpartition("/")
        with _engine_errors():
            try:
                with self._walk(folder) as directory:
                    file = FileIO(os.open(name, _OPEN_OBJECT, dir_fd=directory), "rb")
            except IsADirectoryError as error:
                raise ObjectNotFound(key) from error
            except OSError as error:
                if error.errno in _NOT_AN_OBJECT:
                    raise ObjectNotFound(key) from error
                raise
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                file.close()
                raise ObjectNotFound(key)
            return file

    def _list(self, folder: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        base = f"{folder}/" if folder else ""
        last = ""
        with ExitStack() as opened:
            with _engine_errors():
                try:
                    handle = opened.enter_context(self._walk(folder))
                except OSError as error:
                    if error.errno in _NOT_AN_OBJECT:
                        return
                    raise
            while True:
                with _engine_errors():
                    keys = _keys_in(handle, base, prefix, start_after, last)
                for key in keys:
                    last = key
                    if key.endswith("/"):
                        yield from self._list(key[:-1], prefix, start_after)
                    elif (info := _status(handle, key)) is not None:
                        yield info
                if len(keys) < _NAMES_AT_ONCE:
                    return


class _Directory:
    """An open directory whose fsyncs are shared by the threads that ask for one at the same time."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._changed = threading.Condition()
        self._started = 0
        self._finished = 0
        self._failed: dict[int, OSError] = {}

    def sync(self) -> None:
        """Return after an fsync that started after this call."""
        with self._changed:
            mine = self._started + 1
            while self._started < mine:
                if self._started == self._finished:
                    self._started = mine
                    break
                self._changed.wait()
            else:
                while self._finished < mine:
                    self._changed.wait()
                if mine in self._failed:
                    # A second fsync after a failed one may succeed without having written anything.
                    raise OSError(*self._failed[mine].args)
                return
        try:
            os.fsync(self.handle)
        except OSError as error:
            self._failed[mine] = error
            raise
        finally:
            with self._changed:
                self._finished = mine
                self._changed.notify_all()

    def close(self) -> None:
        """Idempotent; also done when nobody refers to the directory any more."""
        if self.handle >= 0:
            handle, self.handle = self.handle, -1
            os.close(handle)

    __del__ = close


class _Reader:
    def __init__(self, key: str, file: FileIO, wanted: ByteRange) -> None:
        self._key = key
        self._file = file
        self._wanted = wanted

    @property
    def length(self) -> int:
        return self._wanted.length

    def blocks(self) -> Iterator[bytes]:
        with _engine_errors():
            self._file.seek(self._wanted.start)
        remaining = self._wanted.length
        while remaining:
            with _engine_errors():
                block = self._file.read(min(_BLOCK_BYTES, remaining))
            if not block:
                raise ObjectDamaged(f"{self._key} ends {remaining} bytes early")
            remaining -= len(block)
            yield block


def _keys_in(handle: int, base: str, prefix: str, start_after: str, last: str) -> Sequence[str]:
    """The keys in one directory that come after ``last``, in key order; those of directories end in a slash.

    With the slash a directory sorts as the keys below it do: ``a-b`` before ``a/``. At most
    ``_NAMES_AT_ONCE`` are taken, so that a directory with millions of names costs repeated scans, not memory.
    """

    def wanted(key: str) -> bool:
        is_ahead = key > start_after or (key.endswith("/") and start_after.startswith(key))
        return key > last and is_ahead and key.startswith(prefix)

    with os.scandir(handle) as entries:
        keys = (
            f"{base}{entry.name}/" if entry.is_dir(follow_symlinks=False) else f"{base}{entry.name}"
            for entry in entries
            if is_segment(entry.name)
        )
        return heapq.nsmallest(_NAMES_AT_ONCE, filter(wanted, keys))


def _status(directory: int, key: str) -> ObjectInfo | None:
    with _engine_errors():
        try:
            status = os.stat(key.rpartition("/")[2], dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return ObjectInfo(key, status.st_size, None, status.st_mtime)


def _write_digest(handle: int, digest: str) -> bool:
    try:
        os.setxattr(handle, _DIGEST_ATTRIBUTE, digest.encode())
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return False
        raise
    return True


def _read_digest(handle: int) -> str | None:
    try:
        return os.getxattr(handle, _DIGEST_ATTRIBUTE).decode("ascii", "replace")
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return None
        raise


def _has_unnamed_files(directory: int) -> bool:
    """Whether to try; the file system says itself if it has none."""
    return Path(_OPEN_FILES).is_dir() and _file_system(directory) not in _SLOW_FIRST_LINKS


def _file_system(handle: int) -> str:
    """The type of the file system that something open is in, as Linux calls it; "" where no mount says."""
    device = os.fstat(handle).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path(_MOUNTS).read_bytes().decode(errors="replace").split("\n"):
        mount, _, source = line.partition(" - ")
        if number in mount.split(" ")[2:3]:
            return source.partition(" ")[0]
    return ""


@contextmanager
def _directory_handle(path: Path) -> Iterator[int]:
    with closing(_Directory(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))) as directory:
        yield directory.handle


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(error.strerror) from error
        raise StorageUnavailable(error.strerror) from error
