"""A source that is a ZIP: a tree of files, or a file-set with a DICOMDIR. Members' names are never used as paths."""

from __future__ import annotations

import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gateway.importing.file_sets import NOT_A_FILE_ID, NOT_THERE, is_file_id
from gateway.importing.items import Fate, Item, Told
from storage.dicom import directory_reading
from storage.dicom.directory import FILE_ID
from storage.dicom.elements import Readable
from storage.dicom.limits import Limits
from storage.errors import LimitExceeded, Truncated, Unreadable

_MAX_DIRECTORY_BYTES = 256 << 20
"""Of the list of members, which is held in memory: some two million of them."""
_ENCRYPTED = 0x1
_METHODS = frozenset((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
"""The others that Python knows inflate a block without a bound."""


class Zip:
    """A ZIP file."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path.resolve(strict=True)
        self._limits = limits
        self._lock = threading.Lock()
        self._file: zipfile.ZipFile | None = None
        self.identity = str(self._path)

    def __reduce__(self) -> tuple[type[Zip], tuple[Path, Limits]]:
        return Zip, (self._path, self._limits)

    def entries(self, source: int) -> Iterator[Item | Told]:
        """See Source. In the order of the ZIP, or of its DICOMDIR."""
        archive = self._opened()
        self._check_sum(archive)
        members = archive.infolist()
        folder = _folder_of_directory(members)
        if folder is None:
            for number, member in enumerate(members):
                if not member.is_dir():
                    yield self._entry(source, number, member)
            return
        yield from self._file_set(source, members, folder)

    def _opened(self) -> zipfile.ZipFile:
        with self._lock:
            if self._file is None:
                self._bytes = _Bounded(self._path)
                try:
                    self._file = zipfile.ZipFile(self._bytes)
                except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
                    self._bytes.close()
                    raise Truncated(f"{self._path}: not a whole ZIP: {error}") from error
            return self._file

    def _check_sum(self, archive: zipfile.ZipFile) -> None:
        size = self._path.stat().st_size
        if sum(member.file_size for member in archive.infolist()) > self._inflated(size):
            raise LimitExceeded(
                f"{self._path}: its members are more than {self._limits.max_inflate_ratio} times its size"
            )

    def _inflated(self, size: int) -> int:
        """How long so many bytes may become (``limits.max_inflate_ratio``)."""
        return max(self._limits.inflate_allowance_bytes, self._limits.max_inflate_ratio * size)

    def _entry(self, source: int, number: int, member: zipfile.ZipInfo) -> Item | Told:
        if member.flag_bits & _ENCRYPTED:
            return Told(member.filename, Fate.REFUSED, "encrypted: unpack it, and import what comes out")
        if member.compress_type not in _METHODS:
            return Told(member.filename, Fate.REFUSED, "compressed by another method than deflate: unpack it first")
        if member.file_size > self._inflated(member.compress_size):
            ratio = self._limits.max_inflate_ratio
            return Told(member.filename, Fate.REFUSED, f"inflates to more than {ratio} times its size")
        return Item(source, member.filename, str(number), member.file_size, f"{member.file_size}-{member.CRC:08x}")

    def _file_set(self, source: int, members: list[zipfile.ZipInfo], folder: str) -> Iterator[Item | Told]:
        numbers = {member.filename.upper(): number for number, member in enumerate(members)}
        directory = numbers[f"{folder}{FILE_ID}"]
        entry = self._entry(source, directory, members[directory])
        if isinstance(entry, Told):
            yield entry
            return
        named = {directory}
        try:
            with self.open(entry) as file:
                for components in directory_reading.referenced_files(file, self._limits):
                    name = "/".join(components)
                    number = numbers.get(f"{folder}{name}".upper())
                    if not is_file_id(components):
                        yield Told(name, Fate.REFUSED, NOT_A_FILE_ID)
                    elif number is None:
                        yield Told(name, Fate.MISSING, NOT_THERE)
                    else:
                        named.add(number)
                        yield self._entry(source, number, members[number])
        except Unreadable as error:
            yield Told(entry.name, Fate.REFUSED, f"the DICOMDIR is damaged from here on: {error}")
        for number, member in enumerate(members):
            if number not in named and not member.is_dir():
                yield Told(member.filename, Fate.SKIPPED, "the DICOMDIR does not name it")

    @contextmanager
    def open(self, item: Item) -> Iterator[Readable]:
        """See Source. A member is read up to the length that it declares."""
        archive = self._opened()
        try:
            member = archive.open(archive.infolist()[int(item.place)])
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise Truncated(f"the member of the ZIP cannot be read: {error}") from error
        with member:
            yield _Member(member)

    def close(self) -> None:
        """See Source."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
                self._bytes.close()


class _Member:
    """A member's bytes; damage in them is told as ours."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member

    def read(self, size: int, /) -> bytes:
        """See Readable."""
        try:
            return self._member.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise Truncated("the member of the ZIP is damaged") from error


class _Bounded:
    """A file that gives no more at once than a list of members may have: a ZIP's size of it is not believed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size if 0 <= size <= _MAX_DIRECTORY_BYTES else _MAX_DIRECTORY_BYTES + 1)
        if len(data) > _MAX_DIRECTORY_BYTES:
            raise ValueError("its list of members is too long")
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()


def _folder_of_directory(members: list[zipfile.ZipInfo]) -> str | None:
    """Where the DICOMDIR is, in capitals: the one that lies least deep; None without one."""
    found = [name for member in members if (name := member.filename.upper()).rpartition("/")[2] == FILE_ID]
    return min(found, key=lambda name: name.count("/")).removesuffix(FILE_ID) if found else None
