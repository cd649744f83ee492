"""What the server does at each event of an association."""

from __future__ import annotations

import logging

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import PresentationContext

from gateway import log
from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.audit.events import AuditEvent
from gateway.context import Caller, Principal, PrincipalKind, Source
from gateway.dimse import contexts, observed, status
from gateway.dimse.bounds import Bounds
from gateway.dimse.find import FindHandler
from gateway.dimse.peers import Peer, Peers
from gateway.dimse.store import StoreHandler

LOGGER = logging.getLogger(__name__)

# A-ASSOCIATE-RJ result, source and reason (PS3.8 9.3.4).
_CALLING_NOT_RECOGNISED = (0x01, 0x01, 0x03)
_TEMPORARY_CONGESTION = (0x02, 0x03, 0x01)


class Handlers:
    """The handlers of one server, bound to their services."""

    def __init__(self, core: Core, peers: Peers) -> None:
        self._core = core
        self._peers = peers
        self._bounds = Bounds(peers, core.spool.max_bytes)

    def bound(self) -> list[evt.EventHandlerType]:
        """Events and their handlers."""
        return [
            (evt.EVT_REQUESTED, self.requested),
            (evt.EVT_REJECTED, self.rejected),
            (evt.EVT_ACCEPTED, self.accepted),
            (evt.EVT_CONN_CLOSE, closed),
            (evt.EVT_SOP_COMMON, self.sop_common),
            (evt.EVT_PDU_RECV, self._bounds.pdu),
            (evt.EVT_DIMSE_RECV, self._bounds.message),
            (evt.EVT_C_ECHO, observed.single(self._core, "C-ECHO", self.echo)),
            (evt.EVT_C_STORE, observed.single(self._core, "C-STORE", StoreHandler(self._core, self._peers))),
            (evt.EVT_C_FIND, observed.several(self._core, "C-FIND", FindHandler(self._core, self._peers))),
        ]

    def requested(self, event: evt.Event) -> None:
        """Recognise the peer, or reject the association; when that fails, reject too."""
        source = _source(event)
        log.bind(source.request_id)
        try:
            principal = self._core.door.policy.by_ae_title(source.calling_ae_title, source.address)
            if principal is None:
                self._deny(source, "calling AE title not recognised")
                _reject(event, _CALLING_NOT_RECOGNISED)
                return
            event.assoc.acceptor.supported_contexts = contexts.supported(_proposed(event))
        except Exception as error:
            LOGGER.error("request %s: association refused (%s)", source.request_id, type(error).__name__)
            self._count("failed")
            _reject(event, _TEMPORARY_CONGESTION)
            return
        self._peers.recognise(event.assoc, Peer(Caller(principal, source)))

    def rejected(self, event: evt.Event) -> None:
        """Record what pynetdicom rejected by itself: another called AE title, or too many associations."""
        peer = self._peers.of(event.assoc)
        called = peer.caller.source.called_ae_title == self._core.settings.dimse.ae_title.strip()
        self._deny(peer.caller.source, "local limit exceeded" if called else "called AE title not recognised")

    def _deny(self, source: Source, detail: str) -> None:
        nobody = Caller(Principal("unknown", PrincipalKind.AE), source)
        self._count("rejected")
        self._core.door.record(AuditEvent("associate", "denied", nobody, detail=detail))

    def _count(self, result: str) -> None:
        self._core.metrics.associations.labels(result).inc()

    def accepted(self, event: evt.Event) -> None:  # noqa: ARG002 - pynetdicom gives it
        """Count what pynetdicom accepted."""
        self._count("accepted")

    def sop_common(self, event: evt.Event) -> dict[UID, SOPClassCommonExtendedNegotiation]:
        """The service class of storage classes that pynetdicom does not know."""
        return contexts.as_storage(_proposed(event))

    def echo(self, event: evt.Event) -> Dataset:
        """C-ECHO (PS3.4 Annex A "Verification Service Class"); ``0x0000``, ``0x0124`` or ``0xA700``."""
        caller = self._peers.of(event.assoc).caller
        try:
            self._core.door.enter(caller, Action.ECHO)
        except Exception as error:
            return status.of_echo(error, caller.source.request_id)
        return status.response(status.SUCCESS)


def closed(event: evt.Event) -> None:
    """Let go of a connection that ended before it asked for an association.

    pynetdicom would wait for the request until the ACSE timeout, and count it among the associations so long.
    """
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)


def _source(event: evt.Event) -> Source:
    requested = event.assoc.requestor.primitive
    assert requested is not None
    return Source(
        protocol="DIMSE",
        address=event.assoc.requestor.address,
        calling_ae_title=requested.calling_ae_title.strip(),
        called_ae_title=requested.called_ae_title.strip(),
    )


def _proposed(event: evt.Event) -> list[PresentationContext]:
    requested = event.assoc.requestor.primitive
    assert requested is not None
    return list(requested.presentation_context_definition_list)


def _reject(event: evt.Event, reason: tuple[int, int, int]) -> None:
    event.assoc.acse.send_reject(*reason)
    event.assoc.kill()
