"""What was done to each attribute, for whoever asks why."""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass
class Log:
    """What was done to one instance, and what is worth a warning; warnings name attributes, never values."""

    outcomes: list[Outcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def record(self, around: tuple[int, ...], tag: int, action: Action | None, done: Done, why: str) -> None:
        """Note what was done to an attribute in the sequences ``around`` it."""
        self.outcomes.append(Outcome((*around, int(tag)), action, done, why))

    def warn(self, tag: int, what: str) -> None:
        """Note a warning about an attribute."""
        self.warnings.append(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {what}")
