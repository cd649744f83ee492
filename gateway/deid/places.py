"""Where on its way through a data set the engine is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from gateway.deid.profile import Rule
from storage.dicom import charsets


class Mode(Enum):
    """How attributes in a sequence that the table does not list are taken."""

    PLAIN = "kept"
    CLEAN = "texts are cleaned"
    DUMMY = "everything is a dummy"


@dataclass
class Place:
    """Where a data set is: the tags on the way to it, its character sets, its place in the old and new content tree.

    ``overrides`` has rules for attributes of this data set alone, before the profile's.
    """

    path: tuple[int, ...] = ()
    codecs: charsets.Encodings = charsets.DEFAULT
    mode: Mode = Mode.PLAIN
    position: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    overrides: Mapping[int, Rule] = field(default_factory=dict)

    def beside(self) -> Place:
        """The place of another item of the same sequence."""
        return Place(self.path, self.codecs, self.mode)
