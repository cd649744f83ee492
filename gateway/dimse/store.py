"""C-STORE: a received file goes to the ingest service as it is (PS3.4 Annex B "Storage Service Class")."""

from __future__ import annotations

from collections.abc import Callable, Generator

from gateway.access.door import Decision
from gateway.assembly import Core
from gateway.dimse import status
from gateway.dimse.association import Association
from gateway.dimse.commands import Command, Element
from gateway.dimse.messages import Message
from gateway.dimse.peers import Peer
from gateway.dimse.received import Received
from gateway.dimse.status import Response
from gateway.services.ingest import Stored
from gateway.services.spool import Follower
from storage.dicom import identifiers as ids
from storage.dicom.part10 import Announced
from storage.errors import AnnouncedOtherwise, Truncated
from storage.index.arrivals import Conflict


class StoreHandler:
    """Answers C-STORE requests."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, association: Association, message: Message) -> Generator[Response, None, None]:
        """The status of one request: success only once the instance is durable and findable.

        *Status*

        | ``0x0000`` Success
        | ``0x0110`` Processing failure
        | ``0x0111`` Duplicate SOP Instance
        | ``0x0117`` Invalid SOP Instance UID
        | ``0x0124`` Refused: not authorized
        | ``0xA700`` Refused: out of resources
        | ``0xA900`` Data Set does not match SOP Class
        | ``0xC000``, ``0xC001`` Cannot understand; contradicts what is known
        | ``0xC002`` Its identity cannot be taken out with certainty
        """
        peer = association.peer
        try:
            self._store(message, peer)
        except Exception as error:
            yield status.of_store(error, peer.caller.source.request_id)
            return
        yield status.response(status.SUCCESS)

    def _store(self, message: Message, peer: Peer) -> None:
        def decided() -> Decision:
            if peer.store is None:
                peer.store = self._core.ingest.enter(peer.caller)
            return peer.store

        keep(self._core, message, decided, peer.sending.conflict)


def keep(core: Core, message: Message, decided: Callable[[], Decision], conflict: Conflict | None = None) -> Stored:
    """Store what a C-STORE request brings. Raises what the ingest service raises, StorageError and GatewayError.

    Parameters
    ----------
    decided
        Who stores it; asked once the request can be understood.
    conflict
        As for the ingest service.
    """
    if not isinstance(message.data_set, Received):
        raise Truncated("a C-STORE request without a Data Set")
    with message.data_set.spooled() as spooled:
        core.metrics.received_bytes.inc(spooled.size)
        announced = _announced(message.command)
        ids.sop_uid(announced.sop_uid)
        if announced.sop_class_uid != message.context.abstract_syntax:
            raise AnnouncedOtherwise("the SOP Class is not that of the presentation context")
        return core.ingest.store(decided(), spooled, announced, conflict=conflict)


def following(core: Core, peer: Peer, command: Command) -> Follower | None:
    """Who sends what a C-STORE request brings into the archive while it arrives."""
    return core.ingest.under_way(peer.caller, _announced(command))


def _announced(command: Command) -> Announced:
    sop_class_uid = command.text(Element.AFFECTED_SOP_CLASS_UID)
    return Announced(sop_class_uid, command.text(Element.AFFECTED_SOP_INSTANCE_UID), binding=True)
