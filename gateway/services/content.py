"""Content: bytes whose number is known before any of them is read, and which can be read from any place."""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

from gateway.services.ahead import ReadAhead, Span, begun
from storage.errors import ObjectDamaged

_GZIP = 31
_BLOCK_BYTES = 1 << 20
_SMALL_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Content:
    """``read(start, length)`` gives the bytes from ``start``, counted from 0, in blocks; nothing is held meanwhile.

    ``ahead`` may begin a read before its turn, in another thread. ``blocks`` are all of it, where it is in memory.
    """

    size: int
    read: Callable[[int, int], Iterator[bytes]]
    ahead: ReadAhead | None = None
    blocks: Sequence[bytes] | None = None


def held(data: bytes) -> Content:
    """Bytes that are in memory already."""

    def read(start: int, length: int) -> Iterator[bytes]:
        yield data[start : start + length]

    return Content(len(data), read, blocks=(data,))


def taken(content: Content) -> Content:
    """A content with all of its bytes in memory. Raises ObjectDamaged when they are not as many as it says."""
    if content.blocks is not None:
        return content
    blocks = next(grouped(content.read(0, content.size), content.size + 1), ())
    size = sum(map(len, blocks))
    if size != content.size:
        raise ObjectDamaged(f"{size} bytes instead of {content.size}")
    return replace(content, blocks=blocks)


def unpacked(packed: bytes) -> Iterator[bytes]:
    """What was packed with gzip, in blocks."""
    unpacking = zlib.decompressobj(_GZIP)
    while packed:
        yield unpacking.decompress(packed, _BLOCK_BYTES)
        packed = unpacking.unconsumed_tail


def joined(sizes: Sequence[int], piece: Callable[[int], Content]) -> Content:
    """One content after the other; each is made, from its number counted from 0, when its bytes are read."""
    ends = array("Q", accumulate(sizes))
    size = ends[-1] if ends else 0

    def spans(start: int, length: int) -> Iterator[Span]:
        end = start + length
        number = bisect_right(ends, start)
        while start < end:
            begin = ends[number - 1] if number else 0
            until = min(end, ends[number])
            if until > start:
                content = piece(number)
                yield Span(until - start, partial(content.read, start - begin, until - start), content.ahead)
            start, number = until, number + 1

    def read(start: int, length: int) -> Iterator[bytes]:
        with closing(begun(spans(start, length))) as pieces:
            for blocks in pieces:
                yield from blocks

    return Content(size, read)


def cut(blocks: Iterator[bytes], skip: int, length: int) -> Iterator[bytes]:
    """``length`` bytes of a stream after its first ``skip``."""
    for block in blocks:
        wanted = block[skip : skip + length]
        skip -= min(skip, len(block))
        length -= len(wanted)
        if wanted:
            yield wanted
        if not length:
            return


def grouped(blocks: Iterator[bytes], at_least: int) -> Iterator[Sequence[bytes]]:
    """Blocks in groups of so many bytes: each that is taken by itself costs its reader more than a small one is worth.

    Small ones that follow each other are put together; of the others nothing is copied.
    """
    group: list[bytes] = []
    small: list[bytes] = []
    size = 0
    for block in blocks:
        size += len(block)
        if len(block) < _SMALL_BYTES:
            small.append(block)
        else:
            group += [b"".join(small), block] if small else [block]
            small = []
        if size >= at_least:
            yield [*group, b"".join(small)] if small else group
            group, small, size = [], [], 0
    if small:
        group.append(b"".join(small))
    if group:
        yield group
