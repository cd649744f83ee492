"""A storage SCU that notices at once when its peer is gone; pynetdicom's may wait for its timeout then."""

from __future__ import annotations

import socket
import struct

_A_ASSOCIATE_AC, _P_DATA = 0x02, 0x04
_CONTEXT_ID = 1
_FRAGMENT_BYTES = 16_000
_APPLICATION_CONTEXT, _IMPLEMENTATION = "1.2.840.10008.3.1.1.1", "1.2.826.0.1.3680043.8.498.1"


class Broken(Exception):
    """The association was rejected or ended."""


class Modality:
    """One association for one SOP class in one transfer syntax (PS3.8 9.3, PS3.7 9.3.1)."""

    def __init__(self, port: int, sop_class_uid: str, transfer_syntax_uid: str, timeout_s: float) -> None:
        self._sop_class_uid = sop_class_uid
        self._message = 0
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(_associate(sop_class_uid, transfer_syntax_uid))
            kind, _ = self._pdu()
        except OSError as error:
            raise Broken from error
        if kind != _A_ASSOCIATE_AC:
            raise Broken

    def store(self, sop_uid: str, data_set: bytes) -> int:
        """Send an instance; the status of the response. Raises Broken."""
        self._message = self._message % 65_535 + 1
        elements = (
            (0x0002, _text(self._sop_class_uid)),
            (0x0100, struct.pack("<H", 0x0001)),
            (0x0110, struct.pack("<H", self._message)),
            (0x0700, struct.pack("<H", 0)),
            (0x0800, struct.pack("<H", 0x0001)),
            (0x1000, _text(sop_uid)),
        )
        command = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
        try:
            self._socket.sendall(_p_data(3, struct.pack("<HHII", 0, 0, 4, len(command)) + command))
            for start in range(0, len(data_set), _FRAGMENT_BYTES):
                last = start + _FRAGMENT_BYTES >= len(data_set)
                self._socket.sendall(_p_data(2 if last else 0, data_set[start : start + _FRAGMENT_BYTES]))
            kind, body = self._pdu()
        except OSError as error:
            raise Broken from error
        if kind != _P_DATA:
            raise Broken
        return _status(body[6:])

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            block = self._socket.recv(length - len(found))
            if not block:
                raise ConnectionResetError
            found += block
        return found


def _associate(sop_class_uid: str, transfer_syntax_uid: str) -> bytes:
    syntaxes = _item(0x30, sop_class_uid.encode()) + _item(0x40, transfer_syntax_uid.encode())
    user = _item(0x51, struct.pack(">I", 16_384)) + _item(0x52, _IMPLEMENTATION.encode())
    body = struct.pack(">H2x16s16s32x", 1, b"GATEWAY".ljust(16), b"FAULTS".ljust(16))
    body += _item(0x10, _APPLICATION_CONTEXT.encode())
    body += _item(0x20, struct.pack(">B3x", _CONTEXT_ID) + syntaxes) + _item(0x50, user)
    return struct.pack(">BxI", 0x01, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _p_data(control: int, fragment: bytes) -> bytes:
    item = struct.pack(">IBB", len(fragment) + 2, _CONTEXT_ID, control) + fragment
    return struct.pack(">BxI", _P_DATA, len(item)) + item


def _text(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def _status(command: bytes) -> int:
    position = 0
    while position + 8 <= len(command):
        _, element, length = struct.unpack_from("<HHI", command, position)
        if element == 0x0900:
            return int.from_bytes(command[position + 8 : position + 8 + length], "little")
        position += 8 + length
    raise Broken
