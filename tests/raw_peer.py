"""A peer that speaks in bytes: PDUs as they should be, and as they should not."""

from __future__ import annotations

import socket
import struct
import time
from types import TracebackType

VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
COMMAND, LAST = 1, 2
NO_DATA_SET = 0x0101
RELEASE_RQ = b"\x05\0\0\0\0\x04\0\0\0\0"
RELEASE_RP = b"\x06\0\0\0\0\x04\0\0\0\0"

Pdu = tuple[int, bytes]


def pdu(kind: int, body: bytes) -> bytes:
    """A PDU of any type."""
    return struct.pack(">BxI", kind, len(body)) + body


def item(kind: int, value: bytes) -> bytes:
    """An item or sub-item of an A-ASSOCIATE-RQ."""
    return struct.pack(">BxH", kind, len(value)) + value


def context(number: int, abstract: str = VERIFICATION, *syntaxes: str) -> bytes:
    """A proposed presentation context."""
    named = b"".join(item(0x40, syntax.encode()) for syntax in syntaxes or (IMPLICIT,))
    return item(0x20, bytes((number & 0xFF, 0, 0, 0)) + item(0x30, abstract.encode()) + named)


def user_information(*more: bytes, max_length: int = 16_384) -> bytes:
    """Maximum length, implementation class UID, and whatever else."""
    return item(0x50, item(0x51, struct.pack(">I", max_length)) + item(0x52, b"1.2.3.4") + b"".join(more))


def request(
    *contexts: bytes,
    calling: bytes = b"RAW_PEER",
    called: bytes = b"GATEWAY",
    version: int = 1,
    application: bytes = b"1.2.840.10008.3.1.1.1",
    user: bytes = b"",
) -> bytes:
    """An A-ASSOCIATE-RQ."""
    fixed = struct.pack(">HH16s16s32x", version, 0, called.ljust(16), calling.ljust(16))
    proposed = b"".join(contexts or (context(1),))
    return pdu(1, fixed + item(0x10, application) + proposed + (user or user_information()))


def fragment(context_id: int, control: int, value: bytes) -> bytes:
    """A presentation data value."""
    return struct.pack(">IBB", len(value) + 2, context_id, control) + value


def p_data(*fragments: bytes) -> bytes:
    """A P-DATA-TF PDU."""
    return pdu(4, b"".join(fragments))


def element(number: int, value: bytes | int) -> bytes:
    """A command element."""
    encoded = struct.pack("<H", value) if isinstance(value, int) else value + b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(encoded)) + encoded


def command(
    field: int, message_id: int = 1, *more: bytes, sop_class: str = VERIFICATION, data_set: bool = False
) -> bytes:
    """A command set of a request."""
    body = b"".join(
        (
            element(0x0002, sop_class.encode()),
            element(0x0100, field),
            element(0x0110, message_id),
            element(0x0800, 1 if data_set else NO_DATA_SET),
            *more,
        )
    )
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def echo(message_id: int = 1, context_id: int = 1) -> bytes:
    """A C-ECHO request as one PDU."""
    return p_data(fragment(context_id, COMMAND | LAST, command(0x0030, message_id)))


def status_of(body: bytes) -> int:
    """The Status in the command set of a response, which is a P-DATA-TF of one fragment at the beginning."""
    at = body.index(struct.pack("<HHI", 0, 0x0900, 2))
    return int.from_bytes(body[at + 8 : at + 10], "little")


class RawPeer:
    """A connection; use it as a context manager."""

    def __init__(self, address: tuple[str, int], timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(address, timeout=timeout_s)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send it as it is."""
        self.socket.sendall(data)

    def receive(self) -> Pdu | None:
        """The next PDU; None at the end of the stream."""
        header = self._exactly(6)
        if len(header) < 6:
            assert not header
            return None
        kind, length = struct.unpack(">BxI", header)
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self.socket.recv(count - len(found))
            if not part:
                break
            found += part
        return found

    def associate(self, *contexts: bytes, **more: bytes) -> None:
        """Ask for an association, and get it."""
        self.send(request(*contexts, **more))  # type: ignore[arg-type]
        answer = self.receive()
        assert answer is not None
        assert answer[0] == 2, answer

    def response(self) -> int:
        """The status of the response that comes next."""
        answer = self.receive()
        assert answer is not None
        assert answer[0] == 4, answer
        return status_of(answer[1])

    def release(self) -> None:
        """Release, with its answer."""
        self.send(RELEASE_RQ)
        assert self.receive() == (6, bytes(4))

    def ended_after_s(self) -> float:
        """How long it takes until nothing more comes."""
        started_s = time.monotonic()
        try:
            while self.receive() is not None:
                pass
        except ConnectionError:
            pass
        return time.monotonic() - started_s
