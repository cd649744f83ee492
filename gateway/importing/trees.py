"""Sources on a file system: a directory with everything below it, or one file."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.importing.items import Fate, Item, Told
from storage.dicom.elements import Readable


@contextmanager
def opened(path: str) -> Iterator[Readable]:
    """A regular file; neither a link, nor a pipe that would keep whoever opens it waiting. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with io.FileIO(descriptor) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "not a regular file any more", path)
        yield file


def state_of(found: os.stat_result) -> str:
    """Differs when the file was changed."""
    return f"{found.st_size}-{found.st_mtime_ns}"


class OneFile:
    """A file by itself."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve(strict=True)
        self.identity = str(self._path)

    def entries(self, source: int) -> Iterator[Item | Told]:
        """See Source."""
        found = self._path.stat()
        yield Item(source, self._path.name, self.identity, found.st_size, state_of(found))

    @contextmanager
    def open(self, item: Item) -> Iterator[Readable]:
        """See Source."""
        with opened(item.place) as file:
            yield file

    def close(self) -> None:
        """See Source."""


class Tree:
    """A directory. Links are not followed: what one inside the tree names is found there by itself.

    Parameters
    ----------
    leave_out
        A directory that is not looked into: the gateway's own.
    """

    def __init__(self, root: Path, leave_out: Path) -> None:
        self._root = str(root.resolve(strict=True))
        self._leave_out = str(leave_out.resolve())
        self.identity = self._root

    def entries(self, source: int) -> Iterator[Item | Told]:
        """See Source. In the order of names, directory by directory."""
        waiting = [iter(_sorted(self._root))]
        while waiting:
            entry = next(waiting[-1], None)
            if entry is None:
                waiting.pop()
                continue
            name = os.path.relpath(entry.path, self._root)
            try:
                if entry.is_symlink():
                    yield Told(name, Fate.SKIPPED, "a symbolic link")
                elif entry.is_dir(follow_symlinks=False):
                    if entry.path == self._leave_out:
                        yield Told(name, Fate.SKIPPED, "the gateway's own directory")
                    else:
                        waiting.append(iter(_sorted(entry.path)))
                elif not entry.is_file(follow_symlinks=False):
                    yield Told(name, Fate.SKIPPED, "not a file")
                else:
                    found = entry.stat(follow_symlinks=False)
                    yield Item(source, name, entry.path, found.st_size, state_of(found))
            except OSError as error:
                yield Told(name, Fate.UNREADABLE, error.strerror or str(error))

    @contextmanager
    def open(self, item: Item) -> Iterator[Readable]:
        """See Source."""
        with opened(item.place) as file:
            yield file

    def close(self) -> None:
        """See Source."""


def _sorted(directory: str) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: os.fsencode(entry.name))
