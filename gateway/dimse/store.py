"""C-STORE: a received file goes to the ingest service as it is (PS3.4 Annex B "Storage Service Class")."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_STORE

from gateway.assembly import Core
from gateway.dimse import status
from gateway.dimse.peers import Peer, Peers
from gateway.errors import PayloadTooLarge
from gateway.services.spool import Spooled
from storage.dicom import identifiers as ids
from storage.dicom.part10 import Announced
from storage.errors import AnnouncedOtherwise, Truncated


class StoreHandler:
    """Answers C-STORE requests."""

    def __init__(self, core: Core, peers: Peers) -> None:
        self._core = core
        self._peers = peers

    def __call__(self, event: evt.Event) -> Dataset:
        """The status of one request: success only once the instance is durable and findable.

        *Status*

        | ``0x0000`` Success
        | ``0x0110`` Processing failure
        | ``0x0111`` Duplicate SOP Instance
        | ``0x0117`` Invalid SOP Instance UID
        | ``0x0122`` Refused: SOP Class not supported
        | ``0x0124`` Refused: not authorized
        | ``0xA700`` Refused: out of resources
        | ``0xA900`` Data Set does not match SOP Class
        | ``0xC000``, ``0xC001`` Cannot understand; contradicts what is known
        | ``0xC002`` Its identity cannot be taken out with certainty
        """
        peer = self._peers.of(event.assoc)
        try:
            return self._store(event, peer)
        except Exception as error:
            return status.of_store(error, peer.caller.source.request_id)

    def _store(self, event: evt.Event, peer: Peer) -> Dataset:
        path = event.dataset_path
        received = peer.received.get(path) if isinstance(path, Path) else None
        if received is None:
            raise Truncated("a C-STORE request without a Data Set")
        with received.spooled() as spooled:
            peer.received.pop(received.path, None)
            self._core.metrics.received_bytes.inc(spooled.size)
            self._keep(event, peer, spooled)
        return status.response(status.SUCCESS)

    def _keep(self, event: evt.Event, peer: Peer, spooled: Spooled) -> None:
        request = event.request
        assert isinstance(request, C_STORE)
        if spooled.size > self._core.spool.max_bytes:
            raise PayloadTooLarge(f"an instance of more than {self._core.spool.max_bytes} bytes")
        sop_uid = ids.sop_uid(str(request.AffectedSOPInstanceUID))
        sop_class_uid = str(request.AffectedSOPClassUID)
        if sop_class_uid != event.context.abstract_syntax:
            raise AnnouncedOtherwise("the SOP Class is not that of the presentation context")
        if peer.store is None:
            peer.store = self._core.ingest.enter(peer.caller)
        self._core.ingest.store(peer.store, spooled, Announced(sop_class_uid, sop_uid, binding=True))
