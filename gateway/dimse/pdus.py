"""PDUs as bytes: their types, and those that are written here.

References
----------
PS3.8 9.3 "DICOM Upper Layer Protocol for TCP/IP Data Units Structure", Annex E "Message Fragments".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct(">BxI")
"""PDU-type, and the length of what follows."""
PDV_HEADER = struct.Struct(">IBB")
"""Item-length, Presentation-context-ID and Message Control Header (PS3.8 9.3.5.1, E.2)."""
COMMAND, LAST = 1, 2
"""Bits of the Message Control Header; the others are not tested."""
LARGEST_SENT = 1 << 18
"""Longest PDU that is sent to a peer that takes any."""
LEAST_SENT = 128
"""A peer that takes only shorter PDUs cannot be talked to in a sensible time."""
_OVERHEAD = PDV_HEADER.size
_LENGTH_COUNTED = 2  # the Item-length counts the context id and the control header


class PduType(IntEnum):
    """What a PDU is, by its first byte."""

    A_ASSOCIATE_RQ = 1
    A_ASSOCIATE_AC = 2
    A_ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    A_RELEASE_RQ = 5
    A_RELEASE_RP = 6
    A_ABORT = 7


FIXED = {PduType.A_RELEASE_RQ: 4, PduType.A_RELEASE_RP: 4, PduType.A_ABORT: 4, PduType.A_ASSOCIATE_RJ: 4}
"""PDUs of one length (PS3.8 9.3.4, 9.3.6 to 9.3.8)."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Source and reason of an A-ABORT (PS3.8 9.3.8); the reason counts where the provider is the source."""

    source: int
    reason: int = 0

    def encode(self) -> bytes:
        """The A-ABORT PDU."""
        return HEADER.pack(PduType.A_ABORT, 4) + bytes((0, 0, self.source, self.reason))


BY_USER = Abort(0)
"""What is wrong is above the PDUs, or no association was there yet (PS3.8 9.2.3, AA-1)."""
NOT_SPECIFIED = Abort(2, 0)
UNRECOGNIZED_PDU = Abort(2, 1)
UNEXPECTED_PDU = Abort(2, 2)
UNEXPECTED_PARAMETER = Abort(2, 5)
INVALID_PARAMETER = Abort(2, 6)

RELEASE_RQ = HEADER.pack(PduType.A_RELEASE_RQ, 4) + bytes(4)
RELEASE_RP = HEADER.pack(PduType.A_RELEASE_RP, 4) + bytes(4)


def message(
    context_id: int, command_set: bytes, data_set: Iterable[bytes] | None, max_pdu_bytes: int
) -> Iterator[bytes | bytearray]:
    """P-DATA-TF PDUs of a message, none longer than the peer takes; the command set goes with the first of its data.

    ``max_pdu_bytes`` is the peer's Maximum-length-received: it counts what follows the PDU's header (PS3.8 D.1).
    """
    most = min(max_pdu_bytes or LARGEST_SENT, LARGEST_SENT) - _OVERHEAD
    ready = bytearray()
    for start in range(0, len(command_set), most):
        part = command_set[start : start + most]
        _append(ready, context_id, COMMAND | (LAST if start + most >= len(command_set) else 0), part)
    waiting = bytearray()
    for block in data_set or ():
        view = memoryview(block)
        while view:
            if len(waiting) == most:
                # Not the last one, since there is more.
                _append(ready, context_id, 0, waiting)
                yield ready
                ready, waiting = bytearray(), bytearray()
            taken = view[: most - len(waiting)]
            waiting += taken
            view = view[len(taken) :]
    if data_set is not None:
        _append(ready, context_id, LAST, waiting)
    yield ready


def _append(ready: bytearray, context_id: int, control: int, value: bytes | bytearray) -> None:
    ready += HEADER.pack(PduType.P_DATA_TF, len(value) + _OVERHEAD)
    ready += PDV_HEADER.pack(len(value) + _LENGTH_COUNTED, context_id, control)
    ready += value
