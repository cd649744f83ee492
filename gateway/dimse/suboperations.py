"""What C-MOVE and C-GET have in common: sub-operations one by one, counted and told of (PS3.4 C.4.2, C.4.3).

References
----------
PS3.7 9.1.3 "C-GET Service", 9.1.4 "C-MOVE Service", PS3.4 C.4.2.1.5 and C.4.3.1.4 "Status".
"""

from __future__ import annotations

import time

from pydicom.dataset import Dataset

from gateway.dimse import answers, status
from gateway.dimse.association import Association
from gateway.dimse.commands import Element, Value
from gateway.dimse.messages import Message
from gateway.dimse.sending import is_stored, is_warning
from gateway.dimse.status import Response, Status

_TOLD_EVERY_S = 1.0
_MOST = 0xFFFF


class SubOperations:
    """Sub-operations of one request."""

    def __init__(self, association: Association, message: Message, total: int) -> None:
        self._association = association
        self._message = message
        self._remaining = total
        self._completed = self._warning = 0
        self._failed: list[str] = []
        self._told_s = 0.0

    @property
    def is_cancelled(self) -> bool:
        """Whether the peer has cancelled the request. Raises Ended."""
        return self._association.is_cancelled(self._message.command.message_id)

    def tell(self) -> None:
        """Send a pending response when it is time for one. Raises Ended."""
        now_s = time.monotonic()
        if now_s - self._told_s < _TOLD_EVERY_S:
            return
        self._told_s = now_s
        command = self._message.command.response(status.SUBOPERATIONS.code, self._counts(), data_set=False)
        self._association.send(self._message.context.id, command)

    def over(self, sop_uid: str, code: int | None) -> None:
        """One is over: with the status of its response, or None when there is none."""
        self._remaining -= 1
        if code is None or not is_stored(code):
            self._failed.append(sop_uid)
        elif is_warning(code):
            self._warning += 1
        else:
            self._completed += 1

    def cancelled(self) -> Response:
        """The final response to what was cancelled."""
        return self._final(status.CANCEL)

    def final(self) -> Response:
        """The final response."""
        if not self._failed:
            return self._final(status.SUCCESS if not self._warning else status.SUBOPERATIONS_WARNING)
        done = self._completed + self._warning
        return self._final(status.SUBOPERATIONS_WARNING if done else status.SUBOPERATIONS_FAILED)

    def _final(self, outcome: Status) -> Response:
        data_set = None
        if self._failed:
            found = Dataset()
            found.FailedSOPInstanceUIDList = self._failed
            data_set = answers.written(found, self._message.context.transfer_syntax)
        counts = self._counts()
        if outcome is not status.CANCEL:
            # Only of what goes on, or could have (PS3.7 9.1.4.1.7).
            counts.pop(Element.REMAINING_SUB_OPERATIONS)
        return Response(outcome.code, counts, data_set)

    def _counts(self) -> dict[Element, Value]:
        return {
            Element.REMAINING_SUB_OPERATIONS: min(self._remaining, _MOST),
            Element.COMPLETED_SUB_OPERATIONS: min(self._completed, _MOST),
            Element.FAILED_SUB_OPERATIONS: min(len(self._failed), _MOST),
            Element.WARNING_SUB_OPERATIONS: min(self._warning, _MOST),
        }
