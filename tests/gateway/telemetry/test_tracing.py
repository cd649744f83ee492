"""Spans of a real gateway, as a receiver of OTLP over HTTP gets them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from gateway import cli
from gateway.config.serving import TracesSettings
from gateway.telemetry import tracing
from tests.instances import data_set, part10_file
from tests.serving import Gateway

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Receiver:
    """Takes spans and keeps them."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.changed:
                    receiver.bodies.append(body)
                    receiver.changed.notify_all()
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self) -> list[Span]:
        requests_ = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests_
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


def attributes(span: Span) -> dict[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_requests_and_stages_of_ingest_are_spans_without_patients(receiver: Receiver, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "data", tmp_path / "log", GATEWAY_TRACES__ENDPOINT=receiver.endpoint)
    gateway.start()
    try:
        sent = data_set(PatientName="Secret^Name", PatientID="S3CR3T")
        body = part10_file(sent)
        headers = {"Content-Type": "application/dicom", "traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert requests.post(f"{gateway.web}/studies", data=body, headers=headers, timeout=30).status_code == 200
        assert requests.get(f"{gateway.web}/studies?PatientName=Secret*", timeout=30).status_code == 200
        ae = AE()
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", gateway.dimse_port, ae_title="GATEWAY")
        again = data_set(PatientName="Secret^Name")
        part10_file(again)
        assert association.send_c_store(again).Status == 0
        association.release()
    finally:
        assert gateway.stop() == 0, gateway.log
    spans = receiver.spans()
    (post,) = [span for span in spans if span.name == "POST /dicomweb/studies"]
    assert post.trace_id.hex() == TRACE
    assert post.parent_span_id.hex() == PARENT
    assert attributes(post)["http.response.status_code"] == 200
    stages = {span.name for span in spans if span.parent_span_id == post.span_id}
    assert {"objects put", "index commit"} <= stages
    (get,) = [span for span in spans if span.name == "GET /dicomweb/studies"]
    assert get.trace_id != post.trace_id
    (store,) = [span for span in spans if span.name == "C-STORE"]
    assert attributes(store)["dicom.status"] == "0x0000"
    assert {span.name for span in spans if span.parent_span_id == store.span_id} >= {"objects put", "index commit"}
    whole = b"".join(receiver.bodies)
    for secret in (b"Secret", b"S3CR3T", b"PatientName", sent.StudyInstanceUID.encode()):
        assert secret not in whole


def test_a_caller_cannot_ask_for_more_than_is_sampled(receiver: Receiver) -> None:
    tracer = tracing.tracer(TracesSettings(endpoint=receiver.endpoint, sample_ratio=0.0), "http-1", "1")
    with tracer.request("GET", {"traceparent": f"00-{TRACE}-{PARENT}-01"}), tracer.stage("index"):
        pass
    tracer.close()
    assert receiver.spans() == []


def test_an_error_is_told_by_its_kind_alone(receiver: Receiver) -> None:
    tracer = tracing.tracer(TracesSettings(endpoint=receiver.endpoint), "http-1", "1")
    with pytest.raises(KeyError), tracer.stage("index search"):
        raise KeyError("Patient^Name")
    tracer.close()
    (span,) = receiver.spans()
    assert attributes(span) == {"error.type": "KeyError"}
    assert b"Patient" not in receiver.bodies[0]


def test_a_receiver_that_is_not_there_holds_nobody_up(receiver: Receiver) -> None:
    receiver.close()
    tracer = tracing.tracer(TracesSettings(endpoint=receiver.endpoint), "http-1", "1")
    started_s = time.monotonic()
    with tracer.request("GET", {}):
        pass
    assert time.monotonic() - started_s < 1
    tracer.close()


def test_traces_without_opentelemetry_are_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_TRACES__ENDPOINT", "http://127.0.0.1:4318/v1/traces")
    assert cli.main(["check-config"]) == 0
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert cli.main(["check-config"]) == 1
    assert "dicomweb-gateway[otel]" in capsys.readouterr().err
