"""An HTTP proxy before a real server that records what passes and can spoil it: slow, refused, cut, altered."""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "proxy-connection", "content-length"})


@dataclass(frozen=True, slots=True)
class Passed:
    """One request, as the client sent it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do to one request; nothing, unless told.

    ``status`` and ``code`` answer in the server's place. ``request_bytes`` resets the connection after so many bytes
    of the request's body, of which the server sees nothing. ``alter_request`` changes a byte of the body on its way to
    the server. ``lose_answer`` resets the connection after the server has done its work. ``response_bytes`` resets it
    after so many bytes of the answer's body. ``alter_response`` changes a byte in the middle of the answer's body, and
    ``shorten_response`` leaves out its end and says so in Content-Length, as a broken middle box does. ``until``
    holds the request back until the event is set, ``rest_until`` the second half of the answer's body.
    """

    status: int = 0
    code: str = ""
    request_bytes: int | None = None
    alter_request: bool = False
    lose_answer: bool = False
    response_bytes: int | None = None
    alter_response: bool = False
    shorten_response: int = 0
    until: threading.Event | None = None
    rest_until: threading.Event | None = None


@dataclass
class FaultyProxy:
    """A proxy on 127.0.0.1; ``plan`` is asked about each request and gives the Fault for it, or None.

    With ``tls`` it speaks TLS to its clients. It also serves as a forward proxy for http URLs: whatever host they name,
    they go to the same server, with the Host header as it came.
    """

    upstream: str
    tls: ssl.SSLContext | None = None
    plan: Callable[[Passed], Fault | None] = lambda _: None
    passed: list[Passed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self._server = _Server(self)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        """Where clients reach it."""
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def fail(self, *faults: Fault | None, when: Callable[[Passed], bool] = lambda _: True) -> None:
        """Spoil the next requests that ``when`` picks, one fault each."""
        waiting = list(faults)

        def plan(request: Passed) -> Fault | None:
            with self.lock:
                return waiting.pop(0) if waiting and when(request) else None

        self.plan = plan

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: FaultyProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are written apart, and would wait for each other 40 ms
    server: _Server

    def handle_any(self) -> None:
        proxy = self.server.proxy
        length = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("expect", "").lower() == "100-continue":
            del headers["expect"]
        begun = Passed(self.command, self.path, headers, b"")
        fault = proxy.plan(begun) or Fault()
        if fault.request_bytes is not None:
            self.rfile.read(min(fault.request_bytes, length))
            self.reset()
            return
        body = self.rfile.read(length)
        with proxy.lock:
            proxy.passed.append(Passed(self.command, self.path, headers, body))
        if fault.until is not None:
            fault.until.wait(timeout=60)
        if fault.status:
            self.answer(fault.status, {"Content-Type": "application/xml"}, _refusal(fault.code))
            return
        if fault.alter_request:
            body = _altered(body)
        status, answered, data = self.forward(headers, body)
        if fault.lose_answer:
            self.reset()
            return
        if fault.alter_response:
            data = _altered(data)
        if fault.shorten_response:
            data = data[: -fault.shorten_response]
        self.answer(status, answered, data, fault.response_bytes, fault.rest_until)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def forward(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = urlsplit(self.server.proxy.upstream)
        target = self.path
        if "://" in target:
            target = urlsplit(target)._replace(scheme="", netloc="").geturl()
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
        try:
            connection.putrequest(self.command, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name not in HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            found = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
            if self.command == "HEAD":
                found["Content-Length"] = response.getheader("Content-Length") or "0"
            return response.status, found, response.read()
        finally:
            connection.close()

    def answer(
        self,
        status: int,
        headers: Mapping[str, str],
        data: bytes,
        stop_after: int | None = None,
        rest_until: threading.Event | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if rest_until is not None:
            self.wfile.write(data[: len(data) // 2])
            rest_until.wait(timeout=60)
            data = data[len(data) // 2 :]
        self.wfile.write(data if stop_after is None else data[:stop_after])
        if stop_after is not None:
            self.wfile.flush()
            self.reset()

    def reset(self) -> None:
        """Break the connection off without a goodbye."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # shutdown_request of the server would say goodbye first.
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Silent: the tests look at ``passed``."""


def _refusal(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()


def _altered(data: bytes) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[len(changed) // 2] ^= 0x01
    return bytes(changed)
