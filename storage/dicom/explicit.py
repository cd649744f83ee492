"""Explicit VR Little Endian as it is written: element headers and the delimiters of items and sequences (PS3.5 7)."""

from __future__ import annotations

import struct

from storage.dicom import vr as vrs

_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHI")
_BARE = struct.Struct("<HHI")
UNDEFINED = 0xFFFFFFFF
ITEM = _BARE.pack(0xFFFE, 0xE000, UNDEFINED)
EMPTY_ITEM = _BARE.pack(0xFFFE, 0xE000, 0)
ITEM_END = _BARE.pack(0xFFFE, 0xE00D, 0)
SEQUENCE_END = _BARE.pack(0xFFFE, 0xE0DD, 0)


def header(tag: int, vr: str, length: int) -> bytes:
    """An element's header; a value too long for its VR's 16 bits becomes UN (PS3.5 6.2.2)."""
    code = vr.encode("ascii")
    if code in vrs.SHORT_LENGTH:
        if length <= 0xFFFF:
            return _SHORT.pack(tag >> 16, tag & 0xFFFF, code, length)
        code = b"UN"
    return _LONG.pack(tag >> 16, tag & 0xFFFF, code, 0, length)


def sequence(tag: int) -> bytes:
    """The header of a sequence of undefined length."""
    return header(tag, "SQ", UNDEFINED)


def bare(tag: int, length: int) -> bytes:
    """An element's header in Implicit VR Little Endian (PS3.5 7.1.3)."""
    return _BARE.pack(tag >> 16, tag & 0xFFFF, length)


def without_vr(tag: int, _vr: str, length: int) -> bytes:
    """As ``header``, in Implicit VR Little Endian."""
    return bare(tag, length)


def fragment(length: int) -> bytes:
    """The header of one item of encapsulated pixel data (PS3.5 A.4)."""
    return _BARE.pack(0xFFFE, 0xE000, length)
