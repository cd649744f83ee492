"""The canonical digests: whether two arrivals are the same data, however they were written.

Senders rewrite bytes without changing anything: group lengths appear or go, sequences change between defined and
undefined length, values are padded with a space or a NUL, Implicit VR becomes Explicit VR, offset tables are made.
The digest sees none of that. Two digests are kept: ``canonical`` covers everything, ``header`` leaves out Pixel
Data and the attributes that describe its encoding, so that a lossless transcoding of an instance is recognised.
"""

from __future__ import annotations

import hashlib
import struct

from storage.dicom import vr as vrs
from storage.dicom.elements import Event, Kind
from storage.dicom.json_model import swap

_HEADER = struct.Struct(">IQ")
_TAG = struct.Struct(">I")
_FLUSH_TOKENS = 256
_BLOCK_ITEMS = 1 << 16

_OFFSET_TABLES = frozenset((0x7FE00001, 0x7FE00002))
# Photometric Interpretation and Planar Configuration change with the codec, not with the picture.
_PIXEL_ENCODING = frozenset((0x00280004, 0x00280006))
_PIXEL_DATA = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_DATA_SET_TRAILING_PADDING = 0xFFFCFFFC
_NOT_CONTENT = _OFFSET_TABLES | {_DATA_SET_TRAILING_PADDING}
_PIXELS = _PIXEL_ENCODING | _PIXEL_DATA


class Digests:
    """Takes a data set's events in order; ``update`` takes the blocks of a value left in the stream."""

    def __init__(self, *, big_endian: bool) -> None:
        self._big_endian = big_endian
        self._canonical = hashlib.sha256()
        self._header = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._depth = 0
        self._word_bytes = 1
        self._odd = b""
        self._into_header = True
        self._ignored = False
        self._pad = False

    def event(self, event: Event) -> None:
        """One event; after LARGE and FRAGMENT give the value's blocks to ``update``."""
        kind, tag, vr, _, _, length = event
        if self._pad:
            self._pad = False
            self._digest(b"\0")
        if kind is Kind.SEQUENCE:
            self._depth += 1
            self._add(_TAG.pack(tag) + b"[")
        elif kind is Kind.SEQUENCE_END:
            self._depth -= 1
            self._add(b"]")
        elif kind is Kind.ITEM:
            self._add(b"{")
        elif kind is Kind.ITEM_END:
            self._add(b"}")
        elif kind is Kind.EMPTY_ITEMS:
            for start in range(0, length, _BLOCK_ITEMS):
                self._add(b"{}" * min(_BLOCK_ITEMS, length - start))
        elif kind is Kind.LARGE:
            self._flush()
            self._ignored = tag in _OFFSET_TABLES or tag == _DATA_SET_TRAILING_PADDING
            self._into_header = not (self._depth == 0 and tag in _PIXEL_DATA)
            self._word_bytes = vrs.WORD_BYTES.get(vr, 1) if self._big_endian else 1
            self._odd = b""
            self._pad = length % 2 == 1
            self._digest(_HEADER.pack(tag, length + length % 2))
        elif kind is Kind.FRAGMENT:
            self._pad = length % 2 == 1
        elif kind is Kind.FRAGMENTS:
            self._flush()
            self._ignored = False
            self._into_header = self._depth > 0 or tag not in _PIXEL_DATA
            self._word_bytes = 1
            self._digest(_TAG.pack(tag) + b"<")
        elif kind is Kind.FRAGMENTS_END:
            self._digest(b">")

    def element(self, event: Event) -> None:
        """An ELEMENT event."""
        _, tag, vr, value, _, _ = event
        if self._pad:
            self._pad = False
            self._digest(b"\0")
        if not tag & 0xFFFF or tag in _NOT_CONTENT:
            return
        if vr in vrs.TEXT:
            value = value.rstrip(b" \0")
            if len(value) % 2:
                value += b" " if vr != "UI" else b"\0"
        elif self._big_endian and vr in vrs.WORD_BYTES:
            value = swap(value, vrs.WORD_BYTES[vr])
        if len(value) % 2:
            # Shortest padding rather than none: Implicit VR does not know which private values are text.
            value += b"\0"
        token = _HEADER.pack(tag, len(value)) + value
        if not self._depth and tag in _PIXELS:
            self._flush()
            self._canonical.update(token)
            return
        waiting = self._waiting
        waiting.append(token)
        if len(waiting) >= _FLUSH_TOKENS:
            self._flush()

    def update(self, block: bytes) -> None:
        """A block of the value of the LARGE or FRAGMENT event given last."""
        if self._word_bytes > 1:
            block = self._odd + block
            whole = len(block) // self._word_bytes * self._word_bytes
            self._odd = block[whole:]
            block = swap(block[:whole], self._word_bytes)
        self._digest(block)

    def _digest(self, block: bytes) -> None:
        if self._ignored:
            return
        self._canonical.update(block)
        if self._into_header:
            self._header.update(block)

    def _add(self, token: bytes) -> None:
        self._waiting.append(token)
        if len(self._waiting) >= _FLUSH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            joined = b"".join(self._waiting)
            self._canonical.update(joined)
            self._header.update(joined)
            self._waiting.clear()

    def _finish(self) -> None:
        self._flush()
        if self._pad:
            self._pad = False
            self._digest(b"\0")

    def canonical(self) -> str:
        """Digest of the whole data set, hexadecimal; to be asked for after the last event."""
        self._finish()
        return self._canonical.hexdigest()

    def header(self) -> str:
        """Digest without Pixel Data and what describes its encoding, hexadecimal."""
        self._finish()
        return self._header.hexdigest()
