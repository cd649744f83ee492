"""Multipart bodies (PS3.18 8.6.1.2, RFC 2046 5.1.1), written and read as a client does that is not of this gateway."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message

from gateway.conformance.claims import Broken

_BOUNDARY = "conformance-kit"


@dataclass(frozen=True, slots=True)
class Part:
    """Headers, by their names in small letters, and body."""

    headers: dict[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """Its Content-Type."""
        return self.headers.get("content-type", "")

    @property
    def media_type(self) -> str:
        """The same without parameters."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def transfer_syntax(self) -> str:
        """That of its Content-Type, if it names one."""
        message = Message()
        message["Content-Type"] = self.content_type
        found = message.get_param("transfer-syntax")
        return found if isinstance(found, str) else ""


def split(boundary: object, body: bytes) -> list[Part]:
    """The parts of a body."""
    if not isinstance(boundary, str) or not boundary:
        raise Broken("the Content-Type has no boundary")
    delimiter = b"\r\n--" + boundary.encode()
    _, *pieces = (b"\r\n" + body).split(delimiter)
    if not pieces or not pieces[-1].startswith(b"--"):
        raise Broken("the multipart body does not end with its closing boundary (RFC 2046 5.1.1)")
    found = []
    for piece in pieces[:-1]:
        head, empty_line, content = piece.partition(b"\r\n\r\n")
        if not empty_line:
            raise Broken("a part has no empty line after its headers (RFC 2046 5.1)")
        lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n") if line.strip())
        found.append(Part({name.strip().lower(): value.strip() for name, _, value in lines}, content))
    return found


def joined(media_type: str, found: Iterable[tuple[dict[str, str], bytes]]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request of parts, the first of which is of a media type."""
    body = b""
    for headers, content in found:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body += f"--{_BOUNDARY}\r\n{lines}\r\n".encode() + content + b"\r\n"
    kind = f'multipart/related; type="{media_type}"; boundary={_BOUNDARY}'
    return {"Content-Type": kind}, body + f"--{_BOUNDARY}--\r\n".encode()
