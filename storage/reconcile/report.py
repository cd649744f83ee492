"""What a run over the bucket did, for people and scripts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """What a run did. ``damaged`` names objects that could not be read or kept, with the reason.

    ``objects`` were listed, records and foreign ones included; ``seen`` instances have been gone through; ``known`` of
    those had their row already; ``waiting`` ones are for the gateway that writes the bucket to decide about.
    """

    objects: int = 0
    seen: int = 0
    known: int = 0
    indexed: int = 0
    quarantined: int = 0
    records: int = 0
    removed: int = 0
    waiting: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)
