"""Who is on an association."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.door import Decision
from gateway.access.sending import ANYTHING, Sending
from gateway.context import Caller


@dataclass(slots=True)
class Peer:
    """One recognised peer."""

    caller: Caller
    sending: Sending = ANYTHING
    """Of the AE, whoever the caller is."""
    pace: str = ""
    """Whose bytes count together, where its rate is bounded."""
    identified: bool = False
    """Whether the caller is who was shown by user identity, and not the AE."""
    store: Decision | None = None
    """The decision that serves all C-STORE of the association."""
