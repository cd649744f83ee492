"""Any data set as Little Endian, with explicit or implicit VRs, in one streaming pass.

Implicit VR and Big Endian are never served over DICOMweb (PS3.18 8.7.3); an instance stored so goes out through
here, equal in content. So does one for a peer that takes nothing but the default transfer syntax, Implicit VR Little
Endian (PS3.5 10.1). Transcoding goes the same way, its caller giving the new Pixel Data and what else it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from storage.dicom import explicit
from storage.dicom import vr as vrs
from storage.dicom.elements import Encoding, Event, Kind, Readable, Tokenizer
from storage.dicom.json_model import swap, swapped
from storage.dicom.limits import Limits

_PIXEL_REPRESENTATION = 0x00280103
_OFFSET_TABLES = frozenset((0x7FE00001, 0x7FE00002))
_PIXEL_DATA = 0x7FE00010
_PIXEL_KINDS = (Kind.ELEMENT, Kind.LARGE, Kind.FRAGMENTS)
_AFTER_ALL = 0x1_0000_0000
_FLUSH_BYTES = 1 << 16
_Header: TypeAlias = Callable[[int, str, int], bytes]


@dataclass(frozen=True, slots=True)
class NativePixels:
    """Pixel Data of defined length: its VR, its length in bytes (even) and its bytes."""

    vr: str
    length: int
    blocks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class EncapsulatedPixels:
    """Pixel Data in one fragment a frame, after an empty Basic Offset Table (PS3.5 A.4)."""

    frames: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Edits:
    """What is other in the copy, at the top level.

    ``values`` are VR and value, little endian and of even length, of elements that are replaced or put in.
    ``items`` are items to stand first in a sequence, which is put in where there is none, encoded as all else will be.
    ``without`` are elements and sequences that are left out.
    """

    values: Mapping[int, tuple[str, bytes]] = field(default_factory=dict)
    items: Mapping[int, bytes] = field(default_factory=dict)
    without: frozenset[int] = frozenset()


def little_endian(
    source: Readable,
    encoding: Encoding,
    limits: Limits,
    *,
    implicit: bool = False,
    edits: Edits | None = None,
    pixels: NativePixels | EncapsulatedPixels | None = None,
) -> Iterator[bytes]:
    """Write a data set anew; what is not edited has the same value, sequences get undefined lengths, group lengths go.

    Parameters
    ----------
    source, encoding
        The stored data set.
    implicit
        Without VRs; of what is encapsulated there is no such form.
    edits
        What is to be other.
    pixels
        To stand in place of the top level's Pixel Data, native or encapsulated; without it that is copied.
    """
    tokenizer = Tokenizer(source, encoding, limits)
    header = explicit.without_vr if implicit else explicit.header
    writer = _Writer(encoding, edits or Edits(), header, offset_tables=pixels is None)
    for event in tokenizer:
        if writer.drops(event):
            continue
        if pixels is not None and writer.depth == 0 and event.tag == _PIXEL_DATA and event.kind in _PIXEL_KINDS:
            writer.insert_before(_PIXEL_DATA)
            yield writer.take()
            yield from _pixel_element(pixels, header)
            writer.skipping = event.kind is Kind.FRAGMENTS
        elif event.kind in (Kind.LARGE, Kind.FRAGMENT):
            yield from writer.large(event, tokenizer)
        else:
            writer.event(event)
            if writer.size > _FLUSH_BYTES:
                yield writer.take()
    writer.insert_before(_AFTER_ALL)
    yield writer.take()


def _pixel_element(pixels: NativePixels | EncapsulatedPixels, header: _Header) -> Iterator[bytes]:
    if isinstance(pixels, NativePixels):
        yield header(_PIXEL_DATA, pixels.vr, pixels.length)
        yield from pixels.blocks
        return
    yield explicit.header(_PIXEL_DATA, "OB", explicit.UNDEFINED) + explicit.fragment(0)
    for frame in pixels.frames:
        yield explicit.fragment(len(frame) + len(frame) % 2)
        yield frame
        if len(frame) % 2:
            yield b"\0"
    yield explicit.SEQUENCE_END


class _Writer:
    """Turns events into bytes."""

    def __init__(self, encoding: Encoding, edits: Edits, header: _Header, *, offset_tables: bool) -> None:
        self._encoding = encoding
        self._header = header
        self._edits = edits
        self._without = edits.without if offset_tables else edits.without | _OFFSET_TABLES
        # Those still to come; ascending tags, as the elements of a data set have.
        self._pending = sorted({*edits.values, *edits.items} - edits.without)
        self._parts: list[bytes] = []
        self._signed = [False]
        self._dropping = 0
        self.size = 0
        self.depth = 0
        self.skipping = False

    def drops(self, event: Event) -> bool:
        """Whether an event is of something left out; a LARGE value that is not taken is skipped by the tokenizer."""
        if self._dropping:
            self._dropping += (event.kind is Kind.SEQUENCE) - (event.kind is Kind.SEQUENCE_END)
            return True
        if self.depth == 0 and event.tag in self._without:
            self._dropping = int(event.kind is Kind.SEQUENCE)
            return event.kind in (Kind.SEQUENCE, Kind.ELEMENT, Kind.LARGE)
        return False

    def insert_before(self, tag: int) -> None:
        """Write what is to be put in before an element of the top level; one that is there already is replaced."""
        while self._pending and self._pending[0] <= tag:
            wanted = self._pending[0]
            if wanted == tag:
                return
            self._pending.pop(0)
            self._put_in(wanted)

    def _put_in(self, tag: int) -> None:
        if tag in self._edits.values:
            vr, value = self._edits.values[tag]
            self._add(self._header(tag, vr, len(value)) + value)
        else:
            self._add(self._header(tag, "SQ", explicit.UNDEFINED) + self._edits.items[tag] + explicit.SEQUENCE_END)

    def _replaces(self, tag: int) -> bool:
        """Whether an element of the top level stands in place of the one that comes; it is written then."""
        if self.depth:
            return False
        self.insert_before(tag)
        if not self._pending or self._pending[0] != tag:
            return False
        self._pending.pop(0)
        if tag in self._edits.items:
            return False
        self._put_in(tag)
        return True

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
            top = self.depth == 0
            self._replaces(event.tag)
            self.depth += 1
            self._add(self._header(event.tag, "SQ", explicit.UNDEFINED))
            if top and event.tag in self._edits.items:
                self._add(self._edits.items[event.tag])
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
            self._replaces(event.tag)
            self._add(self._header(event.tag, event.vr, explicit.UNDEFINED))
        elif kind is Kind.FRAGMENTS_END:
            if self.skipping:
                self.skipping = False
            else:
                self._add(explicit.SEQUENCE_END)

    def _element(self, event: Event) -> None:
        tag, value = event.tag, event.value
        if tag & 0xFFFF == 0 or self._replaces(tag):
            return
        vr = self._vr(event)
        if self._encoding.big_endian and vr in vrs.WORD_BYTES:
            value = swap(value, vrs.WORD_BYTES[vr])
        if tag == _PIXEL_REPRESENTATION:
            self._signed[-1] = value == b"\x01\x00"
        self._add(self._header(tag, vr, len(value)) + value)

    def _vr(self, event: Event) -> str:
        if self._encoding.implicit and event.tag in vrs.SIGNED_BY_PIXEL_REPRESENTATION and self._signed[-1]:
            return "SS"
        return event.vr

    def large(self, event: Event, tokenizer: Tokenizer) -> Iterator[bytes]:
        if self.skipping or (event.kind is Kind.LARGE and self._replaces(event.tag)):
            return  # the tokenizer skips what is not taken
        if event.kind is Kind.FRAGMENT:
            self._add(explicit.fragment(event.length))
        else:
            self._add(self._header(event.tag, event.vr, event.length))
        yield self.take()
        word_bytes = vrs.WORD_BYTES.get(event.vr, 1) if self._encoding.big_endian else 1
        yield from swapped(tokenizer.blocks(), word_bytes)
