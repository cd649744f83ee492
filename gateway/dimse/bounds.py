"""Bounds on what a peer may send: pynetdicom itself takes messages of any length and any number of them ahead."""

from __future__ import annotations

import logging
import struct

from pynetdicom import evt
from pynetdicom.pdu import P_DATA_TF

from gateway.dimse.peers import Peer, Peers, file_of
from gateway.errors import Unauthenticated

LOGGER = logging.getLogger(__name__)

MAX_IDENTIFIER_BYTES = 262_144
"""Long enough for a list of 4,000 UIDs."""
_MAX_COMMAND_BYTES = 65_536
_MAX_WAITING = 16
# A data set that is just too long is answered with 0xA700; one that never ends is cut off here.
_ALLOWANCE_BYTES = 16 << 20
_COMMAND, _LAST = 1, 2  # Message Control Header (PS3.8 E.2)

_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_RESPONDED_TO = 0x0120
_DATA_SET_TYPE = 0x0800
_AFFECTED_SOP_INSTANCE_UID = 0x1000
_UIDS = (_AFFECTED_SOP_CLASS_UID, _AFFECTED_SOP_INSTANCE_UID)
_C_STORE_RQ = 0x0001

_NEEDED = {
    _C_STORE_RQ: (_AFFECTED_SOP_CLASS_UID, _MESSAGE_ID, _DATA_SET_TYPE, _AFFECTED_SOP_INSTANCE_UID),
    0x0020: (_AFFECTED_SOP_CLASS_UID, _MESSAGE_ID, _DATA_SET_TYPE),
    0x0030: (_AFFECTED_SOP_CLASS_UID, _MESSAGE_ID, _DATA_SET_TYPE),
    0x0FFF: (_RESPONDED_TO, _DATA_SET_TYPE),
}
"""Requests that are served, C-STORE, C-FIND, C-ECHO and C-CANCEL, and what they cannot do without (PS3.7 9.3)."""


class _Hostile(Exception):
    """A message that pynetdicom would stumble over, or that has no end."""


class Bounds:
    """Aborts associations whose messages cannot be served, before pynetdicom decodes them."""

    def __init__(self, peers: Peers, max_instance_bytes: int) -> None:
        self._peers = peers
        self._max_data_set_bytes = max_instance_bytes + _ALLOWANCE_BYTES

    def pdu(self, event: evt.Event) -> None:
        """Look at a PDU before it is taken into its message."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        try:
            peer = self._peers.of(event.assoc)
            if peer.aborted:
                raise _Hostile("data after the abort")
            for item in event.pdu.presentation_data_value_items:
                if not item.data or item.context_id not in event.assoc._accepted_cx:
                    raise _Hostile("a fragment of no presentation context")
                self._fragment(peer, item.data)
            if event.assoc.dimse.msg_queue.qsize() > _MAX_WAITING:
                raise _Hostile("too many requests ahead of their responses")
        except (_Hostile, Unauthenticated) as error:
            # Emptied, because the abort comes after this PDU.
            event.pdu.presentation_data_value_items = []
            self._abort(event, error)

    def _abort(self, event: evt.Event, error: Exception) -> None:
        try:
            peer = self._peers.of(event.assoc)
        except Unauthenticated:
            event.assoc.abort()
            return
        if not peer.aborted:
            peer.aborted = True
            LOGGER.warning("request %s: association aborted: %s", peer.caller.source.request_id, error)
            event.assoc.abort()

    def _fragment(self, peer: Peer, data: bytes) -> None:
        control = data[0]
        if not control & _COMMAND:
            peer.data_bytes += len(data) - 1
            limit = self._max_data_set_bytes if peer.storing else MAX_IDENTIFIER_BYTES
            if peer.data_bytes > limit:
                raise _Hostile("a data set without an end")
            if control & _LAST:
                peer.data_bytes = 0
            return
        peer.command += data[1:]
        if len(peer.command) > _MAX_COMMAND_BYTES:
            raise _Hostile("a command set without an end")
        if control & _LAST:
            peer.storing = _checked_command(bytes(peer.command)) == _C_STORE_RQ
            peer.command.clear()
            peer.data_bytes = 0

    def message(self, event: evt.Event) -> None:
        """Note the file of a whole message before it waits to be served."""
        found = file_of(event.message)
        if found:
            self._peers.of(event.assoc).received.update(found)


def _checked_command(command: bytes) -> int:
    """The Command Field of a command set that can be served; Implicit VR Little Endian (PS3.7 6.3.1)."""
    found: dict[int, bytes] = {}
    position = 0
    while position + 8 <= len(command):
        group, element, length = struct.unpack_from("<HHI", command, position)
        position += 8 + length
        if group or position > len(command):
            break
        value = command[position - length : position]
        found[element] = value.strip(b"\0 ") if element in _UIDS else value
    field = int.from_bytes(found.get(_COMMAND_FIELD, b""), "little")
    if position != len(command) or field not in _NEEDED:
        raise _Hostile("a command set that cannot be served")
    if not all(found.get(element) for element in _NEEDED[field]):
        raise _Hostile("a command set without what it needs")
    return field
