"""Handlers as they are, with every request of a peer counted, timed and, where traces are wanted, traced."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from gateway.assembly import Core
from gateway.dimse.association import Association
from gateway.dimse.messages import Message
from gateway.dimse.status import Response

_Handler = Callable[[Association, Message], Generator[Response, None, None]]


def handler(core: Core, operation: str, answers: _Handler) -> _Handler:
    """A handler that is observed. The last response, the one that is not pending, is the request's."""

    def observed(association: Association, message: Message) -> Generator[Response, None, None]:
        started_s = time.monotonic()
        with core.tracer.request(operation, {}) as span:
            for response in answers(association, message):
                if not response.is_pending:
                    # Before it is sent: whoever has the answer finds it counted.
                    span.set(**{"dicom.status": f"0x{response.status:04X}"})
                    core.metrics.responded(operation, response.status, time.monotonic() - started_s)
                yield response

    return observed
