"""Targets that are a directory, with files under pseudonymous names, or a ZIP, which is a file-set with a DICOMDIR."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import threading
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from io import BufferedRandom
from pathlib import Path

from gateway.exporting.items import MANIFEST, ExportError, Item, Kind, NotExported, Put
from gateway.services.package import FileIds, entry_of
from storage.dicom.directory import FILE_ID, Directory, Member
from storage.errors import ObjectDamaged

_FILE_MODE, _FOLDER_MODE = 0o640, 0o750
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)


def manifest_names() -> Iterator[str]:
    """Names of manifests, the first one that is free to be taken: each export into the same place has its own."""
    yield f"{MANIFEST}.json"
    yield from (f"{MANIFEST}-{number}.json" for number in itertools.count(2))


class NewFile:
    """A file that appears under its name when it is whole, and never in the place of another.

    Raises NotExported when another export is writing it.
    """

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._path = path
        self._fsync = fsync
        self._part = path.with_name(f".{path.name}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.file = os.fdopen(os.open(self._part, flags, _FILE_MODE), "wb")
        try:
            self._take()
        except BaseException:
            self.file.close()
            raise

    def _take(self) -> None:
        """Make sure that nobody else has the part, and empty it of what a killed export left."""
        handle = self.file.fileno()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise NotExported("another export is writing it") from error
        if not _is_same(self._part, handle):
            raise NotExported("another export has just written it")  # this is its file now, and no part
        os.ftruncate(handle, 0)

    def publish(self) -> None:
        """Give it its name. Raises NotExported when that is taken."""
        self.file.flush()
        if self._fsync:
            os.fsync(self.file.fileno())
        try:
            os.link(self._part, self._path)
        except FileExistsError as error:
            raise NotExported("another file is in its place") from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A file system without links, as on most sticks.
            if os.path.lexists(self._path):
                raise NotExported("another file is in its place") from error
            self._part.rename(self._path)

    def close(self) -> None:
        """Remove the part, whether it was published or not. Idempotent."""
        if not self.file.closed:
            # While the lock is held: whoever comes next makes a part anew.
            self._part.unlink(missing_ok=True)
            self.file.close()


def _is_same(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False


class Folder:
    """A directory. A file that is there with the right size is left, one with another size is not overwritten."""

    at_once = 4

    def __init__(self, root: Path, *, fsync: bool) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        self._root = root
        self._fsync = fsync
        self._lock = threading.Lock()
        self._changed = {root}

    def expect(self, _kinds: Collection[Kind]) -> None:
        """See Target: a file is a file."""

    def begin(self, _items: Sequence[Item]) -> None:
        """See Target."""
        self._keep_names()

    def put(self, item: Item) -> Put:
        """See Target."""
        path = self._root / item.path
        if os.path.lexists(path):
            if path.is_file() and path.stat().st_size == item.located.size:
                return Put(item.path, before=True)
            raise NotExported("another file is in its place")
        path.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        with closing(NewFile(path, fsync=self._fsync)) as new:
            for block in item.blocks():
                new.file.write(block)
            new.publish()
        with self._lock:
            self._changed.update(path.parents[:3])
        return Put(item.path)

    def finish(self, manifest: BufferedRandom) -> None:
        """See Target."""
        digest = hashlib.file_digest(manifest, "sha256").digest()
        for path in (self._root / name for name in manifest_names()):
            if not os.path.lexists(path):
                with closing(NewFile(path, fsync=self._fsync)) as new:
                    manifest.seek(0)
                    shutil.copyfileobj(manifest, new.file)
                    new.publish()
                break
            with path.open("rb") as there:
                if hashlib.file_digest(there, "sha256").digest() == digest:
                    break
        self._changed.add(self._root)
        self._keep_names()

    def close(self) -> None:
        """See Target."""

    def _keep_names(self) -> None:
        """Make the names durable that were given since the last time."""
        changed, self._changed = self._changed, set()
        if self._fsync:
            for each in sorted(changed):
                handle = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)


class Zip:
    """A ZIP of a DICOM file-set (PS3.10 8); it appears when it is whole."""

    at_once = 1

    def __init__(self, path: Path, *, fsync: bool) -> None:
        if os.path.lexists(path):
            raise ExportError(f"{path} is there already, and an export overwrites nothing")
        self._path = path
        try:
            self._new = NewFile(path, fsync=fsync)
        except NotExported as error:
            raise ExportError(f"{path}: {error}") from error
        self._zip = zipfile.ZipFile(self._new.file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._names = FileIds()
        self._directory = Directory()
        self._seed = hashlib.sha256()

    def expect(self, _kinds: Collection[Kind]) -> None:
        """See Target: a file is a file."""

    def begin(self, _items: Sequence[Item]) -> None:
        """See Target."""

    def put(self, item: Item) -> Put:
        """See Target."""
        located, blocks = item.located, item.blocks()
        first = next(blocks)  # what is gone is known before it has an entry
        file_id = self._names.next(located)
        name = "/".join(file_id)
        try:
            with entry_of(self._zip, name) as entry:
                entry.write(first)
                for block in blocks:
                    entry.write(block)
        except ObjectDamaged as error:
            raise ExportError("an instance is damaged, and no ZIP can have half of one") from error
        syntax = located.transfer_syntax_uid
        self._directory.add(Member(file_id, located.sop_class_uid, located.key.sop_uid, syntax, item.data_set()))
        self._seed.update(located.version.encode())
        return Put(name)

    def finish(self, manifest: BufferedRandom) -> None:
        """See Target."""
        with entry_of(self._zip, FILE_ID) as entry:
            entry.write(self._directory.dumps(self._seed.hexdigest()))
        with entry_of(self._zip, next(manifest_names())) as entry:
            shutil.copyfileobj(manifest, entry)
        self._zip.close()
        try:
            self._new.publish()
        except NotExported as error:
            raise ExportError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """See Target."""
        if self._zip.fp is not None:
            self._zip.fp = None  # what was begun is thrown away: no directory of it has to be written
        self._new.close()
