"""Multipart/related, streamed both ways (RFC 2387, RFC 2046 5.1, PS3.18 8.6 "Multipart")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.errors import InvalidRequest, PayloadTooLarge

MAX_BOUNDARY_CHARACTERS = 70
MAX_PART_HEADER_BYTES = 16_384
MAX_PARTS = 100_000
MAX_EMPTY_PARTS = 1_000
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part begins; header names in lower case."""

    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the part: of a block as it came, not copied."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is whole."""


Event = PartBegin | PartData | PartEnd


def boundary_of(content_type_boundary: str | None) -> bytes:
    """Check the boundary parameter of a Content-Type; raises InvalidRequest."""
    if not content_type_boundary:
        raise InvalidRequest("Content-Type: multipart/related needs a boundary")
    boundary = content_type_boundary.encode("utf-8", "replace")
    if len(boundary) > MAX_BOUNDARY_CHARACTERS or not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest("Content-Type: the boundary is not of RFC 2046's form")
    return boundary


class MultipartReader:
    """Splits a body given in blocks of any size; memory is bounded by a block and a part's headers.

    Tolerated, since clients do it: a preamble, bare line feeds around boundaries, a missing final boundary's dashes
    are not. Parts too short to mean anything are counted and limited: they cost a sender nothing.

    Parameters
    ----------
    least_bytes
        Of a part that means something.
    """

    def __init__(self, boundary: bytes, least_bytes: int = 1) -> None:
        self._least_bytes = least_bytes
        self._delimiter = b"\r\n--" + boundary
        # As if a line end stood before the body, so that the first boundary is like the others.
        self._buffer = b"\r\n"
        self._place = 0
        self._state = self._preamble
        self._parts = 0
        self._empty = 0
        self._part_bytes = 0
        self.complete = False

    def feed(self, block: bytes) -> Iterator[Event]:
        """Take the next bytes; raises InvalidRequest or PayloadTooLarge."""
        if self.complete:
            return  # an epilogue means nothing, however long it is
        # Within a part there is seldom anything left of the block before, and then nothing is copied.
        self._buffer = self._buffer + block if self._buffer else block
        self._place = 0
        while not self.complete:
            before = self._place, self._state
            yield from self._state()
            if (self._place, self._state) == before:
                break
        self._buffer = b"" if self.complete else self._buffer[self._place :]

    def close(self) -> None:
        """Say that the body has ended; raises InvalidRequest when the multipart has not."""
        if not self.complete:
            raise InvalidRequest("the multipart body ends before its final boundary")

    @property
    def _left(self) -> int:
        """Bytes that are here and were not told apart yet."""
        return len(self._buffer) - self._place

    def _preamble(self) -> Iterator[Event]:
        place = self._buffer.find(self._delimiter, self._place)
        if place < 0:
            if self._left > MAX_PART_HEADER_BYTES:
                raise InvalidRequest("the multipart body does not begin with its boundary")
            return
        self._place = place + len(self._delimiter)
        self._state = self._after_boundary
        yield from ()

    def _after_boundary(self) -> Iterator[Event]:
        if self._buffer.startswith(b"--", self._place):
            self.complete = True
            return
        end = self._buffer.find(b"\n", self._place)
        if end < 0:
            if self._left > MAX_PART_HEADER_BYTES:
                raise InvalidRequest("a multipart boundary's line does not end")
            return
        if self._buffer[self._place : end].strip(b" \t\r"):
            raise InvalidRequest("a multipart boundary is followed by something else")
        # The line end stays: a part without headers begins with an empty line of its own.
        self._place = end + 1
        self._state = self._headers
        yield from ()

    def _headers(self) -> Iterator[Event]:
        end, length = _headers_end(self._buffer, self._place)
        if end < 0:
            if self._left > MAX_PART_HEADER_BYTES:
                raise InvalidRequest("a multipart part's headers are too long")
            return
        if end - self._place > MAX_PART_HEADER_BYTES:
            raise InvalidRequest("a multipart part's headers are too long")
        headers = _parse_headers(self._buffer[self._place : end])
        self._place = end + length
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise PayloadTooLarge(f"more than {MAX_PARTS} parts in one request")
        self._part_bytes = 0
        self._state = self._first_content
        yield PartBegin(headers)

    def _first_content(self) -> Iterator[Event]:
        """An empty part may lack the line end before its boundary: its headers' last one has to serve."""
        boundary = self._delimiter[2:]
        if self._left < len(boundary):
            return
        if self._buffer.startswith(boundary, self._place):
            self._place += len(boundary)
            yield self._end_of_part()
            return
        self._state = self._content

    def _end_of_part(self) -> PartEnd:
        if self._part_bytes < self._least_bytes:
            self._empty += 1
            if self._empty > MAX_EMPTY_PARTS:
                raise InvalidRequest(f"more than {MAX_EMPTY_PARTS} empty parts, or parts of a few bytes")
        self._state = self._after_boundary
        return PartEnd()

    def _content(self) -> Iterator[Event]:
        start, delimiter = self._place, self._buffer.find(self._delimiter, self._place)
        end = self._undecided() if delimiter < 0 else delimiter
        if end > start:
            self._place = end
            self._part_bytes += end - start
            yield PartData(memoryview(self._buffer)[start:end])
        if delimiter >= 0:
            self._place = delimiter + len(self._delimiter)
            yield self._end_of_part()

    def _undecided(self) -> int:
        """Where a delimiter begins that the next block may go on with; else the end of what is here."""
        place = self._buffer.find(b"\r", max(self._place, len(self._buffer) - len(self._delimiter) + 1))
        while place >= 0 and not self._delimiter.startswith(self._buffer[place:]):
            place = self._buffer.find(b"\r", place + 1)
        return len(self._buffer) if place < 0 else place


def _headers_end(buffer: bytes, start: int) -> tuple[int, int]:
    """Where a part's headers end that begin at ``start``, and the length of what ends them."""
    for ending in (b"\r\n", b"\n"):
        if buffer.startswith(ending, start):
            return start, len(ending)
    place = buffer.find(b"\r\n\r\n", start)
    # What follows the one is not looked through for the other.
    bare = buffer.find(b"\n\n", start, place if place >= 0 else len(buffer))
    return (bare, 2) if bare >= 0 else (place, 4)


def _parse_headers(raw: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in raw.replace(b"\r\n", b"\n").split(b"\n"):
        name, colon, value = line.partition(b":")
        if line and not colon:
            raise InvalidRequest("a multipart part's header line has no colon")
        headers[name.strip().lower().decode("ascii", "replace")] = value.strip().decode("latin-1")
    return headers


def part_header(boundary: str, content_type: str, location: str | None = None) -> bytes:
    """What stands before a part's bytes."""
    lines = [f"--{boundary}", f"Content-Type: {content_type}"]
    if location is not None:
        lines.append(f"Content-Location: {location}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


PART_END = b"\r\n"


def closing(boundary: str) -> bytes:
    """What stands after the last part."""
    return f"--{boundary}--\r\n".encode("latin-1")
