"""A target of exports that is a peer: instances go to it by C-STORE, in the transfer syntaxes as stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from io import BufferedRandom

from gateway.config.serving import DimseSettings
from gateway.dimse.destinations import Destination
from gateway.dimse.ending import Ended
from gateway.dimse.requesting import NotAssociated
from gateway.dimse.sending import Sender, is_stored
from gateway.dimse.told import OF_STORE, said
from gateway.exporting.items import ExportError, Item, Kind, NotExported, Put

_LOST_IN_A_ROW = 3
"""So many instances lost one after the other are no fault of theirs."""


class StoragePeer:
    """A peer that stores what it is sent, over one association.

    Another one takes its place when it breaks, and when it has no presentation context for what comes.
    """

    at_once = 1

    def __init__(self, peer: Destination, settings: DimseSettings) -> None:
        self._sender = Sender(peer.address, settings, peer.tls)
        self._lost = 0

    def expect(self, kinds: Collection[Kind]) -> None:
        """See Target."""
        self._sender.expect(kinds)

    def begin(self, items: Sequence[Item]) -> None:
        """See Target."""
        self._prepare(each.kind for each in items)

    def _prepare(self, kinds: Iterable[Kind]) -> None:
        try:
            self._sender.prepare(kinds)
        except NotAssociated as error:
            raise ExportError(str(error)) from error

    def put(self, item: Item) -> Put:
        """See Target."""
        if self._lost >= _LOST_IN_A_ROW:
            raise ExportError("the peer was given up")  # what was waiting for its turn
        status = self._sent(item)
        self._lost = 0
        if not is_stored(status):
            raise NotExported(f"the peer answers {said(status, meanings=OF_STORE)}")
        return Put("")

    def _sent(self, item: Item) -> int:
        """The status of the response; sent once more when the association breaks. Raises as ``put``."""
        with suppress(Ended):
            return self._sent_once(item)
        # It may have been idle for too long, or not the fault of this instance.
        try:
            return self._sent_once(item)
        except Ended as error:
            self._lost += 1
            kind = ExportError if self._lost >= _LOST_IN_A_ROW else NotExported
            raise kind(f"the peer ended the association, or did not answer in time: {error}") from error

    def _sent_once(self, item: Item) -> int:
        # There is none after one that broke, nor after an instance that could not be read to its end: what was begun
        # of a data set can be taken back by an abort only.
        self._prepare([item.kind])
        sop_class_uid, syntax = item.kind
        if syntax not in self._sender.accepted(sop_class_uid):
            raise NotExported(f"the peer does not take SOP class {sop_class_uid} in transfer syntax {syntax}")
        return self._sender.store((sop_class_uid, str(item.located.key.sop_uid)), syntax, _data_set(item))

    def finish(self, _manifest: BufferedRandom) -> None:
        """See Target: there is no place for a manifest at a peer."""
        self._sender.release()

    def close(self) -> None:
        """See Target."""
        self._sender.abort()


def _data_set(item: Item) -> Iterator[bytes]:
    """The bytes of its file after the File Meta Information."""
    left = item.located.data_offset
    for block in item.blocks():
        if left < len(block):
            yield memoryview(block)[left:].tobytes() if left else block
        left = max(left - len(block), 0)
