"""Preamble and File Meta Information (PS3.10 7.1): reading what arrives, writing ours."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from storage.dicom import identifiers as ids
from storage.dicom import vr as vrs
from storage.dicom.elements import Encoding, Readable
from storage.dicom.limits import Limits
from storage.errors import InvalidIdentifier, LimitExceeded, MalformedDataSet, NotPart10, Truncated

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = frozenset(
    (
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    )
)
"""Transfer syntaxes whose pixel data is not compressed frame by frame (PS3.5 A.1, A.2, A.3, A.5)."""

# Ours, made once from a random UUID (PS3.5 B.2).
IMPLEMENTATION_CLASS_UID = "2.25.278353180412966713158216087294190384257"
IMPLEMENTATION_VERSION_NAME = "DICOMWEB_GATEWAY"
PRIVATE_CREATOR_UID = "2.25.1861873143102166527622028439303869570"

_MAGIC = b"DICM"
_ELEMENT = struct.Struct("<HH2sH")


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the archive uses of the File Meta Information; "" where absent.

    The AE titles are those of PS3.10 Table 7.1-1: source (0002,0016), sending (0002,0017), receiving (0002,0018).
    ``private`` is our own Private Information (0002,0102), which another creator's never is.
    """

    transfer_syntax_uid: str
    sop_class_uid: str = ""
    sop_uid: str = ""
    source_ae_title: str = ""
    sending_ae_title: str = ""
    receiving_ae_title: str = ""
    private: bytes = b""


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """How the data set of a transfer syntax is written; every compressed one is Explicit VR Little Endian."""
    return Encoding(
        implicit=transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN,
        big_endian=transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN,
        deflated=transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    )


def read(source: Readable, limits: Limits) -> tuple[FileMeta, int, bytes]:
    """Read up to the data set.

    Accepts a Part 10 file, one without its preamble, and a bare data set (a CT's old archive): those are told
    apart by their first bytes, and a bare data set's encoding by its first element.

    Returns
    -------
    tuple
        The meta information; the number of bytes before the data set; bytes of the data set already taken.

    Raises
    ------
    NotPart10, Truncated, MalformedDataSet, LimitExceeded
    """
    head = _read(source, 132)
    if head[128:132] == _MAGIC:
        start, rest = 132, b""
    elif head[:4] == _MAGIC:
        start, rest = 4, head[4:]
    elif head[:4] == b"\x02\x00\x00\x00":
        start, rest = 0, head
    else:
        return FileMeta(_guess_encoding(head)), 0, head
    return _read_group(source, rest, start, limits)


def _read(source: Readable, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        block = source.read(size)
        if not block:
            break
        parts.append(block)
        size -= len(block)
    return b"".join(parts)


def _guess_encoding(head: bytes) -> str:
    """The encoding of a data set that came without meta information, by its first element."""
    if len(head) < 8:
        raise NotPart10("not a DICOM Part 10 file: too short")
    group, element, vr, _ = _ELEMENT.unpack_from(head, 0)
    big_group, _, big_vr, _ = struct.unpack_from(">HH2sH", head, 0)
    if group == 0x0008 and vr in vrs.NAMES:
        return EXPLICIT_VR_LITTLE_ENDIAN
    if big_group == 0x0008 and big_vr in vrs.NAMES:
        return EXPLICIT_VR_BIG_ENDIAN
    if group == 0x0008 and element < 0x0100:
        return IMPLICIT_VR_LITTLE_ENDIAN
    raise NotPart10("not a DICOM Part 10 file: no DICM prefix and no data set that begins with group 0008")


def _read_group(source: Readable, rest: bytes, start: int, limits: Limits) -> tuple[FileMeta, int, bytes]:
    """Group 0002, Explicit VR Little Endian; ends at the first element of another group, whatever its length says."""
    buffer = rest
    position = 0
    values: dict[int, bytes] = {}
    while True:
        while len(buffer) - position < 8:
            block = source.read(4096)
            if not block:
                break
            buffer += block
        if len(buffer) - position < 8:
            if len(buffer) > position or not values:
                raise Truncated("the stream ends inside the File Meta Information")
            break
        group, element, vr, length = _ELEMENT.unpack_from(buffer, position)
        if group != 0x0002:
            break
        header = 8
        if vr in vrs.LONG_LENGTH:
            while len(buffer) - position < 12:
                block = source.read(4096)
                if not block:
                    raise Truncated("the stream ends inside the File Meta Information")
                buffer += block
            (length,) = struct.unpack_from("<I", buffer, position + 8)
            header = 12
        elif vr not in vrs.SHORT_LENGTH:
            raise MalformedDataSet("the File Meta Information is not in Explicit VR")
        if start + position + header + length > limits.max_file_meta_bytes:
            raise LimitExceeded("the File Meta Information is too long")
        while len(buffer) - position < header + length:
            block = source.read(4096)
            if not block:
                raise Truncated("the stream ends inside the File Meta Information")
            buffer += block
        values[element] = buffer[position + header : position + header + length]
        position += header + length
    meta = FileMeta(
        transfer_syntax_uid=_text(values, 0x0010),
        sop_class_uid=_text(values, 0x0002),
        sop_uid=_text(values, 0x0003),
        source_ae_title=_text(values, 0x0016),
        sending_ae_title=_text(values, 0x0017),
        receiving_ae_title=_text(values, 0x0018),
        private=values.get(0x0102, b"") if _text(values, 0x0100) == PRIVATE_CREATOR_UID else b"",
    )
    if not meta.transfer_syntax_uid:
        meta = FileMeta(_guess_encoding(buffer[position:]), meta.sop_class_uid, meta.sop_uid)
    try:
        ids.transfer_syntax_uid(meta.transfer_syntax_uid)
    except InvalidIdentifier as error:
        raise MalformedDataSet(str(error)) from error
    return meta, start + position, buffer[position:]


def _text(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").decode("ascii", "replace").strip(" \0")


def write(meta: FileMeta) -> bytes:
    """A zeroed preamble, the prefix and our File Meta Information for a data set that follows unchanged."""
    body = b"".join(
        (
            b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01",
            _element(0x0002, b"UI", meta.sop_class_uid),
            _element(0x0003, b"UI", meta.sop_uid),
            _element(0x0010, b"UI", meta.transfer_syntax_uid),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _element(0x0016, b"AE", meta.source_ae_title),
            _element(0x0017, b"AE", meta.sending_ae_title),
            _element(0x0018, b"AE", meta.receiving_ae_title),
            _private(meta.private),
        )
    )
    return b"\0" * 128 + _MAGIC + _ELEMENT.pack(2, 0, b"UL", 4) + struct.pack("<I", len(body)) + body


def _private(value: bytes) -> bytes:
    if not value:
        return b""
    value += b"\0" * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value))
    return _element(0x0100, b"UI", PRIVATE_CREATOR_UID) + struct.pack("<HH2s", 2, 0x0102, b"OB") + length + value


def _element(element: int, vr: bytes, text: str) -> bytes:
    if not text:
        return b""
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return _ELEMENT.pack(2, element, vr, len(value)) + value
