"""Audit events as values."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.context import Caller

DURABLE = frozenset(("delete", "erase", "retention", "export", "reidentify", "share", "schedule", "admin"))
"""Actions whose records are on the disk before the answer goes out; those of others follow within moments."""

BATCHED = frozenset(("read", "read_deidentified", "download", "render"))
"""Actions of which many requests are one access to a study or series."""

SEARCHES = frozenset(("search", "worklist"))
"""Actions whose every request is recorded with what it asks for, and what all found is counted together."""

BREAK_GLASS = "break-glass"
"""Outcome of what is allowed since somebody gave a reason."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What an access took after its record ``first`` was written, or how often it was denied.

    ``since`` is the time of the first request in ISO 8601; ``bytes`` are of bodies as they went out.
    """

    first: int
    since: str
    requests: int
    instances: int = 0
    frames: int = 0
    bytes: int = 0
    matches: int = 0


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One decision, or what came of one.

    ``subject`` names what it is about by UIDs; ``detail`` is free of patient data. ``outcome`` is "allowed",
    "denied", "break-glass", or a word for what became of it. ``query`` is what a search asked for, as QIDO-RS would
    have it. ``view`` is the de-identified one through which it was done; the UIDs are pseudonyms then.
    """

    action: str
    outcome: str
    caller: Caller | None
    tenant: str = ""
    subject: tuple[str, ...] = ()
    detail: str = ""
    query: str = ""
    counts: Counts | None = None
    view: str = ""
