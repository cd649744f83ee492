"""Storage commitment, push model: N-ACTION asks for it, N-EVENT-REPORT tells of it.

References
----------
PS3.4 Annex J "Storage Commitment Service Class", PS3.7 10.1.1 "N-EVENT-REPORT Service", 10.1.4 "N-ACTION Service".
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Generator

from pydicom.dataset import Dataset

from gateway.assembly import Core
from gateway.config import InvalidSettings
from gateway.dimse import answers, contexts, destinations, requesting, status
from gateway.dimse.association import Association, Exchange
from gateway.dimse.commands import Command, Element, Field
from gateway.dimse.ending import Ended
from gateway.dimse.messages import Message
from gateway.dimse.reader import MAX_ACTION_BYTES
from gateway.dimse.requesting import NotAssociated, Proposal
from gateway.dimse.sending import PLAIN
from gateway.dimse.status import Response
from gateway.errors import GatewayError, InvalidRequest
from gateway.services.commitment import MAX_REFERENCES, OVER_OURS, Reference, Result
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.elements import Kind, Tokenizer
from storage.dicom.limits import Limits
from storage.errors import StorageError

_log = logging.getLogger(__name__)

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
_REQUEST_COMMITMENT = 1
_ALL_COMMITTED, _SOME_FAILED = 1, 2
_TRANSACTION_UID, _REFERENCED = 0x00081195, 0x00081199
_SOP_CLASS, _SOP_INSTANCE = 0x00081150, 0x00081155
_ELEMENTS_A_REFERENCE = 4


class CommitmentHandler:
    """Answers N-ACTION requests, and then tells of the result on the association, as long as it stands."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, association: Association, message: Message) -> Generator[Response, None, None]:
        """The response; the request is durable with it, and the result follows.

        *Status*

        | ``0x0000`` The result will be told
        | ``0x0110`` Processing failure
        | ``0x0112`` No such SOP Instance: only the well-known one is there
        | ``0x0115`` Invalid argument value; the Transaction UID is in use
        | ``0x0123`` No such action
        | ``0x0124`` Refused: not authorized
        | ``0x0213`` Resource limitation
        """
        caller = association.peer.caller
        if message.command.text(Element.REQUESTED_SOP_INSTANCE_UID) != WELL_KNOWN_INSTANCE:
            yield status.response(status.NO_SUCH_OBJECT)
            return
        if message.command.number(Element.ACTION_TYPE_ID) != _REQUEST_COMMITMENT:
            yield status.response(status.NO_SUCH_ACTION)
            return
        try:
            transaction_uid, references = _asked(message, self._core.limits)
            peer = caller.source.calling_ae_title
            tenant = self._core.commitment.ask(caller, transaction_uid, references, peer)
        except Ended:
            raise
        except Exception as error:
            yield status.of_action(error, caller.source.request_id)
            return
        yield status.response(status.SUCCESS)
        # What goes wrong from here on is done again by the background work, which also tells a peer that has gone.
        try:
            result = self._core.commitment.fulfil(tenant, transaction_uid)
            if not association.is_cancelled(message.command.message_id):
                self._tell(association, message, tenant, transaction_uid, result)
        except (GatewayError, StorageError) as error:
            _log.warning("commitment %s is left to the background work: %s", transaction_uid, type(error).__name__)

    def _tell(
        self, association: Association, message: Message, tenant: ids.Tenant, transaction_uid: str, result: Result
    ) -> None:
        own_title, context = self._core.settings.dimse.ae_title, message.context
        if _told(association, context.id, context.transfer_syntax, transaction_uid, result, own_title):
            detail = f"{association.peer.caller.source.calling_ae_title} over its association"
            self._core.commitment.told(tenant, transaction_uid, detail)


def tell_all(core: Core) -> None:
    """Tell peers of results that they do not know yet, over associations that we ask them for.

    One that is not there is not asked again in the same round: other duties wait for this one to end.
    """
    gone: set[str] = set()
    for untold, result in core.commitment.untold(time.time()):
        if untold.tell in gone:
            continue
        if untold.tell not in core.settings.dimse.destinations:
            detail = f"{untold.tell} is none of dimse.destinations, so it cannot be told"
            _log.warning("commitment %s: %s", untold.transaction_uid, detail)
            core.commitment.told(untold.tenant, untold.transaction_uid, detail)
            continue
        try:
            done = _told_anew(core, untold.tell, untold.transaction_uid, result)
        except (NotAssociated, Ended, InvalidSettings) as error:
            _log.warning("commitment %s: %s was not told: %s", untold.transaction_uid, untold.tell, error)
            gone.add(untold.tell)
            continue
        if done:
            core.commitment.told(untold.tenant, untold.transaction_uid, f"{untold.tell} {OVER_OURS}")


