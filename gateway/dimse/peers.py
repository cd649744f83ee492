"""Who is on which association, and which received files are theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage

from gateway.access.door import Decision
from gateway.context import Caller
from gateway.dimse.received import ReceivedFile
from gateway.errors import Unauthenticated


def file_of(message: DIMSEMessage | None) -> dict[Path, ReceivedFile]:
    """The file, if any, into which pynetdicom receives the data set of a C-STORE request."""
    file = getattr(message, "_data_set_file", None)
    return {file.path: file} if isinstance(file, ReceivedFile) else {}


@dataclass(slots=True)
class Peer:
    """One recognised peer. Its association's threads share it; each field is written by one of them only."""

    caller: Caller
    store: Decision | None = None
    """The decision that serves all C-STORE of the association."""
    received: dict[Path, ReceivedFile] = field(default_factory=dict)
    """Files of messages that are received and not yet served."""
    command: bytearray = field(default_factory=bytearray)
    """Of the message that is being received: what has come of its command set,"""
    storing: bool = False
    """whether it is a C-STORE request,"""
    data_bytes: int = 0
    """and how long its data set is so far."""
    aborted: bool = False


class Peers:
    """The associations that are there. Safe to use from several threads.

    Parameters
    ----------
    connected
        Hears how many connections more, or fewer, there are.
    """

    def __init__(self, connected: Callable[[int], None] = lambda _more: None) -> None:
        self._connected = connected
        self._changed = threading.Condition()
        self._associations: set[Association] = set()
        self._peers: dict[Association, Peer] = {}

    def open(self, association: Association) -> None:
        """A connection came."""
        with self._changed:
            self._associations.add(association)
        self._connected(1)

    def recognise(self, association: Association, peer: Peer) -> None:
        """Say who it is; without that, nothing is served on it."""
        with self._changed:
            self._peers[association] = peer

    def of(self, association: Association) -> Peer:
        """Who is on an association. Raises Unauthenticated."""
        with self._changed:
            peer = self._peers.get(association)
        if peer is None:
            raise Unauthenticated("the association is nobody's")
        return peer

    def close(self, association: Association) -> None:
        """The association is over: forget it, and remove what it left in the spool."""
        with self._changed:
            peer = self._peers.pop(association, None)
            self._associations.discard(association)
        left = dict(peer.received) if peer is not None else {}
        left.update(file_of(association.dimse.message))
        for path, handle in left.items():
            handle.close()
            path.unlink(missing_ok=True)
        self._connected(-1)
        with self._changed:
            self._changed.notify_all()

    def all(self) -> tuple[Association, ...]:
        """The associations that are there now."""
        with self._changed:
            return tuple(self._associations)

    def wait_until_none(self, timeout_s: float) -> bool:
        """Wait until every association is over, at most so long; whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._associations, timeout_s)
