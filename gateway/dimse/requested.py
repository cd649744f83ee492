"""A-ASSOCIATE-RQ: read within its time, and looked through before a library takes it apart.

References
----------
PS3.8 9.3.2 "A-ASSOCIATE-RQ PDU Structure", 9.2.3 (AA-1: what is wrong in Sta2 is aborted as by the user), 9.3.4
"A-ASSOCIATE-RJ PDU Structure"; PS3.7 D.3.3 "Extended Negotiation".
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator

from gateway.context import Source
from gateway.dimse import pdus
from gateway.dimse.ending import Aborted
from gateway.dimse.pdus import PduType
from gateway.dimse.wire import Late, Lost, Wire

# 128 contexts with every transfer syntax that there is.
MAX_BYTES = 262_144
_FIXED = struct.Struct(">HH16s16s32x")
_ITEM = struct.Struct(">BxH")
_CONTEXT_FIELDS = 4
_VERSION_1 = 1
_APPLICATION_CONTEXT, _PRESENTATION_CONTEXT, _USER_INFORMATION = 0x10, 0x20, 0x50
_IMPLEMENTATION_CLASS = 0x52
# SCP/SCU Role Selection, SOP Class Extended and Common Extended Negotiation: first the length of a UID, then the UID.
_OF_SOP_CLASSES = frozenset((0x54, 0x56, 0x57))
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX, _USER_IDENTITY = 0x30, 0x40, 0x58
_UID = re.compile(rb"[0-9.]+[\0 ]*")
_DICOM_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_MAX_CONTEXTS = 128
_MAX_TRANSFER_SYNTAXES = 128
# An item of each kind for each SOP class of the contexts, and some.
_MAX_USER_ITEMS = 512
_MAX_IDENTITY_BYTES = 16_384


class Refused(Exception):
    """The request is rejected: result, source and reason of the A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    def __init__(self, why: str, result: int, source: int, reason: int) -> None:
        super().__init__(why)
        self.result, self.source, self.reason = result, source, reason

    def encode(self) -> bytes:
        """The A-ASSOCIATE-RJ PDU."""
        return pdus.HEADER.pack(PduType.A_ASSOCIATE_RJ, 4) + bytes((0, self.result, self.source, self.reason))


def calling_not_recognised() -> Refused:
    """The policy does not know the calling AE title."""
    return Refused("calling AE title not recognised", 1, 1, 3)


def called_not_recognised() -> Refused:
    """It is for somebody else."""
    return Refused("called AE title not recognised", 1, 1, 7)


def identity_not_accepted() -> Refused:
    """The user identity that was shown is nobody's."""
    return Refused("user identity not accepted", 1, 1, 1)


def congested() -> Refused:
    """Something that is needed is down; later it may be there."""
    return Refused("temporary congestion", 2, 3, 1)


def full() -> Refused:
    """As many associations as there may be."""
    return Refused("local limit exceeded", 2, 3, 2)


def too_often() -> Refused:
    """An address has asked for as many associations in a time as it may."""
    return Refused("more associations of its address than are allowed", 2, 3, 2)


def _no_reason(why: str) -> Refused:
    return Refused(why, 1, 2, 1)


def read(wire: Wire, within_s: float) -> bytes:
    """The request, header included; ARTIM is ``within_s`` from now on (PS3.8 9.1.5). Raises Aborted."""
    wire.deadline_s = time.monotonic() + within_s
    try:
        header = bytes(wire.exactly(pdus.HEADER.size))
        kind, length = pdus.HEADER.unpack(header)
        if kind == PduType.A_ABORT:
            raise Aborted("aborted before it was requested")
        if kind != PduType.A_ASSOCIATE_RQ or not _FIXED.size <= length <= MAX_BYTES:
            raise Aborted("no A-ASSOCIATE-RQ of a possible length", pdus.BY_USER)
        request = bytearray(header)
        while length:
            part = wire.some(length)
            request += part
            length -= len(part)
    except Lost as error:
        raise Aborted(str(error)) from error
    except Late as error:
        # ARTIM expired: the connection is closed without a word (AA-2).
        raise Aborted("no request in time") from error
    return bytes(request)


