"""The acceptor: a pynetdicom server on a socket that several processes share."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from typing import Any

from pynetdicom import AE, dimse_messages
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from gateway.assembly import Core
from gateway.dimse import contexts, library
from gateway.dimse.handlers import Handlers
from gateway.dimse.peers import Peers
from gateway.dimse.received import ReceivedFile
from storage.dicom.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_POLL_S = 0.1
_ABORT_S = 5.0
# 128 contexts with every transfer syntax that there is.
_MAX_ASSOCIATE_BYTES = 262_144


class DimseServer:
    """Serves associations of one process.

    pynetdicom is configured by module globals, of which the place to receive into is one: one server in a process.

    Parameters
    ----------
    listening
        Bound and listening, and taken over: ``stop`` closes it here, other processes keep theirs.
    """

    def __init__(self, core: Core, listening: socket.socket) -> None:
        settings = core.settings.dimse
        library.configure()
        application_entity = AE(ae_title=settings.ae_title)
        application_entity.maximum_associations = settings.max_associations
        application_entity.maximum_pdu_size = settings.max_pdu_bytes
        application_entity.network_timeout = settings.network_timeout_s
        application_entity.acse_timeout = settings.acse_timeout_s
        application_entity.dimse_timeout = settings.dimse_timeout_s
        application_entity.require_called_aet = True
        application_entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        application_entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._spool = core.spool
        self._peers = Peers(core.metrics.connections_active.inc)
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self._server = application_entity.make_server(
            listening.getsockname(),
            contexts=contexts.supported(()),
            evt_handlers=Handlers(core, self._peers).bound(),
            server_class=_Server,
            listening=listening,
            peers=self._peers,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="dimse-accept")

    def start(self) -> None:
        """Begin to accept."""
        dimse_messages.NamedTemporaryFile = lambda **_: ReceivedFile(self._spool)  # type: ignore[attr-defined, assignment]
        self._thread.start()

    @property
    def associations(self) -> tuple[Association, ...]:
        """Associations, and connections that may become one, that are there now."""
        return self._peers.all()

    @property
    def active(self) -> int:
        """How many associations there are."""
        return len(self._peers.all())

    def stop(self, drain_s: float) -> None:
        """Stop accepting, let associations end by themselves for so long, then abort those that are left.

        Idempotent.
        """
        self._server.shutdown()
        self._thread.join()
        if not self._peers.wait_until_none(drain_s):
            for association in self._peers.all():
                _end(association)
            self._peers.wait_until_none(_ABORT_S)
        self._server.server_close()


def _end(association: Association) -> None:
    if association.is_established:
        association.abort(block=False)
    elif association.dul.socket is not None:
        # Nobody asked for an association on it, so there is none to abort.
        association.dul.socket.close()


class _Connection(RequestHandler):
    """One connection; its thread stays until the association is over and then clears up after it."""

    server: _Server

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.event_queue.get_nowait()  # what the socket that is replaced announced
        association.dul.socket = _BoundedSocket(association, client_socket=self.request)
        self._association = association
        self.server.peers.open(association)
        return association

    def finish(self) -> None:
        for thread in (self._association, self._association.dul):
            if thread.is_alive():
                thread.join()
        self.server.peers.close(self._association)


class _BoundedSocket(AssociationSocket):
    """Reads PDUs up to a length and within a time; pynetdicom itself takes any, in steps of 4,096 bytes."""

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly so many bytes, or fewer at the end of the stream. Raises OSError, which closes the connection."""
        entity = self.assoc.ae
        if nr_bytes > max(entity.maximum_pdu_size, _MAX_ASSOCIATE_BYTES):
            raise OSError("a PDU longer than any that was agreed on")
        assert self.socket is not None
        deadline = time.monotonic() + (entity.dimse_timeout or 0)
        found = bytearray(nr_bytes)
        taken = 0
        while taken < nr_bytes:
            count = self.socket.recv_into(memoryview(found)[taken:])
            if not count:
                return found[:taken]
            taken += count
            if taken < nr_bytes and time.monotonic() > deadline:
                raise TimeoutError("a PDU that does not come to its end")
        return found


class _Server(ThreadedAssociationServer):
    """Accepts on a socket that was bound by somebody else and that other processes accept on too."""

    # Threads of connections end by themselves; ``DimseServer.stop`` waits for them in its own time.
    block_on_close = False

    def __init__(self, *args: Any, listening: socket.socket, peers: Peers, **kwargs: Any) -> None:
        self._listening = listening
        self.peers = peers
        kwargs["request_handler"] = _Connection
        super().__init__(*args, **kwargs)

    def server_bind(self) -> None:
        """Take the given socket in place of the one that socketserver made."""
        assert self.socket is not None
        self.socket.close()
        # Non-blocking: another process may take the connection between select and accept.
        self._listening.setblocking(False)
        self.socket = self._listening

    def server_activate(self) -> None:
        """The socket listens already."""

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; raises BlockingIOError, which socketserver passes over, when another process was faster."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # pynetdicom reads to the end of a PDU without looking at any clock.
        connection.settimeout(self.ae.network_timeout)
        return connection, address

    def shutdown(self) -> None:
        """Stop accepting; associations go on."""
        socketserver.BaseServer.shutdown(self)

    def server_close(self) -> None:
        """Close our handle; shutting the socket down would silence the other processes too."""
        self._listening.close()
