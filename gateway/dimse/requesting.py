"""Associations that we ask a peer for.

pynetdicom puts the request together, and takes the answer apart.

References
----------
PS3.8 7.1 "A-ASSOCIATE Service", PS3.7 D.3 "Association Negotiation".
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    SCP_SCU_RoleSelectionNegotiation,
)

from gateway.config import InvalidSettings
from gateway.config.section import MAX_AE_TITLE_CHARACTERS
from gateway.config.serving import DimseSettings
from gateway.dimse import contexts, pdus
from gateway.dimse.association import Exchange
from gateway.dimse.messages import Context, Terms, never
from gateway.dimse.pdus import PduType
from gateway.dimse.wire import Late, Lost, Wire
from gateway.services.spool import Spool

SCHEME = "dicom"
MAX_CONTEXTS = 128
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_MAX_ANSWER_BYTES = 262_144
_CONNECT_S = 10.0
_RELEASE_S = 5.0
_LINGER_S = 1.0
_ACCEPTED = 0


# By source and reason of a rejection (PS3.8 Table 9-21): what to do about it.
_ADVICE = {
    (1, 2): "the peer speaks another protocol than DICOM's",
    (1, 3): "the peer does not know who calls: have the AE title {ours} entered there, or call as one that it knows",
    (1, 7): "the peer goes by another AE title than {theirs}: ask its administrator, capitals count",
    (2, 2): "the peer speaks another version of the protocol",
    (3, 1): "the peer is busy: try again in a while",
    (3, 2): "the peer has as many associations as it takes: end others, or try again in a while",
}
_UNTOLD_ADVICE = "the peer says no more: its log does; often it wants the AE titles {ours} and {theirs} entered first"
_HTTP = b"HTTP"
_TLS_ALERT = 0x15  # ContentType (RFC 8446 5.1)


class NotAssociated(Exception):
    """There is no association: the peer is not there, does not answer, or rejects it; the text says so for people.

    ``advice`` is what to do about it; ``rejected`` that it is there, and rejects us.
    """

    def __init__(self, why: str, advice: str = "", *, rejected: bool = False) -> None:
        super().__init__(why)
        self.advice = advice
        self.rejected = rejected


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer is, and what it is called."""

    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.ae_title} at {self.host}:{self.port}"

    @classmethod
    def of(cls, url: str) -> Address:
        """From ``dicom://AET@host:port``. Raises InvalidSettings."""
        fault = InvalidSettings([f"{url}: a peer is dicom://AET@HOST:PORT"])
        try:
            found = urlsplit(url)
            port = found.port
        except ValueError as error:
            raise fault from error
        title = unquote(found.username or "")
        if found.path.strip("/") or not (title and found.hostname and port) or found.scheme != SCHEME:
            raise fault
        if len(title) > MAX_AE_TITLE_CHARACTERS:
            raise InvalidSettings([f"{url}: an AE title has at most {MAX_AE_TITLE_CHARACTERS} characters"])
        return cls(title, found.hostname, port)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A presentation context to propose; ``as_scp`` asks for the role of the SCP for us (PS3.7 D.3.3.4)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    as_scp: bool = False


