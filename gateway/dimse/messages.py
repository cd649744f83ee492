"""What is negotiated of an association, and the messages on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from gateway.dimse.commands import Command
from gateway.dimse.received import Received
from gateway.services.spool import Follower


class Extension(IntEnum):
    """Bytes of the SOP Class Extended Negotiation of Query/Retrieve (PS3.4 Tables C.5-1 and C.5-3)."""

    RELATIONAL = 0
    COMBINED_DATE_TIME = 1
    FUZZY_NAMES = 2
    TIMEZONE = 3
    ENHANCED_MULTI_FRAME = 4
    EMPTY_VALUES = 5
    MULTIPLE_VALUES = 6


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context, with the roles that we have in it (PS3.7 D.3.3.4).

    ``extended`` is what was negotiated beyond, a byte for each thing (PS3.4 C.5.1.1).
    """

    id: int
    abstract_syntax: str
    transfer_syntax: str
    as_scp: bool = True
    as_scu: bool = False
    extended: bytes = b""

    def has(self, extension: Extension) -> bool:
        """Whether something was negotiated."""
        return self.extended[extension : extension + 1] == b"\x01"


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message; the data set of a C-STORE request is spooled, any other is short."""

    context: Context
    command: Command
    data_set: bytes | Received | None

    def discard(self) -> None:
        """Let go of what it spooled, unless that was taken. Idempotent."""
        if isinstance(self.data_set, Received):
            self.data_set.discard()


Follow = Callable[[Command], Follower | None]
"""Gives who follows what arrives with a command, if anybody does."""


def never(_count: int) -> float:
    """No pause."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How long is waited on an association, and how much is taken. Maximum lengths as negotiated; 0 is any."""

    idle_s: float
    """For the next message."""
    busy_s: float
    """For a PDU that is under way or has to follow; for a message, besides the time that its length takes."""
    receive_pdu_bytes: int
    send_pdu_bytes: int
    max_instance_bytes: int | None = None
    """Of a data set to store, beside the spool's own bound."""
    pause_s: Callable[[int], float] = never
    """How long to pause after so many bytes of data sets."""
