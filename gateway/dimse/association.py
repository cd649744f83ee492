"""An association: whole messages in, messages out, on the one thread that owns its socket.

References
----------
PS3.7 6.3 "DIMSE Message Structure", PS3.8 Annex E "Message Fragments".
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from gateway.dimse import pdus
from gateway.dimse.commands import Command, Element, Field, Value
from gateway.dimse.ending import Aborted
from gateway.dimse.messages import Context, Follow, Message, Terms
from gateway.dimse.peers import Peer
from gateway.dimse.reader import Reader
from gateway.dimse.wire import Late, Lost, Wire
from gateway.services.spool import Spool

_MAX_WAITING = 16
_WAITED_S = 1.0


class Exchange:
    """Messages on one association, whoever asked for it.

    Parameters
    ----------
    spool
        Takes what the peer stores with us; without it nothing is taken.
    follow
        Of what is taken.
    """

    def __init__(
        self,
        wire: Wire,
        contexts: Mapping[int, Context],
        terms: Terms,
        spool: Spool | None = None,
        follow: Follow | None = None,
    ) -> None:
        self.contexts = contexts
        self._wire = wire
        self._terms = terms
        self._reader = Reader(wire, contexts, terms, spool, follow)
        self._waiting: deque[Message] = deque()
        self._cancelled: set[int] = set()

    def send(self, context_id: int, command: Command, data_set: Iterable[bytes] | None = None) -> None:
        """Send a message. Raises Aborted."""
        try:
            for data in pdus.message(context_id, command.encode(), data_set, self._terms.send_pdu_bytes):
                self._wire.send(data, self._terms.busy_s)
        except Lost as error:
            raise Aborted(str(error)) from error
        except Late as error:
            raise Aborted("what is sent is not taken", pdus.NOT_SPECIFIED) from error

    def request(
        self,
        context_id: int,
        command: Command,
        data_set: Iterable[bytes] | None,
        waiting: Callable[[], None] = lambda: None,
    ) -> Message:
        """Ask the peer; its response. Raises Released, Aborted.

        Parameters
        ----------
        waiting
            Called about every second until the response begins.
        """
        self.send(context_id, command, data_set)
        while True:
            deadline_s = time.monotonic() + self._terms.busy_s
            while not self._reader.has_arrived(_WAITED_S) and time.monotonic() < deadline_s:
                waiting()
            message = self._reader.read(self._terms.busy_s)
            if message.command.is_response and message.command.responds_to == command.message_id:
                return message
            self._put_aside(message)

    def responses(
        self,
        context_id: int,
        command: Command,
        data_set: Iterable[bytes],
        within_s: float,
        serve: Callable[[Message], None] | None = None,
    ) -> Iterator[Message]:
        """Ask the peer for what has several responses; the last one is not pending. Raises Released, Aborted.

        Parameters
        ----------
        within_s
            How long the peer may take until each of them begins.
        serve
            Answers what the peer requests meanwhile.
        """
        self.send(context_id, command, data_set)
        while True:
            message = self._reader.read(within_s)
            if not message.command.is_response and serve is not None:
                try:
                    serve(message)
                finally:
                    message.discard()
                continue
            if not message.command.is_response or message.command.responds_to != command.message_id:
                self._put_aside(message)
                continue
            yield message
            if not message.command.is_pending:
                return

    def cancel(self, context_id: int, command: Command) -> None:
        """Ask the peer to stop; the last response is still to come, and others may. Raises Aborted."""
        values: dict[Element, Value] = {Element.MESSAGE_ID_BEING_RESPONDED_TO: command.message_id}
        self.send(context_id, Command.of(Field.C_CANCEL_RQ, values, data_set=False))

    def is_cancelled(self, message_id: int) -> bool:
        """Whether the peer has cancelled a request, as far as has arrived. Raises Released, Aborted."""
        while self._reader.has_arrived():
            self._put_aside(self._reader.read(self._terms.busy_s))
        return message_id in self._cancelled

    def discard(self) -> None:
        """Let go of the requests that wait."""
        while self._waiting:
            self._waiting.popleft().discard()

    def _put_aside(self, message: Message) -> None:
        if message.command.field == Field.C_CANCEL_RQ and len(self._cancelled) <= _MAX_WAITING:
            self._cancelled.add(message.command.responds_to)
            return
        self._waiting.append(message)
        if message.command.is_response:
            raise Aborted("a response to no request", pdus.BY_USER)
        if len(self._waiting) > _MAX_WAITING:
            raise Aborted("too many requests ahead of their responses", pdus.BY_USER)


class Association(Exchange):
    """One accepted association. Requests are served one after the other; a few may come ahead of their turn."""

    def __init__(
        self, wire: Wire, peer: Peer, contexts: Mapping[int, Context], terms: Terms, spool: Spool, follow: Follow
    ) -> None:
        super().__init__(wire, contexts, terms, spool, follow)
        self.peer = peer

    def receive(self) -> Message:
        """The next request. Raises Released, Aborted."""
        self._cancelled.clear()
        while True:
            message = self._waiting.popleft() if self._waiting else self._reader.read(self._terms.idle_s)
            if message.command.is_response:
                raise Aborted("a response to no request", pdus.BY_USER)
            # What it cancels is answered already.
            if message.command.field != Field.C_CANCEL_RQ:
                return message
