"""C-FIND: identifiers to the query service and back (PS3.4 C.4.1 "C-FIND Operation")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_FIND

from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.dimse import identifiers, status
from gateway.dimse.answers import Answers
from gateway.dimse.peers import Peer, Peers
from gateway.errors import PayloadTooLarge

_BLOCK = 500
_Response = tuple[int | Dataset, Dataset | None]


class FindHandler:
    """Answers C-FIND requests."""

    def __init__(self, core: Core, peers: Peers) -> None:
        self._core = core
        self._peers = peers

    def __call__(self, event: evt.Event) -> Iterator[_Response]:
        """The responses of one request; pynetdicom adds the final 0x0000.

        *Status*

        | ``0xFF00``, ``0xFF01`` A match; the second when a key was not supported
        | ``0xFE00`` Cancelled
        | ``0x0124`` Refused: not authorized
        | ``0xA700`` Refused: out of resources, or more matches than are given
        | ``0xA900`` Identifier does not match SOP Class
        | ``0xC000``, ``0xC001`` Unable to process; the identifier cannot be read
        """
        peer = self._peers.of(event.assoc)
        try:
            yield from self._find(event, peer)
        except Exception as error:
            yield status.of_find(error, peer.caller.source.request_id), None

    def _find(self, event: evt.Event, peer: Peer) -> Iterator[_Response]:
        syntax = str(event.context.transfer_syntax)
        request = event.request
        assert isinstance(request, C_FIND)
        assert request.Identifier is not None
        encoded = request.Identifier.getvalue()
        identifier = identifiers.parse(encoded, syntax, str(event.context.abstract_syntax), self._core.limits)
        settings = self._core.settings.dimse
        answers = Answers(identifier, syntax, settings.ae_title)
        query = dataclasses.replace(
            identifier.query(), limit=min(_BLOCK, settings.max_matches), counted=settings.max_matches + 2
        )
        shown = self._core.projections.of(peer.caller, Action.SEARCH)
        decision = shown.query.enter(peer.caller, query)
        while True:
            found = shown.query.search(decision, query)
            if query.offset + len(found.results) + found.remaining > settings.max_matches:
                raise PayloadTooLarge(f"more than {settings.max_matches} matches")
            pending = status.PENDING_WARNING if found.unmatched or identifier.unsupported else status.PENDING
            for result in found.results:
                if event.is_cancelled:
                    yield status.CANCEL.code, None
                    return
                yield pending.code, answers.answer(result)
            if not found.remaining or not found.results:
                return
            query = dataclasses.replace(query, offset=query.offset + len(found.results))