def _told_anew(core: Core, ae_title: str, transaction_uid: str, result: Result) -> bool:
    """Tell over a new association, in which we have the role of the SCP (PS3.4 J.3.3).

    Raises NotAssociated, Ended, InvalidSettings.
    """
    peer = destinations.of_settings(core.settings.dimse, ae_title)
    assert peer is not None
    proposals = [Proposal(contexts.STORAGE_COMMITMENT, PLAIN, as_scp=True)]
    with requesting.associate(peer.address, proposals, core.settings.dimse, peer.tls) as requested:
        for context in requested.contexts.values():
            own_title = core.settings.dimse.ae_title
            return _told(requested.exchange, context.id, context.transfer_syntax, transaction_uid, result, own_title)
    raise NotAssociated(f"the peer {peer.address} does not take reports of storage commitment")


def _told(
    exchange: Exchange, context_id: int, syntax: str, transaction_uid: str, result: Result, own_title: str
) -> bool:
    """Tell of a result; whether the peer took it. Raises Ended."""
    command = Command.of(
        Field.N_EVENT_REPORT_RQ,
        {
            Element.AFFECTED_SOP_CLASS_UID: contexts.STORAGE_COMMITMENT,
            Element.MESSAGE_ID: 1,
            Element.AFFECTED_SOP_INSTANCE_UID: WELL_KNOWN_INSTANCE,
            Element.EVENT_TYPE_ID: _SOME_FAILED if result.failed else _ALL_COMMITTED,
        },
        data_set=True,
    )
    report = answers.written(_report(transaction_uid, result, own_title), syntax)
    code = exchange.request(context_id, command, (report,)).command.status
    if code:
        _log.warning("commitment %s: its report was answered 0x%04X", transaction_uid, code)
    return code == 0


def _report(transaction_uid: str, result: Result, own_title: str) -> Dataset:
    """Event Information (PS3.4 Table J.3-2)."""
    found = Dataset()
    found.TransactionUID = transaction_uid
    found.RetrieveAETitle = own_title
    committed = [_item(each) for each in result.committed]
    if committed:
        found.ReferencedSOPSequence = committed
    failed = []
    for each, reason in result.failed:
        item = _item(each)
        item.FailureReason = int(reason)
        failed.append(item)
    if failed:
        found.FailedSOPSequence = failed
    return found


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_uid
    return item


def _asked(message: Message, limits: Limits) -> tuple[str, list[Reference]]:
    """Transaction UID and references of Action Information (PS3.4 Table J.3-1).

    Raises
    ------
    InvalidRequest, storage.errors.InvalidIdentifier, storage.errors.Unreadable
    """
    if not isinstance(message.data_set, bytes):
        raise InvalidRequest("a request for commitment without Action Information")
    bounded = Limits(
        max_depth=limits.max_depth,
        max_elements=_ELEMENTS_A_REFERENCE * MAX_REFERENCES,
        inline_bytes=limits.inline_bytes,
        inflate_allowance_bytes=MAX_ACTION_BYTES,
        max_inflate_ratio=1,
    )
    transaction_uid = ""
    references: list[Reference] = []
    sequences: list[int] = []
    item: dict[int, str] = {}
    tokenizer = Tokenizer(io.BytesIO(message.data_set), file_meta.encoding_of(message.context.transfer_syntax), bounded)
    for event in tokenizer:
        if event.kind is Kind.SEQUENCE:
            sequences.append(event.tag)
        elif event.kind is Kind.SEQUENCE_END:
            sequences.pop()
        elif event.kind is Kind.ITEM and sequences == [_REFERENCED]:
            item = {}
        elif event.kind is Kind.ITEM_END and sequences == [_REFERENCED]:
            references.append(_reference(item))
        elif event.kind is Kind.ELEMENT and not sequences and event.tag == _TRANSACTION_UID:
            transaction_uid = _text(event.value)
        elif event.kind is Kind.ELEMENT and sequences == [_REFERENCED]:
            item[event.tag] = _text(event.value)
    return ids.checked_uid(transaction_uid, "Transaction UID (0008,1195)"), references


def _reference(item: dict[int, str]) -> Reference:
    return Reference(
        ids.checked_uid(item.get(_SOP_CLASS, ""), "Referenced SOP Class UID (0008,1150)"),
        ids.checked_uid(item.get(_SOP_INSTANCE, ""), "Referenced SOP Instance UID (0008,1155)"),
    )


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")