class Requested:
    """An association that we asked for, used by one thread; as a context it is released, or aborted on an error.

    ``contexts`` are those that the peer accepted, by their numbers.
    """

    def __init__(self, wire: Wire, contexts: Mapping[int, Context], terms: Terms, spool: Spool | None) -> None:
        self._wire = wire
        self.contexts = contexts
        self.exchange = Exchange(wire, contexts, terms, spool)

    def stop(self) -> None:
        """Wake the thread that waits for the peer, which finds the association lost. From any thread."""
        self._wire.stop()

    def release(self) -> None:
        """End it in order; a peer that does not answer is left."""
        # It is over either way.
        with suppress(Lost, Late):
            self._wire.send(pdus.RELEASE_RQ, _RELEASE_S)
            self._wire.deadline_s = time.monotonic() + _RELEASE_S
            self._wire.exactly(pdus.HEADER.size)
        self._wire.close(0.0)

    def abort(self) -> None:
        """End it at once."""
        with suppress(Lost, Late):
            self._wire.send(pdus.BY_USER.encode(), _LINGER_S)
        self._wire.close(_LINGER_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()


def associate(
    address: Address,
    proposals: Sequence[Proposal],
    settings: DimseSettings,
    tls: ssl.SSLContext | None = None,
    spool: Spool | None = None,
    pause_s: Callable[[int], float] = never,
) -> Requested:
    """Ask a peer for an association, as our AE title and within our timeouts. Raises NotAssociated.

    Parameters
    ----------
    proposals
        At most ``MAX_CONTEXTS``.
    tls
        For a peer that wants it.
    spool
        Takes what the peer stores with us meanwhile; without it nothing is taken.
    pause_s
        How long to pause after so many bytes of it.
    """
    proposed = {2 * place + 1: each for place, each in enumerate(proposals)}
    wire = Wire(_connected(address, tls), min(settings.acse_timeout_s, settings.dimse_timeout_s))
    try:
        wire.send(_request(address, proposed, settings), settings.acse_timeout_s)
        accepted = _answer(wire, address, settings.acse_timeout_s, settings.ae_title)
    except (Lost, Late) as error:
        wire.close(0.0)
        what = "not a DICOM port" if tls is not None else "not a DICOM port, or one that wants TLS"
        raise NotAssociated(
            f"the peer {address} does not answer the association", f"perhaps it is {what}, or a firewall is between"
        ) from error
    except BaseException:
        wire.close(0.0)
        raise
    longest = accepted.maximum_length_received
    terms = Terms(
        settings.network_timeout_s, settings.dimse_timeout_s, settings.max_pdu_bytes, longest or 0, pause_s=pause_s
    )
    return Requested(wire, _agreed(accepted, proposed), terms, spool)


def _connected(address: Address, tls: ssl.SSLContext | None) -> socket.socket:
    try:
        connection = socket.create_connection((address.host, address.port), _CONNECT_S)
        # Or the last part of each message waits for the acknowledgement of the one before it, 40 ms on Linux.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        why = f"the peer {address} cannot be reached: {error.strerror or error}"
        raise NotAssociated(why, _advice_of(error, address)) from error
    except UnicodeError as error:
        raise NotAssociated(
            f"the peer {address} has no name that a host can have", "a peer is AET@HOST:PORT; look at the host"
        ) from error
    if tls is None:
        return connection
    try:
        return tls.wrap_socket(connection, server_hostname=address.host)
    except OSError as error:
        connection.close()
        raise NotAssociated(f"no TLS with the peer {address}: {error}", _advice_of(error, address)) from error


def _advice_of(error: OSError, address: Address) -> str:
    """What to do when there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if "match" in error.verify_message:
            return f"its certificate does not name {address.host}: use a name that it has, or check the authority alone"
        return f"its certificate is of no authority that is known here ({error.verify_message}): give that authority"
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return "the peer wants another certificate from us, or none"
    if isinstance(error, ssl.SSLError | ConnectionResetError):
        return "perhaps the peer does not speak TLS on this port"
    if isinstance(error, socket.gaierror):
        return f"nobody knows a host {address.host}: look at the spelling, and at DNS"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens there: does the peer run, and is {address.port} its port?"
    return "is the host right, does it run, and does a firewall let us through?"


def _request(address: Address, proposed: Mapping[int, Proposal], settings: DimseSettings) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(_APPLICATION_CONTEXT)
    primitive.calling_ae_title = settings.ae_title
    primitive.called_ae_title = address.ae_title
    definitions = []
    for number, each in proposed.items():
        definition = contexts.context(each.abstract_syntax, each.transfer_syntaxes)
        definition.context_id = number
        definitions.append(definition)
    primitive.presentation_context_definition_list = definitions
    roles = (_role(uid) for uid in dict.fromkeys(each.abstract_syntax for each in proposed.values() if each.as_scp))
    primitive.user_information = [*contexts.about_us(settings.max_pdu_bytes), *roles]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def _role(sop_class_uid: str) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = UID(sop_class_uid)
    role.scu_role, role.scp_role = False, True
    return role


def _rejected(address: Address, pdu: A_ASSOCIATE_RJ, calling: str) -> NotAssociated:
    advice = _ADVICE.get((pdu.source or 0, pdu.reason_diagnostic or 0), _UNTOLD_ADVICE)
    return NotAssociated(
        f"the peer {address} rejects the association: {pdu.reason_str}",
        advice.format(ours=calling, theirs=address.ae_title),
        rejected=True,
    )


def _answer(wire: Wire, address: Address, within_s: float, calling: str) -> A_ASSOCIATE:
    """The A-ASSOCIATE-AC. Raises NotAssociated, Lost, Late."""
    wire.deadline_s = time.monotonic() + within_s
    header = bytes(wire.exactly(pdus.HEADER.size))
    kind, length = pdus.HEADER.unpack(header)
    if header.startswith(_HTTP):
        raise NotAssociated(f"the peer {address} speaks HTTP", "that is a port for the web; DICOM has another one")
    if header[0] == _TLS_ALERT and kind not in (PduType.A_ASSOCIATE_AC, PduType.A_ASSOCIATE_RJ):
        raise NotAssociated(f"the peer {address} answers in TLS", "it wants TLS: ask it over TLS")
    if kind not in (PduType.A_ASSOCIATE_AC, PduType.A_ASSOCIATE_RJ) or length > _MAX_ANSWER_BYTES:
        raise NotAssociated(f"the peer {address} aborts the association", "its log says why")
    answer = bytearray(header)
    while length:
        part = wire.some(length)
        answer += part
        length -= len(part)
    pdu = A_ASSOCIATE_AC() if kind == PduType.A_ASSOCIATE_AC else A_ASSOCIATE_RJ()
    try:
        pdu.decode(bytes(answer))
        if isinstance(pdu, A_ASSOCIATE_RJ):
            raise _rejected(address, pdu, calling)
        return pdu.to_primitive()
    except NotAssociated:
        raise
    except Exception as error:
        # Whatever the library says: it is about values that the peer chose.
        raise NotAssociated(f"the peer {address} answers what cannot be read ({type(error).__name__})") from error


def _agreed(accepted: A_ASSOCIATE, proposed: Mapping[int, Proposal]) -> dict[int, Context]:
    scp = {
        str(item.sop_class_uid)
        for item in accepted.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.scp_role
    }
    found = {}
    for each in accepted.presentation_context_definition_results_list:
        number = each.context_id or 0
        proposal = proposed.get(number)
        if proposal is None or each.result != _ACCEPTED or not each.transfer_syntax:
            continue
        syntax = str(each.transfer_syntax[0])
        if syntax in proposal.transfer_syntaxes:
            as_scp = proposal.as_scp and proposal.abstract_syntax in scp
            found[number] = Context(number, proposal.abstract_syntax, syntax, as_scp=as_scp, as_scu=not as_scp)
    return found


def proposals(kinds: Iterable[tuple[str, str]], plain: Sequence[str]) -> list[Proposal]:
    """Contexts for instances of SOP classes and transfer syntaxes: each as it is stored, and each class plainly."""
    stored = dict.fromkeys(kinds)
    classes = dict.fromkeys(sop_class_uid for sop_class_uid, _ in stored)
    return [
        *(Proposal(sop_class_uid, (syntax,)) for sop_class_uid, syntax in stored),
        *(Proposal(sop_class_uid, tuple(plain)) for sop_class_uid in classes),
    ]
