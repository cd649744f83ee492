"""What is exported and where to: the forms that selection, run and targets share."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedRandom
from typing import Protocol

from storage.dicom.json_model import JsonDataSet
from storage.index.stored import Located

MANIFEST = "manifest"
"""The name of a manifest, before its suffix."""

Kind = tuple[str, str]
"""SOP class and transfer syntax."""
_FOLDER_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]")


class ExportError(Exception):
    """An export cannot begin, or not go on."""


class NotExported(Exception):
    """The target did not take one instance; the others go on."""


def kind_of(located: Located) -> Kind:
    """The kind of an instance."""
    return str(located.sop_class_uid), str(located.transfer_syntax_uid)


@dataclass(frozen=True, slots=True)
class Item:
    """An instance as a view shows it: everything here is a pseudonym.

    ``blocks`` are its Part 10 file, whose digest is compared at the end; they can be asked for again.
    """

    located: Located
    patient_id: str
    blocks: Callable[[], Iterator[bytes]]
    data_set: Callable[[], JsonDataSet]

    @property
    def kind(self) -> Kind:
        """What a peer has to take to be sent it."""
        return kind_of(self.located)

    @property
    def folder(self) -> str:
        """The folder of its study, for targets with names of their own."""
        # A recipe may give patients any text for an ID; this one can be no other path, and stand in every file system.
        return f"{_FOLDER_CHARACTERS.sub('_', self.patient_id) or '_'}/{self.located.key.study_uid}"

    @property
    def path(self) -> str:
        """Its name, which is the same in every export of the view."""
        return f"{self.folder}/{self.located.key.series_uid}/{self.located.key.sop_uid}.dcm"


@dataclass(frozen=True, slots=True)
class Put:
    """Where an instance is now, "" when that is in no file; ``before`` when an earlier export put it there."""

    path: str
    before: bool = False


class Target(Protocol):
    """Where instances go. ``put`` is called from ``at_once`` threads, everything else from one."""

    at_once: int

    def expect(self, kinds: Collection[Kind]) -> None:
        """What kinds of instances will come, as far as that is known; called before the first study."""
        ...

    def begin(self, items: Sequence[Item]) -> None:
        """The instances of one study come next. Raises ExportError, StorageUnavailable, OSError."""
        ...

    def put(self, item: Item) -> Put:
        """Take one; nothing that is there is overwritten.

        Raises
        ------
        NotExported
            This one cannot be taken.
        ExportError, storage.errors.StorageError, OSError
            None can be, any more; ObjectNotFound and ObjectDamaged tell of the instance that was read.
        """
        ...

    def finish(self, manifest: BufferedRandom) -> None:
        """Everything was put; ``manifest`` goes beside it, where there is such a place. Raises as ``put``."""
        ...

    def close(self) -> None:
        """Let go of everything, and leave nothing that is not whole. Idempotent."""
        ...
