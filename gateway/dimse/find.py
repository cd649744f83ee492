"""C-FIND: identifiers to the query service and back (PS3.4 C.4.1 "C-FIND Operation")."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.dimse import identifiers, status
from gateway.dimse.answers import Answers
from gateway.dimse.association import Association
from gateway.dimse.contexts import PATIENT_ROOT
from gateway.dimse.ending import Ended
from gateway.dimse.identifiers import Identifier
from gateway.dimse.messages import Context, Extension, Message
from gateway.dimse.status import Response
from gateway.errors import InvalidQuery, PayloadTooLarge
from storage.dicom.json_model import JsonDataSet
from storage.dicom.keys import Options

_BLOCK = 500


class FindHandler:
    """Answers C-FIND requests."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, association: Association, message: Message) -> Generator[Response, None, None]:
        """The responses of one request.

        *Status*

        | ``0x0000`` Matching is complete
        | ``0xFF00``, ``0xFF01`` A match; the second when a key was not supported
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
        syntax, encoded = message.context.transfer_syntax, message.data_set
        if not isinstance(encoded, bytes):
            raise InvalidQuery("a C-FIND request without an Identifier")
        context = message.context
        patient_root = context.abstract_syntax in PATIENT_ROOT
        identifier = identifiers.parse(
            encoded, syntax, self._core.limits, patient_root=patient_root, relational=context.has(Extension.RELATIONAL)
        )
        settings = self._core.settings.dimse
        answers = Answers(identifier, syntax, _about(identifier, settings.ae_title))
        query = dataclasses.replace(
            identifier.query(),
            options=options(context),
            limit=min(_BLOCK, settings.max_matches),
            counted=settings.max_matches + 2,
        )
        caller = association.peer.caller
        shown = self._core.projections.of(caller, Action.SEARCH)
        decision = shown.query.enter(caller, query)
        while True:
            found = shown.query.search(decision, query)
            if query.offset + len(found.results) + found.remaining > settings.max_matches:
                raise PayloadTooLarge(f"more than {settings.max_matches} matches")
            pending = status.PENDING_WARNING if found.unmatched or identifier.unsupported else status.PENDING
            for result in found.results:
                if association.is_cancelled(message.command.message_id):
                    yield status.response(status.CANCEL)
                    return
                yield Response(pending.code, data_set=answers.answer(result))
            if not found.remaining or not found.results:
                yield status.response(status.SUCCESS)
                return
            query = dataclasses.replace(query, offset=query.offset + len(found.results))


def _about(identifier: Identifier, ae_title: str) -> JsonDataSet:
    """What each answer says of itself (PS3.4 C.4.1.1.3.2 "Response Identifier Structure")."""
    return {
        identifiers.QUERY_RETRIEVE_LEVEL: {"vr": "CS", "Value": [identifiers.LEVEL_NAMES[identifier.level]]},
        identifiers.RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [ae_title]},
        identifiers.INSTANCE_AVAILABILITY: {"vr": "CS", "Value": ["ONLINE"]},
    }


def options(context: Context) -> Options:
    """The kinds of matching that were negotiated (PS3.4 C.5.1.1)."""
    return Options(
        fuzzy=context.has(Extension.FUZZY_NAMES),
        empty_values=context.has(Extension.EMPTY_VALUES),
        multiple_values=context.has(Extension.MULTIPLE_VALUES),
        combined=context.has(Extension.COMBINED_DATE_TIME),
    )
