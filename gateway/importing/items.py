"""What a source gives, and what became of it, as values that travel between processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from storage.dicom.elements import Readable


class Fate(StrEnum):
    """What became of a file."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    NEW_VERSION = "new version"
    ALTERNATIVE = "alternative"
    QUARANTINED = "quarantined"
    SKIPPED = "skipped"
    """Not DICOM, or nothing that can be read as a file."""
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    """The source could not give its bytes."""
    MISSING = "missing"
    """A DICOMDIR names it and it is not there."""
    STOPPED = "stopped"
    """The archive takes nothing just now, whatever it is."""


TAKEN = frozenset((Fate.STORED, Fate.DUPLICATE, Fate.NEW_VERSION, Fate.ALTERNATIVE))
"""The instance is in the archive."""
WRONG = frozenset((Fate.QUARANTINED, Fate.REFUSED, Fate.UNREADABLE, Fate.MISSING))
"""Somebody has to look."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a source.

    ``place`` is the source's own way to find it again; ``state`` differs when the file was changed since.
    """

    source: int
    name: str
    place: str
    size: int
    state: str


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a file, and why; ``name`` is the source's."""

    name: str
    fate: Fate
    reason: str = ""
    size: int = 0


class Source(Protocol):
    """Where files come from. It is picklable: the processes that store open the files."""

    @property
    def identity(self) -> str:
        """Names the source, the same in another run."""
        ...

    def entries(self, source: int) -> Iterator[Item | Told]:
        """Its files in an order that does not change; what is no file, or not there, as what became of it.

        ``source`` is this source's number. Raises StorageUnavailable and OSError when the source as a whole cannot be
        read.
        """
        ...

    def open(self, item: Item) -> AbstractContextManager[Readable]:
        """A file's bytes. Raises OSError, StorageError."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
