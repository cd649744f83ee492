"""OpenTelemetry traces: a span for each request, each DIMSE operation and each call of an engine; off unless asked for.

What a span says of a request is its route, method and status: a URL's query holds names and ids of patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from gateway.config import InvalidSettings
from gateway.config.serving import TracesSettings

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

Value = str | int

_EXPORT_S = 2.0
"""Longest try to send spans; a worker that ends waits for the last."""


class Span(Protocol):
    """What is known of a piece of work only at its end."""

    def set(self, **attributes: Value) -> None:
        """Say more of it."""
        ...


class Tracer(Protocol):
    """Makes spans; each is a child of the one that is open in this thread or task."""

    def request(self, name: str, carrier: Mapping[str, str], **attributes: Value) -> AbstractContextManager[Span]:
        """A span for work that a client asked for, as part of its trace if ``carrier`` has a traceparent."""
        ...

    def stage(self, name: str, **attributes: Value) -> AbstractContextManager[Span]:
        """A span for a part of such work."""
        ...

    def close(self) -> None:
        """Send what is not sent yet."""
        ...


class NoTracer:
    """Makes none."""

    def request(self, name: str, carrier: Mapping[str, str], **attributes: Value) -> AbstractContextManager[Span]:  # noqa: ARG002 - see Tracer
        """See Tracer."""
        return nullcontext(_NOTHING)

    def stage(self, name: str, **attributes: Value) -> AbstractContextManager[Span]:  # noqa: ARG002 - see Tracer
        """See Tracer."""
        return nullcontext(_NOTHING)

    def close(self) -> None:
        """See Tracer."""


class _Nothing:
    def set(self, **attributes: Value) -> None:
        """Nobody asked."""


_NOTHING = _Nothing()


class OpenTelemetryTracer:
    """Makes spans and sends them in the background; what cannot be sent is dropped."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - an extra
            TraceContextTextMapPropagator,
        )

        self._provider = provider
        self._tracer = provider.get_tracer("gateway")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, name: str, carrier: Mapping[str, str], **attributes: Value) -> Iterator[Span]:
        """See Tracer."""
        from opentelemetry.context import Context  # noqa: PLC0415 - an extra
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        # Only what the client sent: whatever is open here is not its parent.
        lowered = {key.lower(): value for key, value in carrier.items() if key.lower() in ("traceparent", "tracestate")}
        parent = self._propagator.extract(lowered, context=Context())
        with self._tracer.start_as_current_span(
            name, context=parent, kind=SpanKind.SERVER, attributes=attributes, record_exception=False
        ) as span:
            yield _Open(span)

    @contextmanager
    def stage(self, name: str, **attributes: Value) -> Iterator[Span]:
        """See Tracer."""
        # Without the exception's text: a foreign library's may quote what it read.
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield _Open(span)
            except Exception as error:
                _Open(span).set(**{"error.type": type(error).__name__})
                raise

    def close(self) -> None:
        """See Tracer."""
        self._provider.shutdown()


class _Open:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, **attributes: Value) -> None:
        """Say more of it."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

        self._span.set_attributes(attributes)
        if "error.type" in attributes:
            self._span.set_status(StatusCode.ERROR)


def check(settings: TracesSettings) -> None:
    """Raises InvalidSettings when traces are wanted and OpenTelemetry is not installed."""
    if settings.endpoint is None:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: PLC0415 - an extra
        import opentelemetry.sdk.trace  # noqa: F401, PLC0415
    except ImportError as error:
        raise InvalidSettings(['traces.endpoint: needs OpenTelemetry: pip install "dicomweb-gateway[otel]"']) from error


def tracer(settings: TracesSettings, worker: str, version: str) -> Tracer:
    """The tracer of one process. Raises InvalidSettings when traces are wanted and OpenTelemetry is not installed."""
    if settings.endpoint is None:
        return NoTracer()
    check(settings)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased  # noqa: PLC0415

    provider = TracerProvider(
        # By the trace id alone, and not by the caller's flag: the same in every process, and nobody can ask for more.
        sampler=TraceIdRatioBased(settings.sample_ratio),
        resource=Resource(
            {"service.name": "dicomweb-gateway", "service.version": version, "service.instance.id": worker}
        ),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=str(settings.endpoint), timeout=_EXPORT_S))
    )
    return OpenTelemetryTracer(provider)
