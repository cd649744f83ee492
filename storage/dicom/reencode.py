"""Any data set as Explicit VR Little Endian, in one streaming pass.

Implicit VR and Big Endian are never served over DICOMweb (PS3.18 8.7.3); an instance stored so goes out through
here, equal in content. Decompression goes the same way, its caller giving the native Pixel Data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from storage.dicom import explicit
from storage.dicom import vr as vrs
from storage.dicom.elements import Encoding, Event, Kind, Readable, Tokenizer
from storage.dicom.json_model import swap, swapped
from storage.dicom.limits import Limits

_PIXEL_REPRESENTATION = 0x00280103
_OFFSET_TABLES = frozenset((0x7FE00001, 0x7FE00002))
_FLUSH_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class NativePixels:
    """Pixel Data to stand in place of the encapsulated one: its VR, its length in bytes (even) and its bytes."""

    vr: str
    length: int
    blocks: Iterator[bytes]


def explicit_little_endian(
    source: Readable,
    encoding: Encoding,
    limits: Limits,
    *,
    replace: Mapping[int, bytes] | None = None,
    pixels: NativePixels | None = None,
) -> Iterator[bytes]:
    """Write a data set anew; every value is the same, sequences get undefined lengths, group lengths go.

    Parameters
    ----------
    source, encoding
        The stored data set.
    replace
        Values, little endian and of even length, for top-level elements that are there.
    pixels
        Native Pixel Data for an encapsulated one; without it fragments are copied.
    """
    tokenizer = Tokenizer(source, encoding, limits)
    writer = _Writer(encoding, replace or {})
    for event in tokenizer:
        if event.kind is Kind.FRAGMENTS and pixels is not None and writer.depth == 0:
            yield writer.take()
            yield explicit.header(event.tag, pixels.vr, pixels.length)
            yield from pixels.blocks
            writer.skipping = True
        elif event.kind in (Kind.LARGE, Kind.FRAGMENT):
            yield from writer.large(event, tokenizer)
        else:
            writer.event(event)
            if writer.size > _FLUSH_BYTES:
                yield writer.take()
    yield writer.take()


class _Writer:
    """Turns events into bytes."""

    def __init__(self, encoding: Encoding, replace: Mapping[int, bytes]) -> None:
        self._encoding = encoding
        self._replace = replace
        self._parts: list[bytes] = []
        self._signed = [False]
        self.size = 0
        self.depth = 0
        self.skipping = False

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return taken

    def _add(self, part: bytes) -> None:
        self._parts.append(part)
        self.size += len(part)

    def event(self, event: Event) -> None:
        kind = event.kind
        if kind is Kind.ELEMENT:
            self._element(event)
        elif kind is Kind.SEQUENCE:
            self.depth += 1
            self._add(explicit.sequence(event.tag))
        elif kind is Kind.SEQUENCE_END:
            self.depth -= 1
            self._add(explicit.SEQUENCE_END)
        elif kind is Kind.ITEM:
            self._signed.append(self._signed[-1])
            self._add(explicit.ITEM)
        elif kind is Kind.ITEM_END:
            self._signed.pop()
            self._add(explicit.ITEM_END)
        elif kind is Kind.EMPTY_ITEMS:
            self._add(explicit.EMPTY_ITEM * event.length)
        elif kind is Kind.FRAGMENTS:
            self._add(explicit.header(event.tag, event.vr, explicit.UNDEFINED))
        elif kind is Kind.FRAGMENTS_END:
            if self.skipping:
                self.skipping = False
            else:
                self._add(explicit.SEQUENCE_END)

    def _element(self, event: Event) -> None:
        tag, value = event.tag, event.value
        if tag & 0xFFFF == 0 or (self.skipping and tag in _OFFSET_TABLES):
            return
        vr = self._vr(event)
        if self.depth == 0 and tag in self._replace:
            value = self._replace[tag]
        elif self._encoding.big_endian and vr in vrs.WORD_BYTES:
            value = swap(value, vrs.WORD_BYTES[vr])
        if tag == _PIXEL_REPRESENTATION:
            self._signed[-1] = value == b"\x01\x00"
        self._add(explicit.header(tag, vr, len(value)) + value)

    def _vr(self, event: Event) -> str:
        if self._encoding.implicit and event.tag in vrs.SIGNED_BY_PIXEL_REPRESENTATION and self._signed[-1]:
            return "SS"
        return event.vr

    def large(self, event: Event, tokenizer: Tokenizer) -> Iterator[bytes]:
        if self.skipping:
            return  # the tokenizer skips what is not taken
        if event.kind is Kind.FRAGMENT:
            self._add(explicit.fragment(event.length))
        else:
            self._add(explicit.header(event.tag, event.vr, event.length))
        yield self.take()
        word_bytes = vrs.WORD_BYTES.get(event.vr, 1) if self._encoding.big_endian else 1
        yield from swapped(tokenizer.blocks(), word_bytes)
