"""What compressed frames say beside their pixels: comments, Exif, XMP, thumbnails, bytes after the end.

All of it is overwritten with zeros where it stands, not cut out: lengths and offset tables stay true, and one frame
can be cleaned without the others.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

from pydicom import uid

from gateway.errors import NotDeidentified

_JPEG = frozenset((uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1))
_JPEG_LS = frozenset((uid.JPEGLSLossless, uid.JPEGLSNearLossless))
_JPEG_2000 = frozenset(
    (
        uid.JPEG2000Lossless, uid.JPEG2000, uid.JPEG2000MCLossless, uid.JPEG2000MC,
        uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K,
    )
)  # fmt: skip

_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
# Where entropy-coded data ends: JPEG stuffs 00 after FF (ISO 10918-1 F.1.2.3), JPEG-LS a bit (ISO 14495-1 A.1).
_AFTER_JPEG = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_AFTER_JPEG_LS = re.compile(rb"\xff[\x80-\xfe]", re.DOTALL)
_JPEG_TABLES = frozenset((*range(0xC0, 0xE0), 0xF7, 0xF8))

_SOC, _SOT, _SOD, _EOC = 0x4F, 0x90, 0x93, 0xD9
# ISO 15444-1 Table A.2 and 15444-15: CAP SIZ COD COC TLM PRF PLM PLT CPF QCD QCC RGN POC PPM PPT CRG.
_J2K_SEGMENTS = frozenset(
    (0x50, 0x51, 0x52, 0x53, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x63)
)
_JP2_SIGNATURE = b"\0\0\0\x0cjP  "
_JP2_BOXES = frozenset((b"jP  ", b"ftyp", b"jp2h"))


class _Damaged(ValueError):
    pass


def examined(transfer_syntax_uid: str) -> bool:
    """Whether frames of a transfer syntax are looked at here; for those of others nothing is promised."""
    return transfer_syntax_uid in _JPEG or transfer_syntax_uid in _JPEG_LS or transfer_syntax_uid in _JPEG_2000


def blanked(frame: bytes, transfer_syntax_uid: str) -> bytes:
    """One whole frame, of the same length, without anything but what a decoder needs.

    Raises
    ------
    NotDeidentified
        It is not of the form that its transfer syntax promises, so nobody can tell what is pixels in it.
    """
    data = bytearray(frame)
    try:
        if transfer_syntax_uid in _JPEG:
            _blank_jpeg(data, _AFTER_JPEG)
        elif transfer_syntax_uid in _JPEG_LS:
            _blank_jpeg(data, _AFTER_JPEG_LS)
        elif transfer_syntax_uid in _JPEG_2000:
            _blank_jpeg_2000(data)
    except (_Damaged, struct.error, IndexError) as error:
        raise NotDeidentified("a compressed frame is not of the form of its transfer syntax") from error
    return bytes(data)


def blanked_fragments(fragments: Sequence[bytes], transfer_syntax_uid: str) -> list[bytes]:
    """Every fragment of an encapsulated Pixel Data element, those of one frame taken together."""
    starts = _starts(transfer_syntax_uid)
    frames: list[list[bytes]] = []
    for fragment in fragments:
        if frames and not fragment.startswith(starts):
            frames[-1].append(fragment)
        else:
            frames.append([fragment])
    found: list[bytes] = []
    for frame in frames:
        whole = blanked(b"".join(frame), transfer_syntax_uid)
        position = 0
        for fragment in frame:
            found.append(whole[position : position + len(fragment)])
            position += len(fragment)
    return found


def _starts(transfer_syntax_uid: str) -> tuple[bytes, ...]:
    return (b"\xff\x4f\xff", _JP2_SIGNATURE) if transfer_syntax_uid in _JPEG_2000 else (b"\xff\xd8\xff",)


def _zero(data: bytearray, start: int, end: int) -> None:
    data[start:end] = bytes(end - start)


def _segment(data: bytearray, position: int) -> int:
    """The end of a marker segment whose length field is at ``position``."""
    (length,) = struct.unpack_from(">H", data, position)
    if length < 2 or position + length > len(data):
        raise _Damaged
    return position + int(length)


def _blank_jpeg(data: bytearray, after: re.Pattern[bytes]) -> None:
    if data[:2] != b"\xff\xd8":
        raise _Damaged
    position = 2
    while position < len(data):
        if data[position] != 0xFF:
            raise _Damaged
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        position += 2
        if marker == _EOI:
            _zero(data, position, len(data))
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        end = _segment(data, position)
        if marker == _SOS:
            found = after.search(data, end)
            position = found.start() if found else len(data)
            continue
        if marker not in _JPEG_TABLES or marker == _SOI:
            _zero(data, position + 2 + _needed(marker, data[position + 2 : end]), end)
        position = end
    # Without EOI the last scan is cut short; decoders show what there is, and nothing follows it.


def _needed(marker: int, payload: bytearray) -> int:
    """How many bytes of an application segment a decoder needs to get the colours right."""
    if marker == 0xE0 and payload.startswith(b"JFIF\0"):
        return min(len(payload), 12)  # to the densities; the thumbnail's size and pixels go
    if marker == 0xEE and payload.startswith(b"Adobe"):
        return min(len(payload), 12)  # the colour transform
    if marker == 0xE8 and payload.startswith(b"mrfx"):
        return min(len(payload), 5)  # HP's colour transform in JPEG-LS
    return 0


def _blank_jpeg_2000(data: bytearray) -> None:
    if not data.startswith(_JP2_SIGNATURE):
        _blank_codestream(data, 0, len(data))
        return
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        end = len(data) if length == 0 else position + int(length)
        if end > len(data) or end < position + header:
            raise _Damaged
        if kind == b"jp2c":
            _blank_codestream(data, position + header, end)
        elif kind not in _JP2_BOXES:
            _zero(data, position + header, end)
        position = end
    _zero(data, position, len(data))


def _blank_codestream(data: bytearray, start: int, end: int) -> None:
    if data[start : start + 2] != bytes((0xFF, _SOC)):
        raise _Damaged
    position = start + 2
    tile_end = end
    while position + 2 <= end:
        if data[position] != 0xFF:
            raise _Damaged
        marker = data[position + 1]
        position += 2
        if marker == _EOC:
            _zero(data, position, end)
            return
        if marker == _SOD:
            position = tile_end
            continue
        segment_end = _segment(data, position)
        if segment_end > end:
            raise _Damaged
        if marker == _SOT:
            (length,) = struct.unpack_from(">I", data, position + 4)
            # 0: up to the end of the codestream, which EOC closes (ISO 15444-1 A.4.2).
            tile_end = position - 2 + int(length) if length else _last_marker(data, position, end)
            if not position < tile_end <= end:
                raise _Damaged
        elif marker not in _J2K_SEGMENTS:
            _zero(data, position + 2, segment_end)
        position = segment_end


def _last_marker(data: bytearray, start: int, end: int) -> int:
    found = data.rfind(b"\xff\xd9", start, end)
    return found if found >= 0 else end
