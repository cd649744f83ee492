"""What was done to each attribute, for whoever asks why."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from gateway.deid.table import Action


class Done(StrEnum):
    """What became of an attribute."""

    KEPT = "kept"
    REMOVED = "removed"
    EMPTIED = "emptied"
    REPLACED = "replaced by a dummy"
    PSEUDONYM = "replaced by a pseudonym"
    CLEANED = "cleaned"
    SHIFTED = "shifted"
    ENTERED = "items gone through"


class Outcome(NamedTuple):
    """One attribute's. ``path`` has the tags of the sequences around it and its own; ``why`` names the rule.

    ``action`` is what the rule asked for, before the IOD decided on a compound one; None outside of the table.
    """

    path: tuple[int, ...]
    action: Action | None
    done: Done
    why: str

    def place(self) -> str:
        """The path as a person reads it: ``(0040,0275).(0040,0007)``."""
        return ".".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in self.path)
