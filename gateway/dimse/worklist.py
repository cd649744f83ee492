"""C-FIND of the Modality Worklist (PS3.4 K.4.1 "C-FIND Operation")."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

from gateway.assembly import Core
from gateway.dimse import identifiers, status
from gateway.dimse.answers import Answers
from gateway.dimse.association import Association
from gateway.dimse.ending import Ended
from gateway.dimse.find import options
from gateway.dimse.messages import Message
from gateway.dimse.status import Response
from gateway.errors import InvalidQuery, PayloadTooLarge
from storage.dicom import identifiers as ids


class WorklistHandler:
    """Answers C-FIND requests for the worklist."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, association: Association, message: Message) -> Generator[Response, None, None]:
        """The responses of one request, with a step in each.

        *Status*

        | ``0x0000`` Matching is complete
        | ``0xFF00`` A match
        | ``0xFE00`` Cancelled
        | ``0x0124`` Refused: not authorized
        | ``0xA700`` Refused: out of resources, or more matches than are given
        | ``0xA900`` Identifier does not match SOP Class
        | ``0xC000``, ``0xC001`` Unable to process; the identifier cannot be read
        """
        try:
            yield from self._find(association, message)
        except Ended:
            raise
        except Exception as error:
            yield status.of_find(error, association.peer.caller.source.request_id)

    def _find(self, association: Association, message: Message) -> Generator[Response, None, None]:
        encoded, context = message.data_set, message.context
        if not isinstance(encoded, bytes):
            raise InvalidQuery("a C-FIND request without an Identifier")
        asked = identifiers.read(encoded, context.transfer_syntax, self._core.limits)
        answers = Answers(asked, context.transfer_syntax)
        caller = association.peer.caller
        decision = self._core.worklist.enter(caller, ids.Tenant(caller.principal.tenant), asked.pairs)
        # Dates and times are always one range here, whatever was negotiated (PS3.4 K.5.1.2).
        matching = dataclasses.replace(options(context), combined=False)
        most = self._core.settings.dimse.max_matches
        for number, step in enumerate(self._core.worklist.find(decision, asked.pairs, matching)):
            if number == most:
                raise PayloadTooLarge(f"more than {most} matches")
            if association.is_cancelled(message.command.message_id):
                yield status.response(status.CANCEL)
                return
            yield Response(status.PENDING.code, data_set=answers.answer(step.body))
        yield status.response(status.SUCCESS)
