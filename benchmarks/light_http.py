"""A client that costs little beside the server: requests are bytes made before, answers are read and thrown away."""

from __future__ import annotations

import socket
from dataclasses import dataclass

_BUFFER_BYTES = 1 << 20
_LINE_BYTES = 1 << 13


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and length of a body; the body itself when it was asked for."""

    status: int
    length: int
    body: bytes = b""


def request(
    path: str,
    accept: str,
    *more: str,
    host: str = "127.0.0.1",
    method: str = "GET",
    content_type: str = "",
    body: bytes = b"",
) -> bytes:
    """A request as it is sent; ``more`` are header lines."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Accept: {accept}", *more]
    if method != "GET":
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One connection that is kept, and made anew where a server ends it after an answer.

    Raises ConnectionError when the server closes it before.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = self._connected()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0
        self._kept: bytearray | None = None

    def _connected(self) -> socket.socket:
        found = socket.create_connection(("127.0.0.1", self._port), 120.0)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found

    def ask(self, sent: bytes, *, keep: bool = False) -> Answer:
        """The answer to a request, of which the body is kept when that is wanted."""
        self._socket.sendall(sent)
        self._kept = bytearray() if keep else None
        status_line, *lines = self._line_by_line()
        headers = dict(line.lower().split(b":", 1) for line in lines)
        status = int(status_line.split(b" ", 2)[1])
        if b"chunked" in headers.get(b"transfer-encoding", b""):
            length = self._chunks()
        elif b"content-length" in headers or status in (204, 304):
            length = int(headers.get(b"content-length", b"0")) if status not in (204, 304) else 0
            self._take(length, content=True)
        else:
            length = self._rest()
        return Answer(status, length, bytes(self._kept or b""))

    def _line_by_line(self) -> list[bytes]:
        lines = []
        while line := self._line():
            lines.append(line)
        return lines

    def _chunks(self) -> int:
        found = 0
        while size := int(self._line().split(b";")[0], 16):
            self._take(size, content=True)
            self._take(2, content=False)
            found += size
        self._line_by_line()
        return found

    def _rest(self) -> int:
        """What comes until the server closes the connection."""
        found = 0
        while True:
            found += self._end - self._start
            if self._kept is not None:
                self._kept += self._buffer[self._start : self._end]
            self._start = self._end = 0
            self._end = self._socket.recv_into(self._buffer)
            if not self._end:
                self._socket.close()
                self._socket = self._connected()
                return found

    def _line(self) -> bytes:
        while True:
            data = bytes(self._buffer[self._start : min(self._end, self._start + _LINE_BYTES)])
            at = data.find(b"\r\n")
            if at >= 0:
                self._start += at + 2
                return data[:at]
            self._receive()

    def _take(self, count: int, *, content: bool) -> None:
        while count:
            if self._start == self._end:
                self._receive()
            part = min(count, self._end - self._start)
            if content and self._kept is not None:
                self._kept += self._buffer[self._start : self._start + part]
            self._start += part
            count -= part

    def _receive(self) -> None:
        if self._start:
            left = self._end - self._start
            self._buffer[:left] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, left
        count = self._socket.recv_into(self._buffer[self._end :])
        if not count:
            raise ConnectionError("the server closed the connection")
        self._end += count

    def close(self) -> None:
        """End it."""
        self._socket.close()
