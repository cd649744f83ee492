"""C-MOVE and C-GET: instances go to a peer, each by a sub-operation.

References
----------
PS3.4 C.4.2 "C-MOVE Operation", C.4.3 "C-GET Operation".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby

from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.dimse import contexts, destinations, identifiers, pdus, sending, status
from gateway.dimse.association import Association
from gateway.dimse.commands import Element
from gateway.dimse.ending import Aborted, Ended
from gateway.dimse.messages import Extension, Message
from gateway.dimse.requesting import NotAssociated
from gateway.dimse.sending import Originator, Sender
from gateway.dimse.status import Response
from gateway.dimse.suboperations import SubOperations
from gateway.errors import GatewayError, InvalidQuery
from gateway.imaging.errors import ImagingError
from gateway.services.retrieve import Outgoing, RetrieveService
from storage.errors import StorageError
from storage.index.stored import Located

_log = logging.getLogger(__name__)

_TRIES = 2
_NUMBERS = 0xFFFF


class MoveHandler:
    """Answers C-MOVE requests: instances go to one of the destinations of the settings, over an association of ours."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, association: Association, message: Message) -> Generator[Response, None, None]:
        """Pending responses while it goes on, and the final one.

        *Status*

        | ``0x0000`` All sub-operations are complete; also of none
        | ``0xFF00`` Sub-operations are continuing
        | ``0xB000`` Complete, with failures or warnings
        | ``0xFE00`` Cancelled
        | ``0x0124`` Refused: not authorized
        | ``0xA701`` Refused: out of resources, unable to calculate the number of matches
        | ``0xA702`` Refused: no sub-operation could be performed
        | ``0xA801`` Refused: Move Destination unknown
        | ``0xA900`` Identifier does not match SOP Class
        | ``0xC000``, ``0xC001`` Unable to process; the identifier cannot be read
        """
        title = message.command.text(Element.MOVE_DESTINATION)
        written = self._core.settings.dimse.destinations.get(title)
        caller = association.peer.caller.source.calling_ae_title
        known = written is not None and (written.callers is None or caller in written.callers)

        def moved(service: RetrieveService, instances: Sequence[Located]) -> Generator[Response, None, None]:
            dimse = self._core.settings.dimse
            peer = destinations.of_settings(dimse, title)
            assert peer is not None
            sender = Sender(peer.address, dimse, peer.tls)
            return _Moving(service, association, message, sender).run(instances)

        yield from _answered(self._core, association, message, moved, (f"to {title}",), destination_known=known)


class GetHandler:
    """Answers C-GET requests: instances go back over the association that the request came on."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, association: Association, message: Message) -> Generator[Response, None, None]:
        """Pending responses while it goes on, and the final one; statuses as those of C-MOVE, but for 0xA801."""

        def got(service: RetrieveService, instances: Sequence[Located]) -> Generator[Response, None, None]:
            return _gotten(service, association, message, instances)

        yield from _answered(self._core, association, message, got, ())


_Perform = Callable[[RetrieveService, Sequence[Located]], Generator[Response, None, None]]


def _answered(
    core: Core,
    association: Association,
    message: Message,
    perform: _Perform,
    detail: tuple[str, ...],
    *,
    destination_known: bool = True,
) -> Generator[Response, None, None]:
    """The responses to a request whose instances are found here, and sent by ``perform``.

    Who may retrieve nothing does not learn which destinations there are.
    """
    caller = association.peer.caller
    try:
        keys = _keys(core, message)
        service = core.projections.of(caller, Action.READ).retrieve
        # Who may retrieve nothing is refused by the search, whatever the destination.
        searched = destination_known or not service.is_open(caller)
        matching = service.matching(caller, keys, detail=detail) if searched else ()
        instances = [each for found in matching for each in found.instances]
        # Also where the policy has just been changed in between: nothing goes to who is not to have it.
        if not destination_known:
            yield status.response(status.DESTINATION_UNKNOWN)
            return
        yield from perform(service, instances)
    except Ended:
        raise
    except Exception as error:
        yield status.of_retrieve(error, caller.source.request_id)


def _keys(core: Core, message: Message) -> Mapping[str, str]:
    """The keys of a request's identifier, by keyword. Raises InvalidQuery and what reading it raises."""
    if not isinstance(message.data_set, bytes):
        raise InvalidQuery("a request without an Identifier")
    syntax, sop_class_uid = message.context.transfer_syntax, message.context.abstract_syntax
    patient_root = sop_class_uid in contexts.PATIENT_ROOT
    relational = message.context.has(Extension.RELATIONAL)
    identifier = identifiers.parse(
        message.data_set, syntax, core.limits, patient_root=patient_root, relational=relational
    )
    return identifiers.retrieved(identifier, patient_root=patient_root, relational=relational)


