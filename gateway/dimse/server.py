"""The acceptor: connections of a socket that several processes share, each on a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from functools import partial

from gateway import certificates
from gateway.access.throttle import Pace, Rate, source_of
from gateway.assembly import Core
from gateway.dimse import pdus, requested
from gateway.dimse.association import Association
from gateway.dimse.connections import Connections
from gateway.dimse.course import Course
from gateway.dimse.ending import Aborted, Ended
from gateway.dimse.handlers import Handler, handler_of, handlers
from gateway.dimse.messages import Message, Terms, never
from gateway.dimse.negotiation import Negotiation, Request
from gateway.dimse.requested import Refused
from gateway.dimse.store import following
from gateway.dimse.wire import Late, Lost, Wire
from gateway.errors import TooManyRequests
from gateway.services.associations import AssociationLog
from gateway.services.contacts import is_ours

LOGGER = logging.getLogger(__name__)

_POLL_S = 0.1
_ABORT_S = 5.0
_LINGER_S = 1.0
# pynetdicom 3.0.4 as a requestor takes a rejection that comes before it has looked again for a connection that failed.
REFUSED_AFTER_S = 0.1


class DimseServer:
    """Serves associations of one process.

    Parameters
    ----------
    listening
        Bound and listening, and taken over: ``stop`` closes it here, other processes keep theirs.
    """

    def __init__(self, core: Core, listening: socket.socket) -> None:
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self._listening = listening
        # Another process may take the connection that this one was woken for.
        listening.settimeout(_POLL_S)
        settings = core.settings.dimse
        self._connections = Connections(settings.max_associations, core.metrics.connections_active.inc)
        self._service = _Service(core, self._connections)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="dimse-accept")

    def start(self) -> None:
        """Begin to accept."""
        self._service.log.start()
        self._thread.start()

    @property
    def active(self) -> int:
        """How many connections there are."""
        return self._connections.active

    def stop(self, drain_s: float) -> None:
        """Stop accepting, let associations end by themselves for so long, then abort those that are left.

        A message that is whole is answered first. Idempotent.
        """
        self._stopping.set()
        self._thread.join()
        if not self._connections.wait_until_none(drain_s):
            self._connections.stop()
            self._connections.wait_until_none(_ABORT_S)
        # Our handle; shutting the socket down would silence the other processes too.
        self._listening.close()
        self._service.log.stop()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                accepted, address = self._listening.accept()
            except TimeoutError:
                continue
            except OSError as error:
                # The peer is gone already, or there are no descriptors.
                LOGGER.warning("a connection was not accepted: %s", error.strerror)
                self._stopping.wait(_POLL_S)
                continue
            self._begin(accepted, address[0])

    def _begin(self, accepted: socket.socket, host: str) -> None:
        with contextlib.suppress(OSError):  # it is gone already, as its thread will find
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(self._service, accepted, host)
        self._connections.open(connection)
        try:
            threading.Thread(target=connection.run, name=f"dimse-{host}", daemon=True).start()
        except RuntimeError:
            LOGGER.warning("a connection was not served: no thread can be started")
            accepted.close()
            self._connections.close(connection)


class _Service:
    """What every connection needs."""

    def __init__(self, core: Core, connections: Connections) -> None:
        self.core = core
        self.connections = connections
        self.negotiation = Negotiation(core)
        self.certificates = certificates.of(core.settings.dimse, "dimse")
        self.handlers: Mapping[int, Handler] = handlers(core)
        self.log = AssociationLog(core.control)
        self.pace = Pace(core.tables.of("pace"))
        self._associations = Rate(core.settings.dimse.source_rate, core.tables.of("associations"))

    def take(self, host: str) -> None:
        """One more association of an address. Raises Refused."""
        try:
            self._associations.take(source_of(host))
        except TooManyRequests as error:
            raise requested.too_often() from error


class _Connection:
    """One connection, from its first byte to its end."""

    def __init__(self, service: _Service, accepted: socket.socket, host: str) -> None:
        self.host = host
        self._name = f"from {host}"
        self._associated = False
        self._course: Course | None = None
        self._service = service
        self._settings = service.core.settings.dimse
        self._wire = Wire(accepted, min(self._settings.acse_timeout_s, self._settings.dimse_timeout_s))

    def stop(self) -> None:
        """Wake its thread, which ends it. From any thread."""
        self._wire.stop()

    def run(self) -> None:
        """Serve it; whatever happens, it is closed and its place given back."""
        linger_s = 0.0
        ending = "released", ""
        try:
            self._serve()
        except Refused as refused:
            ending = "rejected", str(refused)
            time.sleep(REFUSED_AFTER_S)
            linger_s = self._tell(refused.encode())
        except Aborted as aborted:
            ending = "aborted", str(aborted)
            if aborted.abort:
                # Before an association anybody may fill the log. The text alone: a record that is kept would keep the
                # frames, and with them the buffer.
                level = logging.WARNING if self._associated else logging.INFO
                LOGGER.log(level, "%s: association aborted: %s", self._name, str(aborted))
                linger_s = self._tell(aborted.abort.encode())
        except Ended:
            linger_s = _LINGER_S
        except Exception as error:
            # The frames alone: the message of a foreign error may quote the data set.
            ending = "failed", type(error).__name__
            frames = "".join(traceback.format_tb(error.__traceback__))
            LOGGER.error("%s: association aborted (%s): %s", self._name, type(error).__name__, frames)
            linger_s = self._tell(pdus.BY_USER.encode())
        finally:
            try:
                if self._course is not None:
                    self._service.log.take(self._course.over(*ending))
            finally:
                self._wire.close(linger_s)
                self._service.connections.close(self)

    def _serve(self) -> None:
        association, course = self._negotiated()
        try:
            while True:
                message = association.receive()
                try:
                    self._answer(association, course, message)
                finally:
                    message.discard()
        finally:
            association.discard()

    def _answer(self, association: Association, course: Course, message: Message) -> None:
        handler = handler_of(self._service.handlers, message)
        field = message.command.field
        course.asked(field)
        with contextlib.closing(handler(association, message)) as responses:
            for response in responses:
                data_set = None if response.data_set is None else (response.data_set,)
                command = message.command.response(response.status, response.elements, data_set=data_set is not None)
                association.send(message.context.id, command, data_set)
                if not response.is_pending:
                    course.answered(field, response)

    def _negotiated(self) -> tuple[Association, Course]:
        """The association, once it is accepted, and what becomes of it. Raises Refused, Aborted."""
        settings, negotiation = self._settings, self._service.negotiation
        subject = self._secured()
        encoded = requested.read(self._wire, settings.acse_timeout_s)
        with negotiation.decided(requested.source(encoded, self.host, subject)) as source:
            self._name = f"request {source.request_id}"
            course = Course(source)
            if not is_ours(source.calling_ae_title, self.host, settings.ae_title):
                self._course = course
            requested.check(encoded)
            self._service.take(self.host)
            request = Request.decode(encoded, source)
            peer = negotiation.recognise(request)
            if not self._service.connections.associate(self, named=negotiation.is_named(source)):
                raise requested.full()
            agreed = negotiation.agree(request, peer)
            course.agreed(request, peer, agreed)
        self._associated = True
        try:
            self._wire.send(agreed.accept, settings.acse_timeout_s)
        except (Lost, Late) as error:
            raise Aborted("the answer was not taken") from error
        per_s = peer.sending.max_bytes_per_s
        terms = Terms(
            settings.network_timeout_s,
            settings.dimse_timeout_s,
            settings.max_pdu_bytes,
            request.peer_pdu_bytes,
            peer.sending.max_instance_bytes,
            partial(self._service.pace.pause_s, peer.pace, per_s=per_s) if per_s else never,
        )
        core = self._service.core
        follow = partial(following, core, peer)
        return Association(self._wire, peer, agreed.contexts, terms, core.spool, follow), course

    def _secured(self) -> str:
        """The subject of the peer's certificate, once there is TLS; "" without one. Raises Aborted."""
        settings, own = self._settings, self._service.certificates
        if own is None:
            return ""
        try:
            if settings.tls_or_clear and not self._wire.speaks_tls(settings.acse_timeout_s):
                return ""
            return certificates.subject_of(self._wire.secure(own.context(), settings.tls_handshake_timeout_s))
        except (Lost, Late) as error:
            raise Aborted("no TLS in time" if isinstance(error, Late) else "no TLS") from error

    def _tell(self, last: bytes) -> float:
        try:
            self._wire.send(last, _LINGER_S)
        except (Lost, Late):
            return 0.0
        return _LINGER_S