def source(request: bytes, address: str, certificate: str = "") -> Source:
    """Where a request comes from, in characters that can be shown whatever it holds."""
    _, _, called, calling = _FIXED.unpack_from(request, pdus.HEADER.size)
    return Source("DIMSE", address, _shown(calling), _shown(called), certificate)


def _shown(title: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else "?" for byte in title).strip()


def check(request: bytes) -> None:
    """Look through a request. Raises Aborted when it cannot be followed, Refused."""
    body = memoryview(request)[pdus.HEADER.size :]
    version, _, called, calling = _FIXED.unpack_from(body)
    if not version & _VERSION_1:
        raise Refused("protocol version not supported", 1, 2, 2)
    if not _is_title(called):
        raise called_not_recognised()
    if not _is_title(calling):
        raise calling_not_recognised()
    contexts: set[int] = set()
    for kind, value in _items(body[_FIXED.size :]):
        if kind == _APPLICATION_CONTEXT and bytes(value).rstrip(b"\0 ") != _DICOM_APPLICATION_CONTEXT:
            raise Refused("application context name not supported", 1, 1, 2)
        if kind == _PRESENTATION_CONTEXT:
            if len(contexts) == _MAX_CONTEXTS:
                raise _no_reason("more presentation contexts than there are numbers for")
            contexts.add(_check_context(value, contexts))
        if kind == _USER_INFORMATION:
            _check_user_information(value)
    if not contexts:
        raise Aborted("no presentation context", pdus.BY_USER)


def _is_title(title: bytes) -> bool:
    """AE (PS3.5 6.2): not only spaces, and neither control characters nor backslash."""
    return bool(title.strip(b" ")) and all(0x20 <= byte <= 0x7E and byte != 0x5C for byte in title)


def _check_context(item: memoryview, before: set[int]) -> int:
    if len(item) < _CONTEXT_FIELDS:
        raise _invalid()
    number = item[0]
    if number % 2 == 0 or number in before:
        raise Aborted("presentation contexts without a number of their own", pdus.BY_USER)
    kinds = []
    for kind, value in _items(item[_CONTEXT_FIELDS:]):
        kinds.append(kind)
        if len(kinds) > _MAX_TRANSFER_SYNTAXES:
            raise _no_reason("more transfer syntaxes than there are")
        if not _UID.fullmatch(value):
            raise _invalid()
    if kinds.count(_ABSTRACT_SYNTAX) != 1 or _TRANSFER_SYNTAX not in kinds:
        raise _invalid()
    return number


def _check_user_information(item: memoryview) -> None:
    for count, (kind, value) in enumerate(_items(item), start=1):
        if count > _MAX_USER_ITEMS:
            raise _no_reason("more user information than there can be")
        if kind == _USER_IDENTITY and len(value) > _MAX_IDENTITY_BYTES:
            raise _no_reason("a user identity without an end")
        if kind == _IMPLEMENTATION_CLASS and value and not _UID.fullmatch(value):
            raise _invalid()
        if kind in _OF_SOP_CLASSES:
            length = int.from_bytes(value[:2], "big")
            if not _UID.fullmatch(value[2 : 2 + length]):
                raise _invalid()


def _items(body: memoryview) -> Iterator[tuple[int, memoryview]]:
    while body:
        if len(body) < _ITEM.size:
            raise _invalid()
        kind, length = _ITEM.unpack_from(body)
        if _ITEM.size + length > len(body):
            raise _invalid()
        yield kind, body[_ITEM.size : _ITEM.size + length]
        body = body[_ITEM.size + length :]


def _invalid() -> Aborted:
    return Aborted("an A-ASSOCIATE-RQ that cannot be followed", pdus.BY_USER)