class _Moving:
    """One C-MOVE request under way."""

    def __init__(self, service: RetrieveService, association: Association, message: Message, sender: Sender) -> None:
        self._service = service
        self._association = association
        self._message = message
        self._sender = sender
        self._originator = Originator(association.peer.caller.source.calling_ae_title, message.command.message_id)
        self._lost = 0

    def run(self, instances: Sequence[Located]) -> Generator[Response, None, None]:
        """Send them; the final response."""
        operations = SubOperations(self._association, self._message, len(instances))
        try:
            yield self._run(operations, instances)
        except BaseException:
            self._sender.abort()
            raise
        self._sender.release()

    def _run(self, operations: SubOperations, instances: Sequence[Located]) -> Response:
        # Series by series: what kinds there are is known before the first of them is sent.
        for series in _series(instances):
            self._prepare(series)
            with closing(self._service.outgoing(series, self._accepted)) as outgoing:
                for each in outgoing:
                    operations.tell()
                    if operations.is_cancelled:
                        return operations.cancelled()
                    operations.over(str(each.located.key.sop_uid), self._sent(each, operations))
        return operations.final()

    def _prepare(self, instances: Sequence[Located]) -> None:
        """See that there is an association for these; when there is none, nothing is accepted on it."""
        kinds = [(str(each.sop_class_uid), str(each.transfer_syntax_uid)) for each in instances]
        while self._lost < _TRIES:
            try:
                self._sender.prepare(kinds)
                return
            except NotAssociated as error:
                self._note(str(error))

    def _note(self, what: str) -> None:
        self._lost += 1
        _log.warning("request %s: C-MOVE: %s", self._association.peer.caller.source.request_id, what)

    def _accepted(self, located: Located) -> Mapping[str, int]:
        return self._sender.accepted(located.sop_class_uid)

    def _sent(self, outgoing: Outgoing, operations: SubOperations) -> int | None:
        """The status of one sub-operation; it is tried again when its association breaks, as often as all may."""
        located, data_set = outgoing.located, outgoing.data_set
        requestor_gone: Ended | None = None

        def waiting() -> None:
            nonlocal requestor_gone
            try:
                operations.tell()
            except Ended as error:
                requestor_gone = error
                raise

        syntax = outgoing.transfer_syntax_uid
        while syntax is not None and syntax in self._accepted(located):
            uids = (str(located.sop_class_uid), str(located.key.sop_uid))
            try:
                return self._sender.store(uids, syntax, data_set, self._originator, waiting)
            except Ended as error:
                if error is requestor_gone:
                    raise
                self._note(f"the destination's association ended: {error}")
                self._prepare([located])
                data_set = self._service.data_set_in(located, syntax)
            except (GatewayError, StorageError, ImagingError) as error:
                _log_unreadable(self._association, located, error)
                self._prepare([located])
                return None
        return None


def _gotten(
    service: RetrieveService, association: Association, message: Message, instances: Sequence[Located]
) -> Generator[Response, None, None]:
    """Send instances over the association that asked for them; the final response."""
    accepted: dict[str, dict[str, int]] = {}
    for context in association.contexts.values():
        if context.as_scu:
            accepted.setdefault(context.abstract_syntax, {}).setdefault(context.transfer_syntax, context.id)
    operations = SubOperations(association, message, len(instances))
    with closing(service.outgoing(instances, lambda each: accepted.get(each.sop_class_uid, {}))) as outgoing:
        for number, each in enumerate(outgoing):
            operations.tell()
            if operations.is_cancelled:
                yield operations.cancelled()
                return
            located, syntax = each.located, each.transfer_syntax_uid
            code = None
            if syntax is not None:
                context_id = accepted[located.sop_class_uid][syntax]
                code = _stored_back(association, context_id, number % _NUMBERS + 1, each)
            operations.over(str(located.key.sop_uid), code)
    yield operations.final()


def _stored_back(association: Association, context_id: int, message_id: int, outgoing: Outgoing) -> int | None:
    located, whole = outgoing.located, False
    try:
        data_set = sending.begun(outgoing.data_set)
        whole = True
        uids = (str(located.sop_class_uid), str(located.key.sop_uid))
        return sending.store(association, context_id, message_id, uids, data_set)
    except (GatewayError, StorageError, ImagingError) as error:
        _log_unreadable(association, located, error)
        if whole:
            # A part of it is out, and there is no way to take it back.
            raise Aborted("an instance cannot be read to its end", pdus.BY_USER) from error
        return None


def _log_unreadable(association: Association, located: Located, error: Exception) -> None:
    request_id = association.peer.caller.source.request_id
    _log.error("request %s: version %s cannot be read (%s)", request_id, located.version, type(error).__name__)


def _series(instances: Sequence[Located]) -> Iterator[Sequence[Located]]:
    for _, each in groupby(instances, lambda located: (located.key.study_uid, located.key.series_uid)):
        yield list(each)
