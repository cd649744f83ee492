"""The bounded tokenizer: a stream of bytes becomes a stream of element events, in one pass and without recursion.

Everything that is known about an arriving instance is derived from these events; nothing that a hostile stream
declares is believed before its bytes are there (lengths), or beyond the limits (depth, counts, inflate ratio).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from storage.dicom import vr as vrs
from storage.dicom.limits import Limits
from storage.errors import LimitExceeded, MalformedDataSet, Truncated

BLOCK_BYTES = 1 << 18
UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_EMPTY_ITEM_LE = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"


class Readable(Protocol):
    """Where bytes come from: a file, a spool, a socket's file object."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        ...


class Blocks:
    """Blocks that come by themselves, as a source to read from."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def read(self, _size: int, /) -> bytes:
        """The next block, whatever its size; none at the end."""
        return next(self._blocks, b"")


class Kind(IntEnum):
    """What an event says."""

    ELEMENT = 0
    LARGE = 1  # an element whose value is left in the stream: take it by ``Tokenizer.blocks``
    SEQUENCE = 2
    SEQUENCE_END = 3
    ITEM = 4
    ITEM_END = 5
    EMPTY_ITEMS = 6  # ``length`` empty items in a row
    FRAGMENTS = 7
    FRAGMENT = 8  # one fragment's value, left in the stream
    FRAGMENTS_END = 9


class Event(NamedTuple):
    """One event. ``offset`` is where the value begins, in bytes from the start of the (inflated) data set."""

    kind: Kind
    tag: int
    vr: str
    value: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set's elements are written (PS3.5 7.1, 7.3)."""

    implicit: bool = False
    big_endian: bool = False
    deflated: bool = False


