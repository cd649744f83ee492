"""The connections that there are, and how many of each kind there may be."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Protocol

MOST_WAITING = 128
"""Connections that have not asked for an association yet; a peer that means it asks within milliseconds."""
_RESERVED = 4


class Connection(Protocol):
    """A connection, as far as places are concerned."""

    @property
    def host(self) -> str:
        """Where it comes from."""

    def stop(self) -> None:
        """End it soon. From any thread."""


class Connections:
    """Gives places to connections. Safe to use from several threads.

    Those that have no association yet have places of their own, so that they never take one of an association: of too
    many, the oldest one of the host with the most goes. Of the places of associations, a quarter is for peers that the
    policy names.

    Parameters
    ----------
    connected
        Hears how many connections more, or fewer, there are.
    """

    def __init__(self, most: int, connected: Callable[[int], None]) -> None:
        self._most = most
        self._connected = connected
        self._changed = threading.Condition()
        # In the order in which they came.
        self._waiting: dict[Connection, None] = {}
        self._associated: dict[Connection, None] = {}
        self._shed: dict[Connection, None] = {}

    def open(self, connection: Connection) -> None:
        """A connection came."""
        shed = None
        with self._changed:
            self._waiting[connection] = None
            if len(self._waiting) > MOST_WAITING:
                [(busiest, _)] = Counter(each.host for each in self._waiting).most_common(1)
                shed = next(each for each in self._waiting if each.host == busiest)
                self._shed[shed] = self._waiting.pop(shed)
        self._connected(1)
        if shed is not None:
            shed.stop()

    def associate(self, connection: Connection, *, named: bool) -> bool:
        """Give a connection the place of an association; whether there was one. ``named`` are peers of the policy."""
        with self._changed:
            most = self._most if named else self._most - self._most // _RESERVED
            if len(self._associated) >= most or connection not in self._waiting:
                return False
            del self._waiting[connection]
            self._associated[connection] = None
            return True

    def close(self, connection: Connection) -> None:
        """A connection is over."""
        with self._changed:
            for places in (self._waiting, self._associated, self._shed):
                places.pop(connection, None)
            self._changed.notify_all()
        self._connected(-1)

    @property
    def active(self) -> int:
        """How many there are."""
        with self._changed:
            return self._count()

    def stop(self) -> None:
        """End every one soon."""
        with self._changed:
            found = [*self._waiting, *self._associated, *self._shed]
        for connection in found:
            connection.stop()

    def wait_until_none(self, timeout_s: float) -> bool:
        """Wait until every connection is over, at most so long; whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count(), timeout_s)

    def _count(self) -> int:
        return len(self._waiting) + len(self._associated) + len(self._shed)
