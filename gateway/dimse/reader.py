"""Reads messages from P-DATA: what a PDU is, how long and in which order, is looked at before anything of it is kept.

References
----------
PS3.8 9.2 "DICOM Upper Layer Protocol for TCP/IP State Machine" (Sta6), 9.3.5 "P-DATA-TF PDU Structure", Annex E
"Message Fragments".
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from gateway.dimse import commands, pdus
from gateway.dimse.commands import Command, Field, MalformedCommand
from gateway.dimse.ending import Aborted, Released
from gateway.dimse.messages import Context, Follow, Message, Terms
from gateway.dimse.pdus import PduType
from gateway.dimse.received import Received
from gateway.dimse.wire import Late, Lost, Wire
from gateway.services.spool import Spool
from storage.dicom import file_meta

MAX_IDENTIFIER_BYTES = 262_144
"""Long enough for a list of 4,000 UIDs."""
MAX_ACTION_BYTES = 4 << 20
"""Long enough to ask for the commitment of 25,000 instances, or to report a step that made so many; it is in memory,
for each association that asks."""
_LONG = frozenset((Field.N_ACTION_RQ, Field.N_CREATE_RQ, Field.N_SET_RQ))
# A data set that is just too long is answered with 0xA700; one that never ends is cut off here.
_ALLOWANCE_BYTES = 16 << 20
# Slower than any modality's network; without a least rate, fragments of one byte keep a message under way for ever.
_LEAST_BYTES_PER_S = 4096


class Reader:
    """Reads the messages of one association, one after the other.

    Two clocks run while a message is under way, and neither is wound up by bytes that drip: each PDU has ``busy_s``
    from when it is waited for, and the message ``busy_s`` and the time that its length takes at the least rate.
    """

    def __init__(
        self,
        wire: Wire,
        contexts: Mapping[int, Context],
        terms: Terms,
        spool: Spool | None,
        follow: Follow | None = None,
    ) -> None:
        wire.widen()
        self._wire = wire
        self._contexts = contexts
        self._terms = terms
        self._spool = spool
        self._follow = follow
        self._pdu_left = 0
        self._message_bytes = 0
        self._message_from_s = 0.0

    def has_arrived(self, within_s: float = 0.0) -> bool:
        """Whether something of a message has arrived, or does so within a time."""
        return bool(self._pdu_left) or self._wire.has_arrived(within_s)

    def read(self, wait_s: float) -> Message:
        """The next message, whatever it is; it has to begin within so long. Raises Released, Aborted."""
        try:
            return self._message(wait_s)
        except Lost as error:
            raise Aborted(str(error), pdus.BY_USER if self._wire.stopped else None) from error
        except Late as error:
            raise Aborted("nothing came in time", pdus.NOT_SPECIFIED) from error
        except MalformedCommand as error:
            raise Aborted(f"a command set that cannot be served: {error}", pdus.BY_USER) from error

    def _message(self, wait_s: float) -> Message:
        self._begin(wait_s)
        context, command = self._command_set()
        if not command.has_data_set:
            return Message(context, command, None)
        if command.field != Field.C_STORE_RQ:
            most = MAX_ACTION_BYTES if command.field in _LONG else MAX_IDENTIFIER_BYTES
            return Message(context, command, self._identifier(context, most))
        if self._spool is None:
            raise Aborted("a C-STORE request to who asked for nothing to store", pdus.BY_USER)
        # As a file: the service learns from the File Meta Information in which transfer syntax it came.
        follow = None if self._follow is None else partial(self._follow, command)
        received = Received(self._spool, self._terms.max_instance_bytes, follow)
        received.write(memoryview(file_meta.write(file_meta.FileMeta(context.transfer_syntax))))
        try:
            self._data_set(context, received, self._spool.max_bytes + _ALLOWANCE_BYTES)
        except BaseException:
            received.discard()
            raise
        return Message(context, command, received)

    def _begin(self, wait_s: float) -> None:
        if not self._pdu_left:
            self._wire.deadline_s = time.monotonic() + wait_s
            self._wire.await_first()
        self._message_from_s = time.monotonic()
        self._message_bytes = 0
        if not self._pdu_left:
            self._begin_pdu(between=True)

    def _command_set(self) -> tuple[Context, Command]:
        encoded = bytearray()
        context: Context | None = None
        while True:
            found, control, length = self._fragment()
            if not control & pdus.COMMAND:
                raise Aborted("a data set before its command set", pdus.UNEXPECTED_PARAMETER)
            context = context or found
            if found is not context:
                raise Aborted("a message in two presentation contexts", pdus.UNEXPECTED_PARAMETER)
            if len(encoded) + length > commands.MAX_BYTES:
                raise Aborted("a command set without an end", pdus.BY_USER)
            self._into(encoded, length)
            if control & pdus.LAST:
                return context, Command.decode(encoded)

    def _identifier(self, context: Context, most: int) -> bytes:
        encoded = bytearray()
        while True:
            length, last = self._data_fragment(context, most)
            self._into(encoded, length)
            if last:
                return bytes(encoded)

    def _data_set(self, context: Context, received: Received, most: int) -> None:
        while True:
            length, last = self._data_fragment(context, most)
            while length:
                part = self._wire.some(length)
                received.write(part)
                length -= len(part)
                self._pause(self._terms.pause_s(len(part)))
            if last:
                return

    def _pause(self, pause_s: float) -> None:
        """Read nothing for a while; the peer's clocks stand still meanwhile."""
        if pause_s:
            self._wire.pause(pause_s)
            self._wire.deadline_s += pause_s
            self._message_from_s += pause_s

    def _data_fragment(self, context: Context, most: int) -> tuple[int, bool]:
        found, control, length = self._fragment()
        if control & pdus.COMMAND:
            raise Aborted("a command set within a data set", pdus.UNEXPECTED_PARAMETER)
        if found is not context:
            raise Aborted("a message in two presentation contexts", pdus.UNEXPECTED_PARAMETER)
        if self._message_bytes > most:
            raise Aborted("a data set without an end", pdus.BY_USER)
        return length, bool(control & pdus.LAST)

    def _into(self, encoded: bytearray, length: int) -> None:
        while length:
            part = self._wire.some(length)
            encoded += part
            length -= len(part)

    def _fragment(self) -> tuple[Context, int, int]:
        """The next fragment, up to its value: context, Message Control Header, length."""
        if not self._pdu_left:
            self._begin_pdu(between=False)
        if self._pdu_left < pdus.PDV_HEADER.size:
            raise Aborted("a PDU that ends inside a header", pdus.INVALID_PARAMETER)
        length, context_id, control = pdus.PDV_HEADER.unpack(self._wire.exactly(pdus.PDV_HEADER.size))
        length -= 2
        self._pdu_left -= pdus.PDV_HEADER.size
        if not 0 <= length <= self._pdu_left:
            raise Aborted("a fragment longer than its PDU, or than nothing", pdus.INVALID_PARAMETER)
        context = self._contexts.get(context_id)
        if context is None:
            why = pdus.UNEXPECTED_PARAMETER if context_id % 2 else pdus.INVALID_PARAMETER
            raise Aborted("a fragment of no presentation context", why)
        self._pdu_left -= length
        self._message_bytes += length
        return context, control, length

    def _begin_pdu(self, *, between: bool) -> None:
        """Read the header of the next PDU of data; ``between`` messages, the association may also be released."""
        now_s = time.monotonic()
        for_message_s = self._message_from_s + self._message_bytes / _LEAST_BYTES_PER_S
        self._wire.deadline_s = min(now_s, for_message_s) + self._terms.busy_s
        self._wire.acknowledge()
        kind, length = pdus.HEADER.unpack(self._wire.exactly(pdus.HEADER.size))
        if kind in pdus.FIXED and length != pdus.FIXED[kind]:
            raise Aborted("a PDU of another length than it has", pdus.INVALID_PARAMETER)
        if kind == PduType.P_DATA_TF:
            if length < pdus.PDV_HEADER.size or 0 < self._terms.receive_pdu_bytes < length:
                raise Aborted("a PDU longer than was agreed on, or empty", pdus.INVALID_PARAMETER)
            self._pdu_left = length
        elif kind == PduType.A_ABORT:
            raise Aborted("the peer aborted")
        elif kind == PduType.A_RELEASE_RQ and between:
            self._wire.exactly(length)
            self._wire.send(pdus.RELEASE_RP, self._terms.busy_s)
            raise Released("the peer released")
        elif kind in set(PduType):
            raise Aborted("a PDU out of order", pdus.UNEXPECTED_PDU)
        else:
            raise Aborted("a PDU of no known type", pdus.UNRECOGNIZED_PDU)
