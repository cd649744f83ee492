"""A receiver of webhooks."""

from __future__ import annotations

import base64
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook as Verifier

SECRET = base64.b64encode(secrets.token_bytes(32)).decode()


class Receiver(ThreadingHTTPServer):
    """Keeps what it was sent, and answers as it is told: a status, or a status and seconds to wait."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int | tuple[int, dict[str, str]]] = []

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer nobody any more. Idempotent."""
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        """Where it takes messages."""
        return f"http://127.0.0.1:{self.server_port}/hook"

    def verified(self, secret: str = SECRET) -> list[dict[str, Any]]:
        """What came, once its signature is verified by a library that others made."""
        return [Verifier(secret).verify(body, headers) for headers, body in self.messages]

    def ids(self) -> list[str]:
        """The ids of what came."""
        return [headers["webhook-id"] for headers, _ in self.messages]


class Request(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.messages.append((headers, body))
        answer = self.server.answers.pop(0) if self.server.answers else 204
        status, more = answer if isinstance(answer, tuple) else (answer, {})
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is told."""
