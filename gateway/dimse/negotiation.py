"""Negotiation: an A-ASSOCIATE-RQ becomes an A-ASSOCIATE-AC and what was agreed on, or is refused.

pynetdicom takes the request apart, chooses among contexts and roles, and puts the answer together; nothing else of its
acceptor is used.

References
----------
PS3.8 7.1 "A-ASSOCIATE Service", PS3.7 D.3 "Association Negotiation".
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor

from gateway import log
from gateway.assembly import Core
from gateway.audit.events import AuditEvent
from gateway.context import Caller, Principal, PrincipalKind, Source
from gateway.dimse import contexts, identity, pdus, requested
from gateway.dimse.ending import Aborted
from gateway.dimse.identity import Identities
from gateway.dimse.messages import Context
from gateway.dimse.peers import Peer
from gateway.dimse.requested import Refused
from gateway.errors import Unauthenticated

LOGGER = logging.getLogger(__name__)

_APPLICATION_CONTEXT = UID("1.2.840.10008.3.1.1.1")
_ACCEPTED = 0
_Item: TypeAlias = SCP_SCU_RoleSelectionNegotiation | SOPClassExtendedNegotiation | UserIdentityNegotiation
# What a peer takes that does not say it, against PS3.7 D.3.3.1.
_DEFAULT_PDU_BYTES = 16_384
_TOLD = 8


@dataclass(frozen=True, slots=True)
class Request:
    """An A-ASSOCIATE-RQ, from its source."""

    primitive: A_ASSOCIATE
    source: Source

    @classmethod
    def decode(cls, request: bytes, source: Source) -> Request:
        """Take apart what was looked through. Raises Aborted."""
        pdu = A_ASSOCIATE_RQ()
        try:
            pdu.decode(request)
            primitive = pdu.to_primitive()
        except Exception as error:
            # Whatever the library says: it is about values that the peer chose.
            raise Aborted(f"an A-ASSOCIATE-RQ that cannot be decoded ({type(error).__name__})", pdus.BY_USER) from error
        return cls(primitive, source)

    @property
    def peer_pdu_bytes(self) -> int:
        """Maximum length that the peer receives; 0 is any (PS3.8 D.1)."""
        most = self.primitive.maximum_length_received
        return _DEFAULT_PDU_BYTES if most is None else most


@dataclass(frozen=True, slots=True)
class Agreed:
    """An accepted association, and the A-ASSOCIATE-AC that says so."""

    contexts: Mapping[int, Context]
    accept: bytes


class Negotiation:
    """Recognises peers and agrees with them; what is refused is on the trail."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._ae_title = core.settings.dimse.ae_title.strip()
        self._identities = Identities(core)

    def recognise(self, request: Request) -> Peer:
        """Who asks. Raises Refused."""
        if request.source.called_ae_title != self._ae_title:
            raise requested.called_not_recognised()
        if 0 < request.peer_pdu_bytes < pdus.LEAST_SENT:
            raise Refused("it takes PDUs that are too short", 1, 2, 1)
        source = request.source
        known = self._core.door.policy.by_ae_title(source.calling_ae_title, source.address, source.certificate)
        if known is None:
            raise requested.calling_not_recognised()
        principal = known.principal()
        # A title that may be any is no name: with another one, whoever sends would have another rate.
        pace = known.name if known.ae_title == source.calling_ae_title else f"{known.name} {source.address}"
        shown = identity.shown_in(request.primitive)
        if shown is None:
            return Peer(Caller(principal, source), known.sending, pace)
        try:
            found = self._identities.proven(shown, source)
        except Unauthenticated as error:
            raise requested.identity_not_accepted() from error
        return Peer(Caller(found or principal, source), known.sending, pace, identified=found is not None)

    def is_named(self, source: Source) -> bool:
        """Whether the policy has the calling AE title by its name."""
        return self._core.door.policy.names_ae_title(source.calling_ae_title, source.address)

    def agree(self, request: Request, peer: Peer) -> Agreed:
        """Choose among what is proposed."""
        proposed = request.primitive.presentation_context_definition_list
        roles = {
            cast(UID, item.sop_class_uid): (item.scu_role, item.scp_role)
            for item in request.primitive.user_information
            if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
        }
        result, answered_roles = negotiate_as_acceptor(
            proposed, contexts.supported(proposed, roles, peer.sending), roles
        )
        withheld = contexts.withheld(proposed, roles, peer.sending)
        if withheld:
            told = ", ".join(withheld[:_TOLD]) + (f" and {len(withheld) - _TOLD} more" if len(withheld) > _TOLD else "")
            self._core.door.record(
                AuditEvent("store", "denied", peer.caller, detail=f"not taken from this AE as it proposes them: {told}")
            )
        extended = _extended(request)
        found = [_context(each, extended) for each in result if each.result == _ACCEPTED]
        items: list[_Item] = [*answered_roles, *(_extension(uid, accepted) for uid, accepted in extended.items())]
        shown = identity.shown_in(request.primitive)
        if shown is not None and peer.identified:
            items += identity.positive(shown)
        return Agreed({each.id: each for each in found}, self._accept(request, result, items))

    def _accept(
        self,
        request: Request,
        result: list[PresentationContext],
        items: Sequence[_Item],
    ) -> bytes:
        primitive = A_ASSOCIATE()
        primitive.application_context_name = _APPLICATION_CONTEXT
        primitive.calling_ae_title = request.primitive.calling_ae_title
        primitive.called_ae_title = request.primitive.called_ae_title
        primitive.result = _ACCEPTED
        primitive.result_source = 1
        primitive.presentation_context_definition_results_list = result
        primitive.user_information = [*contexts.about_us(self._core.settings.dimse.max_pdu_bytes), *items]
        pdu = A_ASSOCIATE_AC()
        pdu.from_primitive(primitive)
        return pdu.encode()

    @contextlib.contextmanager
    def decided(self, source: Source) -> Iterator[Source]:
        """Whatever comes of a request is counted, and a refusal is on the trail; what fails refuses it for now."""
        log.bind(source.request_id)
        try:
            try:
                yield source
            except Refused as refused:
                self._count("rejected")
                nobody = Caller(Principal("unknown", PrincipalKind.AE), source)
                self._core.door.record(AuditEvent("associate", "denied", nobody, detail=str(refused)))
                raise
        except (Refused, Aborted):
            raise
        except Exception as error:
            LOGGER.error("request %s: association refused (%s)", source.request_id, type(error).__name__)
            self._count("failed")
            raise requested.congested() from error
        self._count("accepted")

    def _count(self, result: str) -> None:
        self._core.metrics.associations.labels(result).inc()


def _extended(request: Request) -> dict[str, bytes]:
    """What is accepted of the extended negotiations of a request, by SOP class (PS3.7 D.3.3.5)."""
    found = {}
    for item in request.primitive.user_information:
        if isinstance(item, SOPClassExtendedNegotiation):
            uid = str(item.sop_class_uid)
            accepted = contexts.extended(uid, item.service_class_application_information or b"")
            if accepted:
                found[uid] = accepted
    return found


def _extension(sop_class_uid: str, accepted: bytes) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = UID(sop_class_uid)
    item.service_class_application_information = accepted
    return item


def _context(found: PresentationContext, extended: Mapping[str, bytes]) -> Context:
    assert found.context_id is not None
    return Context(
        found.context_id,
        str(found.abstract_syntax),
        str(found.transfer_syntax[0]),
        as_scp=bool(found.as_scp),
        as_scu=bool(found.as_scu),
        extended=extended.get(str(found.abstract_syntax), b""),
    )
