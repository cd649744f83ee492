"""Which request is answered by what, and C-ECHO."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.dimse import contexts, observed, performed, status
from gateway.dimse.association import Association
from gateway.dimse.commands import Field
from gateway.dimse.commitment import CommitmentHandler
from gateway.dimse.find import FindHandler
from gateway.dimse.messages import Message
from gateway.dimse.retrieval import GetHandler, MoveHandler
from gateway.dimse.status import Response
from gateway.dimse.store import StoreHandler
from gateway.dimse.worklist import WorklistHandler

Handler = Callable[[Association, Message], Generator[Response, None, None]]
"""Answers a request with responses, of which the last one is not pending. What it raises but Ended is a defect."""


def handlers(core: Core) -> Mapping[int, Handler]:
    """The handlers of one server, by Command Field."""
    return {
        Field.C_ECHO_RQ: observed.handler(core, "C-ECHO", EchoHandler(core)),
        Field.C_STORE_RQ: observed.handler(core, "C-STORE", StoreHandler(core)),
        Field.C_FIND_RQ: observed.handler(core, "C-FIND", _FindHandler(core)),
        Field.C_MOVE_RQ: observed.handler(core, "C-MOVE", MoveHandler(core)),
        Field.C_GET_RQ: observed.handler(core, "C-GET", GetHandler(core)),
        Field.N_ACTION_RQ: observed.handler(core, "N-ACTION", CommitmentHandler(core)),
        Field.N_CREATE_RQ: observed.handler(core, "N-CREATE", performed.CreateHandler(core)),
        Field.N_SET_RQ: observed.handler(core, "N-SET", performed.SetHandler(core)),
        Field.N_GET_RQ: observed.handler(core, "N-GET", performed.ReadHandler(core)),
    }


def handler_of(table: Mapping[int, Handler], message: Message) -> Handler:
    """The handler of a request; one that refuses it when its presentation context is of another service."""
    field = message.command.field
    context = message.context
    if field in table and context.as_scp and field in contexts.operations(context.abstract_syntax):
        return table[field]
    return _unrecognized


def _unrecognized(_association: Association, _message: Message) -> Generator[Response, None, None]:
    yield status.response(status.UNRECOGNIZED_OPERATION)


class _FindHandler:
    """Answers C-FIND requests: for the archive, or for the worklist."""

    def __init__(self, core: Core) -> None:
        self._archive, self._worklist = FindHandler(core), WorklistHandler(core)

    def __call__(self, association: Association, message: Message) -> Generator[Response, None, None]:
        asks_worklist = message.context.abstract_syntax == contexts.MODALITY_WORKLIST
        return (self._worklist if asks_worklist else self._archive)(association, message)


class EchoHandler:
    """Answers C-ECHO requests (PS3.4 Annex A "Verification Service Class")."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, association: Association, _message: Message) -> Generator[Response, None, None]:
        """``0x0000``, ``0x0124`` or ``0xA700``."""
        caller = association.peer.caller
        try:
            self._core.door.enter(caller, Action.ECHO)
        except Exception as error:
            yield status.of_echo(error, caller.source.request_id)
            return
        yield status.response(status.SUCCESS)
