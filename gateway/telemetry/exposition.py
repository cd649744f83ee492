"""The port for operators: /metrics in Prometheus' text format, and health for probes of faces that speak no HTTP."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_log = logging.getLogger("gateway.metrics")

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_TIMEOUT_S = 10.0
_MAX_CONNECTIONS = 16


class Exposition:
    """Answers from threads of its own, as long as the block lasts.

    Parameters
    ----------
    listening
        Bound and listening, and taken over.
    directory
        Of the workers' metrics, see ``sharing``.
    host
        What is not the workers'.
    fault
        Says what keeps the gateway from serving; None when nothing does.
    """

    def __init__(
        self, listening: socket.socket, directory: Path, host: Collector, fault: Callable[[], str | None]
    ) -> None:
        registry = CollectorRegistry()
        registry.register(host)
        MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
        self.registry = registry
        self.fault = fault
        self._server = _Server(listening, self)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, exposition: Exposition) -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.exposition = exposition
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Answer in a thread, or hang up when too many are being answered."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """See socketserver."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - see socketserver
        """A peer that hangs up is no news; anything else is a defect."""
        _log.debug("a request on the metrics port ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request."""

    server: _Server
    timeout = _TIMEOUT_S
    server_version = "gateway"
    sys_version = ""

    def do_GET(self) -> None:
        """Metrics or health."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(HTTPStatus.OK, _TEXT, generate_latest(self.server.exposition.registry))
        elif path == "/health/live":
            self._status(HTTPStatus.OK, {"status": "live"})
        elif path == "/health/ready":
            fault = self.server.exposition.fault()
            if fault is None:
                self._status(HTTPStatus.OK, {"status": "ready"})
            else:
                self._status(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "not ready", "detail": fault})
        else:
            self._status(HTTPStatus.NOT_FOUND, {"status": "there is /metrics, /health/live and /health/ready"})

    def _status(self, status: HTTPStatus, body: dict[str, str]) -> None:
        self._answer(status, "application/json", json.dumps(body).encode())

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A probe every few seconds is no event."""
