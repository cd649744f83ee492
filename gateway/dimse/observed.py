"""Handlers as they are, with every request of a peer counted, timed and, where traces are wanted, traced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pynetdicom import evt

from gateway.assembly import Core
from gateway.dimse import status
from gateway.telemetry.tracing import Span

Single = Callable[[evt.Event], Dataset]
_Response = tuple[int | Dataset, Dataset | None]
Several = Callable[[evt.Event], Iterator[_Response]]


def single(core: Core, operation: str, handler: Single) -> Single:
    """A handler that gives one response."""

    def observed(event: evt.Event) -> Dataset:
        started_s = time.monotonic()
        with core.tracer.request(operation, {}) as span:
            response = handler(event)
            _over(core, operation, int(response.Status), started_s, span)
        return response

    return observed


def several(core: Core, operation: str, handler: Several) -> Several:
    """A handler that gives responses one by one; the last one that is not pending is the request's."""

    def observed(event: evt.Event) -> Iterator[_Response]:
        started_s = time.monotonic()
        final = status.SUCCESS.code
        with core.tracer.request(operation, {}) as span:
            for found, identifier in handler(event):
                code = found if isinstance(found, int) else int(found.Status)
                if code not in (status.PENDING.code, status.PENDING_WARNING.code):
                    final = code
                yield found, identifier
            _over(core, operation, final, started_s, span)

    return observed


def _over(core: Core, operation: str, code: int, started_s: float, span: Span) -> None:
    span.set(**{"dicom.status": f"0x{code:04X}"})
    core.metrics.responded(operation, code, time.monotonic() - started_s)
