"""What an association was, from its request to its end, for who looks at it later."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Sequence

from gateway.context import Source
from gateway.dimse import told
from gateway.dimse.commands import Element, Field
from gateway.dimse.negotiation import Agreed, Request
from gateway.dimse.peers import Peer
from gateway.dimse.sending import is_stored
from gateway.dimse.status import CANCEL, Response
from gateway.services.associations import Association, Served

_NAMED = 8
_LONGEST_DETAIL = 200


class Course:
    """Of one association, on its one thread. No attribute of a data set gets in."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._since_s = time.monotonic()
        self._tenant = self._principal = ""
        self._proposed = self._accepted = 0
        self._not_accepted: Sequence[str] = ()
        self._served: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def agreed(self, request: Request, peer: Peer, agreed: Agreed) -> None:
        """It was accepted."""
        principal = peer.caller.principal
        self._tenant, self._principal = principal.tenant, principal.name
        proposed = request.primitive.presentation_context_definition_list
        self._proposed, self._accepted = len(proposed), len(agreed.contexts)
        left = (each.abstract_syntax for each in proposed if each.context_id not in agreed.contexts)
        self._not_accepted = list(dict.fromkeys(map(str, left)))[:_NAMED]

    def asked(self, field: int) -> None:
        """A request came; it has failed unless it is answered."""
        operation = _operation(field)
        self._served[operation] += 1
        self._failed[operation] += 1

    def answered(self, field: int, response: Response) -> None:
        """A request has its last response."""
        status, in_part = response.status, response.elements.get(Element.FAILED_SUB_OPERATIONS)
        if not in_part and (is_stored(status) or status == CANCEL.code):
            self._failed[_operation(field)] -= 1

    def over(self, outcome: str, detail: str = "") -> Association:
        """It is over."""
        source = self._source
        return Association(
            source.request_id,
            time.time(),
            round(time.monotonic() - self._since_s, 3),
            socket.gethostname(),
            source.calling_ae_title,
            source.called_ae_title,
            source.address,
            self._tenant,
            self._principal,
            self._proposed,
            self._accepted,
            [told.name_of(each) for each in self._not_accepted],
            [Served(name, count, self._failed[name]) for name, count in self._served.items()],
            outcome,
            detail[:_LONGEST_DETAIL],
        )


def _operation(field: int) -> str:
    try:
        return Field(field).name.removesuffix("_RQ").replace("_", "-")
    except ValueError:
        return "other"
