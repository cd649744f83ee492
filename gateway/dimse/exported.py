"""A target of exports that is a peer: instances go to it by C-STORE, in the transfer syntaxes as stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BufferedRandom

from gateway.config.serving import DimseSettings
from gateway.dimse.destinations import Destination
from gateway.dimse.ending import Ended
from gateway.dimse.requesting import NotAssociated
from gateway.dimse.sending import Kind, Sender, is_stored
from gateway.exporting.items import ExportError, Item, NotExported, Put


class StoragePeer:
    """A peer that stores what it is sent, over one association after the other."""

    at_once = 1

    def __init__(self, peer: Destination, settings: DimseSettings) -> None:
        self._sender = Sender(peer.address, settings, peer.tls)

    def begin(self, items: Sequence[Item]) -> None:
        """See Target."""
        try:
            self._sender.prepare(map(_kind, items))
        except NotAssociated as error:
            raise ExportError(str(error)) from error

    def put(self, item: Item) -> Put:
        """See Target."""
        sop_class_uid, syntax = _kind(item)
        if syntax not in self._sender.accepted(sop_class_uid):
            raise NotExported(f"the peer does not take SOP class {sop_class_uid} in transfer syntax {syntax}")
        try:
            status = self._sender.store((sop_class_uid, str(item.located.key.sop_uid)), syntax, _data_set(item))
        except Ended as error:
            raise ExportError(f"the peer ended the association, or did not answer in time: {error}") from error
        if not is_stored(status):
            raise NotExported(f"the peer answers 0x{status:04X}")
        return Put("")

    def finish(self, _manifest: BufferedRandom) -> None:
        """See Target: there is no place for a manifest at a peer."""
        self._sender.release()

    def close(self) -> None:
        """See Target."""
        self._sender.abort()


def _kind(item: Item) -> Kind:
    return str(item.located.sop_class_uid), str(item.located.transfer_syntax_uid)


def _data_set(item: Item) -> Iterator[bytes]:
    """The bytes of its file after the File Meta Information."""
    left = item.located.data_offset
    for block in item.blocks():
        if left < len(block):
            yield memoryview(block)[left:].tobytes() if left else block
        left = max(left - len(block), 0)
