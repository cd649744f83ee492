"""Modality Performed Procedure Steps: N-CREATE begins one, N-SET changes and ends it, N-GET reads it.

References
----------
PS3.4 F.7 "Modality Performed Procedure Step SOP Class", F.8 "... Retrieve SOP Class"; PS3.7 10.1.2 "N-GET Service",
10.1.3 "N-SET Service", 10.1.5 "N-CREATE Service".
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from pydicom.uid import generate_uid

from gateway.assembly import Core
from gateway.dimse import status
from gateway.dimse.answers import Answers
from gateway.dimse.association import Association
from gateway.dimse.commands import Element, Value
from gateway.dimse.ending import Ended
from gateway.dimse.identifiers import Key, Keys
from gateway.dimse.messages import Message
from gateway.dimse.status import Response
from gateway.errors import InvalidRequest
from storage.dicom import identifiers as ids
from storage.dicom import short
from storage.dicom.json_model import JsonDataSet

Work = Callable[[Association, Message], Response]


class _Handler:
    """Answers one kind of request about performed steps.

    *Status*

    | ``0x0000`` Success
    | ``0x0001`` Success, but some of the attributes that N-GET asks for are not there
    | ``0x0106`` Invalid attribute value; the attribute may not be changed
    | ``0x0110`` Processing failure; with Error ID 0xA710 the step is over and may no longer be updated
    | ``0x0111`` Duplicate SOP Instance
    | ``0x0112`` No such SOP Instance
    | ``0x0117`` Invalid SOP Instance UID
    | ``0x0120``, ``0x0121`` Missing attribute, missing attribute value
    | ``0x0124`` Refused: not authorized
    | ``0x0213`` Resource limitation
    """

    message = ""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, association: Association, message: Message) -> Generator[Response, None, None]:
        """The response, once the change is durable."""
        try:
            yield self._answer(association, message)
        except Ended:
            raise
        except Exception as error:
            yield status.of_performed(self.message, error, association.peer.caller.source.request_id)

    def _answer(self, association: Association, message: Message) -> Response:
        raise NotImplementedError

    def _data_set(self, message: Message) -> JsonDataSet:
        if not isinstance(message.data_set, bytes):
            raise InvalidRequest(f"{self.message} without attributes")
        return short.read(message.data_set, message.context.transfer_syntax, self._core.limits)


class CreateHandler(_Handler):
    """Answers N-CREATE requests; who names no SOP Instance UID is given one."""

    message = "N-CREATE"

    def _answer(self, association: Association, message: Message) -> Response:
        named = message.command.text(Element.AFFECTED_SOP_INSTANCE_UID)
        sop_uid = ids.sop_uid(named or str(generate_uid()))
        decision = self._core.performed.enter(association.peer.caller, sop_uid)
        self._core.performed.create(decision, sop_uid, self._data_set(message))
        found: dict[Element, Value] = {Element.AFFECTED_SOP_INSTANCE_UID: sop_uid}
        return Response(status.SUCCESS.code, found)


class SetHandler(_Handler):
    """Answers N-SET requests."""

    message = "N-SET"

    def _answer(self, association: Association, message: Message) -> Response:
        sop_uid = ids.sop_uid(message.command.text(Element.REQUESTED_SOP_INSTANCE_UID))
        decision = self._core.performed.enter(association.peer.caller, sop_uid)
        self._core.performed.change(decision, sop_uid, self._data_set(message))
        return status.response(status.SUCCESS)


class ReadHandler(_Handler):
    """Answers N-GET requests: the attributes that are asked for, or all."""

    message = "N-GET"

    def _answer(self, association: Association, message: Message) -> Response:
        sop_uid = ids.sop_uid(message.command.text(Element.REQUESTED_SOP_INSTANCE_UID))
        step = self._core.performed.get(self._core.performed.enter(association.peer.caller, sop_uid), sop_uid)
        asked = message.command.tags(Element.ATTRIBUTE_IDENTIFIER_LIST) or sorted(step.body)
        keys = Keys((), tuple(Key(tag, step.body[tag]["vr"]) for tag in sorted(set(asked)) if tag in step.body))
        answers = Answers(keys, message.context.transfer_syntax)
        code = status.SUCCESS if set(asked) <= step.body.keys() else status.SOME_NOT_THERE
        return Response(code.code, data_set=answers.answer(step.body))
