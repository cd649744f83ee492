"""A source that a DICOMDIR describes: the files that it names, and no other (PS3.10 8 "DICOM File Service")."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from gateway.importing.items import Fate, Item, Told
from gateway.importing.trees import opened, state_of
from storage.dicom import directory_reading, file_meta
from storage.dicom.directory import DIRECTORY_CLASS, FILE_ID
from storage.dicom.elements import Readable
from storage.dicom.limits import Limits
from storage.errors import Unreadable

NOT_A_FILE_ID = "the DICOMDIR names it by no valid file ID"
NOT_THERE = "the DICOMDIR names it, and it is not there"


def is_directory(path: Path, limits: Limits) -> bool:
    """Whether a file is a DICOMDIR, by its name or by what it says of itself. Raises OSError."""
    if path.name.upper() == FILE_ID:
        return True
    with opened(str(path.resolve(strict=True))) as file:
        try:
            meta, _, _ = file_meta.read(file, limits)
        except Unreadable:
            return False
    return meta.sop_class_uid == DIRECTORY_CLASS


def is_file_id(components: Sequence[str]) -> bool:
    """Whether the components lead to something below, whatever the operating system."""
    return all(part and part not in (".", "..") and not set(part) & set("/\\:\0") for part in components)


class FileSet:
    """The files that a DICOMDIR names. Letter case is not looked at: media are mounted with the one or the other."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path.resolve(strict=True)
        self._limits = limits
        self.identity = str(self._path)

    def entries(self, source: int) -> Iterator[Item | Told]:
        """See Source. In the order of the DICOMDIR."""
        names = lru_cache(maxsize=64)(_names)
        with opened(self.identity) as file:
            references = directory_reading.referenced_files(file, self._limits)
            while True:
                try:
                    components = next(references, None)
                except Unreadable as error:
                    yield Told(self._path.name, Fate.REFUSED, f"the DICOMDIR is damaged from here on: {error}")
                    return
                if components is None:
                    return
                name = "/".join(components)
                if not is_file_id(components):
                    yield Told(name, Fate.REFUSED, NOT_A_FILE_ID)
                    continue
                place = str(self._path.parent)
                try:
                    for part in components:
                        place = str(Path(place) / names(place)[part.upper()])
                    found = os.lstat(place)
                except (KeyError, NotADirectoryError):
                    yield Told(name, Fate.MISSING, NOT_THERE)
                except OSError as error:
                    yield Told(name, Fate.UNREADABLE, error.strerror or str(error))
                else:
                    if stat.S_ISREG(found.st_mode):
                        yield Item(source, name, place, found.st_size, state_of(found))
                    else:
                        yield Told(name, Fate.MISSING, NOT_THERE)

    @contextmanager
    def open(self, item: Item) -> Iterator[Readable]:
        """See Source."""
        with opened(item.place) as file:
            yield file

    def close(self) -> None:
        """See Source."""


def _names(directory: str) -> dict[str, str]:
    """Names in a directory by their capitals; links are left out, since they may lead anywhere."""
    with os.scandir(directory) as entries:
        return {entry.name.upper(): entry.name for entry in entries if not entry.is_symlink()}