class InflatingSource:
    """A deflated data set (PS3.5 A.5) as a stream of its inflated bytes, bounded in ratio."""

    def __init__(self, source: Readable, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._pending = b""
        self._read = 0
        self._given = 0

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` inflated bytes; raises LimitExceeded, MalformedDataSet or Truncated."""
        while not self._inflater.eof:
            block = self._pending or self._source.read(BLOCK_BYTES)
            if not block:
                raise Truncated("the deflated data set ends early")
            self._read += len(block) if not self._pending else 0
            try:
                inflated = self._inflater.decompress(block, size)
            except zlib.error as error:
                raise MalformedDataSet("the deflated data set is damaged") from error
            self._pending = self._inflater.unconsumed_tail
            self._given += len(inflated)
            allowed = max(self._limits.inflate_allowance_bytes, self._read * self._limits.max_inflate_ratio)
            if self._given > allowed:
                raise LimitExceeded("the deflated data set inflates beyond the allowed ratio")
            if inflated:
                return inflated
        return b""


class _Frame(NamedTuple):
    """One open sequence or item: ``end`` is its end offset, or -1 when a delimiter ends it."""

    sequence: bool
    tag: int
    end: int
    implicit: bool


class Tokenizer:
    """Reads one data set; iterate it for its events.

    After a LARGE or FRAGMENT event ``blocks`` gives the value; what is not taken is skipped.
    """

    def __init__(self, source: Readable, encoding: Encoding, limits: Limits) -> None:
        self._source: Readable = InflatingSource(source, limits) if encoding.deflated else source
        self._encoding = encoding
        self._limits = limits
        self._buffer = b""
        self._position = 0
        self._base = 0
        self._large_left = 0
        self._taken_singly = 0
        self.elements = 0

    @property
    def offset(self) -> int:
        """Bytes of the data set taken so far."""
        return self._base + self._position

    def blocks(self) -> Iterator[bytes]:
        """The value of the LARGE or FRAGMENT event just given; raises Truncated when it ends early."""
        while self._large_left:
            if self._position == len(self._buffer):
                self._refill(1)
            block = self._buffer[self._position : self._position + self._large_left]
            if not block:
                raise Truncated("the stream ends inside a value")
            self._position += len(block)
            self._large_left -= len(block)
            yield block

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes of the value left in the stream, without taking them."""
        self._refill(min(size, self._large_left))
        return self._buffer[self._position : self._position + min(size, self._large_left)]

    def _refill(self, needed: int) -> bool:
        """Have ``needed`` bytes at the position, if the stream has them."""
        if len(self._buffer) - self._position >= needed:
            return True
        parts = [self._buffer[self._position :]]
        have = len(parts[0])
        self._base += self._position
        self._position = 0
        while have < needed:
            block = self._source.read(max(BLOCK_BYTES, needed - have))
            if not block:
                break
            parts.append(block)
            have += len(block)
        self._buffer = b"".join(parts)
        return have >= needed

    def _skip_large(self) -> None:
        for _ in self.blocks():
            pass

    def _count(self, number: int = 1) -> None:
        self.elements += number
        limits = self._limits
        if self.elements > limits.max_elements:
            raise LimitExceeded(f"more than {limits.max_elements} elements and items")
        if number > 1:
            return  # a run of empty items is taken in one step
        self._taken_singly += 1
        singly = self._taken_singly
        if singly > limits.dense_elements and self.offset < singly * limits.min_bytes_per_element:
            raise LimitExceeded("too many elements and items for so few bytes")

    def __iter__(self) -> Iterator[Event]:
        limits = self._limits
        inline = limits.inline_bytes
        stack: list[_Frame] = []
        sequences = 0
        in_sequence = False
        current_end = -1
        implicit = self._encoding.implicit
        big_endian = self._encoding.big_endian
        short_header = struct.Struct(">HH2sH" if big_endian else "<HH2sH")
        long_header = struct.Struct(">HHI" if big_endian else "<HHI")
        long_length = struct.Struct(">I" if big_endian else "<I")
        names, long_names, dense = vrs.NAMES, vrs.LONG_LENGTH, limits.dense_elements
        new_event, plain = tuple.__new__, Kind.ELEMENT

        while True:
            if self._large_left:
                self._skip_large()
            # Close what ends here by its length.
            while current_end >= 0 and self._base + self._position >= current_end:
                if self._base + self._position > current_end:
                    raise MalformedDataSet("an element reaches beyond the sequence or item it is in")
                done = stack.pop()
                if done.sequence:
                    sequences -= 1
                    yield Event(Kind.SEQUENCE_END, done.tag, "SQ", b"", self.offset, 0)
                else:
                    yield Event(Kind.ITEM_END, done.tag, "", b"", self.offset, 0)
                in_sequence = bool(stack) and stack[-1].sequence
                current_end = stack[-1].end if stack else -1
                implicit = stack[-1].implicit if stack else self._encoding.implicit

            if len(self._buffer) - self._position < 8 and not self._refill(8):
                if self._position == len(self._buffer) and not stack:
                    return
                if not stack and not self._buffer[self._position :].strip(b"\0"):
                    return  # zero bytes after the last element: padding of a sender that writes in blocks
                raise Truncated("the stream ends inside an element header")

            buffer, position = self._buffer, self._position
            if in_sequence:
                if not big_endian and buffer.startswith(_EMPTY_ITEM_LE, position):
                    number = self._take_empty_items(current_end)
                    if number:
                        self._count(number)
                        yield Event(Kind.EMPTY_ITEMS, _ITEM, "", b"", self.offset, number)
                        continue
                group, element, length = long_header.unpack_from(buffer, position)
                tag = group << 16 | element
                self._position = position + 8
                if tag == _ITEM:
                    self._count()
                    end = -1 if length == UNDEFINED else self.offset + length
                    self._check_end(end, current_end)
                    stack.append(_Frame(False, tag, end, implicit))
                    in_sequence = False
                    current_end = end
                    yield Event(Kind.ITEM, tag, "", b"", self.offset, length)
                elif tag == _SEQUENCE_END and current_end < 0:
                    done = stack.pop()
                    sequences -= 1
                    in_sequence = False
                    current_end = stack[-1].end if stack else -1
                    implicit = stack[-1].implicit if stack else self._encoding.implicit
                    yield Event(Kind.SEQUENCE_END, done.tag, "SQ", b"", self.offset, 0)
                else:
                    raise MalformedDataSet("something other than an item stands in a sequence")
                continue

            if self._taken_singly < dense and self.elements < limits.max_elements:
                self.elements += 1
                self._taken_singly += 1
            else:
                self._count()
            group, element, vr_bytes, length = short_header.unpack_from(buffer, position)
            tag = group << 16 | element
            if group == 0xFFFE:
                self._position = position + 8
                if tag == _ITEM_END and stack and current_end < 0:
                    stack.pop()
                    in_sequence = True
                    current_end = stack[-1].end
                    implicit = stack[-1].implicit
                    yield Event(Kind.ITEM_END, tag, "", b"", self.offset, 0)
                    continue
                raise MalformedDataSet("an item or delimiter stands outside of any sequence")
            if group in (0x0000, 0x0002):
                if tag == 0 and not stack and not self._rest_is_more_than_zeros():
                    return
                raise MalformedDataSet("an element of a command or of file meta information in the data set")

            header_implicit = implicit
            if not implicit:
                vr = names.get(vr_bytes)
                if vr is None:
                    if vr_bytes.isalpha() and vr_bytes.isupper():
                        # PS3.5 6.2: a VR defined later has the long form.
                        vr, is_long = "UN", True
                    else:
                        header_implicit = True
                else:
                    is_long = vr_bytes in long_names
            if header_implicit:
                vr = vrs.of_tag(tag)
                (length,) = long_length.unpack_from(buffer, position + 4)
                self._position = position + 8
            elif is_long:
                if len(buffer) - position < 12:
                    if not self._refill(12):
                        raise Truncated("the stream ends inside an element header")
                    buffer, position = self._buffer, self._position
                (length,) = long_length.unpack_from(buffer, position + 8)
                self._position = position + 12
            else:
                self._position = position + 8
            assert vr is not None

            if length == UNDEFINED:
                if tag == _PIXEL_DATA and not stack:
                    yield Event(Kind.FRAGMENTS, tag, vr, b"", self.offset, 0)
                    yield from self._fragments(tag, long_header)
                    continue
                if vr not in ("SQ", "UN"):
                    if vr not in ("OB", "OW"):
                        raise MalformedDataSet("an undefined length on an element that is not a sequence")
                    # Icon images and the like carry their own encapsulated Pixel Data (PS3.5 A.4).
                    yield Event(Kind.FRAGMENTS, tag, vr, b"", self.offset, 0)
                    yield from self._fragments(tag, long_header)
                    continue
                # PS3.5 6.2.2 Note: UN of undefined length is a sequence in Implicit VR Little Endian.
                into_implicit = implicit or vr == "UN"
            elif vr == "SQ":
                into_implicit = implicit or header_implicit
            else:
                end = self.offset + length
                if 0 <= current_end < end:
                    raise MalformedDataSet("an element reaches beyond the item it is in")
                if length > inline:
                    if length > limits.max_value_bytes:
                        raise LimitExceeded(f"a value of {length} bytes")
                    self._large_left = length
                    yield Event(Kind.LARGE, tag, vr, b"", self.offset, length)
                    continue
                position = self._position
                if len(self._buffer) - position < length:
                    if not self._refill(length):
                        raise Truncated("the stream ends inside a value")
                    position = self._position
                self._position = position + length
                value = self._buffer[position : position + length]
                # Past the named tuple's own constructor: this line runs for every element of the archive.
                yield new_event(Event, (plain, tag, vr, value, self._base + position, length))
                continue

            end = -1 if length == UNDEFINED else self.offset + length
            self._check_end(end, current_end)
            sequences += 1
            if sequences > limits.max_depth:
                raise LimitExceeded(f"sequences nested more than {limits.max_depth} deep")
            stack.append(_Frame(True, tag, end, into_implicit))
            in_sequence, current_end, implicit = True, end, into_implicit
            yield Event(Kind.SEQUENCE, tag, "SQ", b"", self.offset, length)

    @staticmethod
    def _check_end(end: int, outer_end: int) -> None:
        if 0 <= outer_end < end:
            raise MalformedDataSet("a sequence or item reaches beyond the one it is in")

    def _take_empty_items(self, end: int) -> int:
        """Step over a run of empty items in the buffer; how many there were."""
        last = len(self._buffer) if end < 0 else min(len(self._buffer), end - self._base)
        position = self._position
        width = 8
        # Doubling strides: a million empty items cost a handful of comparisons, not a million turns.
        while position + width <= last:
            if self._buffer[position : position + width] == _EMPTY_ITEM_LE * (width // 8):
                position += width
                width = min(width * 2, 65_536)
            elif width == 8:
                break
            else:
                width = max(8, width // 4 // 8 * 8)
        taken = (position - self._position) // 8
        self._position = position
        return taken

    def _rest_is_more_than_zeros(self) -> bool:
        while True:
            if self._buffer[self._position :].strip(b"\0"):
                return True
            self._position = len(self._buffer)
            if not self._refill(1):
                return False

    def _fragments(self, tag: int, header: struct.Struct) -> Iterator[Event]:
        """The items of an encapsulated Pixel Data (PS3.5 A.4), the Basic Offset Table first."""
        number = 0
        while True:
            if self._large_left:
                self._skip_large()
            if not self._refill(8):
                raise Truncated("the stream ends inside encapsulated Pixel Data")
            group, element, length = header.unpack_from(self._buffer, self._position)
            item = group << 16 | element
            self._position += 8
            if item == _SEQUENCE_END:
                yield Event(Kind.FRAGMENTS_END, tag, "", b"", self.offset, 0)
                return
            if item != _ITEM or length == UNDEFINED:
                raise MalformedDataSet("something other than a fragment stands in encapsulated Pixel Data")
            number += 1
            if number > self._limits.max_fragments:
                raise LimitExceeded(f"more than {self._limits.max_fragments} fragments")
            self._large_left = length
            yield Event(Kind.FRAGMENT, tag, "", b"", self.offset, length)
