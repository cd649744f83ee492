"""How an association ends, as exceptions for whoever serves a request on it."""

from __future__ import annotations

from gateway.dimse.pdus import Abort


class Ended(Exception):
    """The association is over. Handlers let it pass."""


class Released(Ended):
    """The peer released it, and has its answer."""


class Aborted(Ended):
    """The peer aborted it or is gone, or it has to be aborted: ``abort`` is what the peer is told, if anything."""

    def __init__(self, why: str, abort: Abort | None = None) -> None:
        super().__init__(why)
        self.abort = abort
