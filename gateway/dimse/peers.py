"""Who is on an association."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.door import Decision
from gateway.context import Caller


@dataclass(slots=True)
class Peer:
    """One recognised peer."""

    caller: Caller
    store: Decision | None = None
    """The decision that serves all C-STORE of the association."""
