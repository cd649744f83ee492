"""The form of an object that another one is put together from: pieces of it deflated, coded, or elsewhere.

An object is a head and bodies::

    magic 8 | length of the manifest 4 | manifest, deflated | body of the first piece that has one | ...

The manifest says of which pieces the whole consists, in their order, how long it is and what its SHA-256 is. So the
object tells by itself what it stands for, and any range of the whole needs the pieces that it touches and no others.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

import orjson

from storage.errors import ObjectDamaged
from storage.objects.base import Piece, Segment, body_length

MAGIC = b"\x8eGWCND1\n"
HEAD = struct.Struct(">8sI")
MAX_MANIFEST_BYTES = 16 << 20
"""Inflated, about a hundred thousand pieces."""
_DEFLATED_TOGETHER = 256 << 10
"""A range inflates so much more than it needs at most."""


class Kind(StrEnum):
    """How the bytes of a piece are had."""

    DEFLATED = "d"  # from the body, by zlib
    CODED = "c"  # from the body, by the decoder, whose result has a CRC-32
    GIVEN = "g"  # they are in the manifest
    SHARED = "s"  # a range of the source, as it is kept


@dataclass(frozen=True, slots=True)
class Part:
    """A piece: ``length`` bytes of the whole, out of ``stored`` at ``start`` of the object, or of its source."""

    kind: Kind
    length: int
    start: int = 0
    stored: int = 0
    crc: int = 0
    given: bytes = b""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a manifest said.

    ``form`` is for the decoder; ``source`` the key of the object that ranges are shared with, as it is kept;
    ``sharers`` those of objects that share ranges of this one, and are of no use without it.
    """

    parts: tuple[Part, ...]
    ends: tuple[int, ...]
    sha256: str
    form: str
    source: str
    sharers: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return self.ends[-1] if self.ends else 0

    def within(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Which parts have the bytes from ``start`` to ``end``, by number, and which of their own; without the ends."""
        number = bisect_right(self.ends, start)
        while start < end:
            begin = self.ends[number] - self.parts[number].length
            until = min(end, self.ends[number])
            if until > start:
                yield number, start - begin, until - begin
            start, number = until, number + 1


@dataclass(frozen=True, slots=True)
class Coded:
    """A piece to be written: what the decoder makes ``length`` bytes with this CRC-32 of."""

    body: Segment
    length: int
    crc: int


@dataclass(frozen=True, slots=True)
class Shared:
    """A piece to be written: a range of the source, as it is kept."""

    start: int
    length: int


def written(
    pieces: Sequence[bytes | Coded | Shared],
    *,
    sha256: str,
    form: str = "",
    source: str = "",
    sharers: Sequence[str] = (),
) -> list[Segment]:
    """The body of an object for these pieces; bytes are deflated, or given in the manifest when they are few."""
    told: list[list[str | int]] = []
    bodies: list[Segment] = []
    for piece in pieces:
        if isinstance(piece, Coded):
            told.append([Kind.CODED, piece.length, body_length([piece.body]), piece.crc])
            bodies.append(piece.body)
        elif isinstance(piece, Shared):
            told.append([Kind.SHARED, piece.length, piece.start])
        elif len(piece) <= HEAD.size:
            told.append([Kind.GIVEN, len(piece), piece.hex()])
        else:
            for start in range(0, len(piece), _DEFLATED_TOGETHER):
                part = piece[start : start + _DEFLATED_TOGETHER]
                deflated = zlib.compress(part, 9)
                told.append([Kind.DEFLATED, len(part), len(deflated)])
                bodies.append(deflated)
    manifest = orjson.dumps(
        {"sha256": sha256, "form": form, "source": source, "sharers": list(sharers), "pieces": told}
    )
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise ValueError(f"too many pieces: {len(told)}")
    packed = zlib.compress(manifest, 9)
    return [HEAD.pack(MAGIC, len(packed)), packed, *bodies]


def manifest_end(key: str, begun: Piece) -> int:
    """Where the manifest ends, by the object's first bytes. Raises ObjectDamaged for what is no such object."""
    if len(begun.data) < HEAD.size or not begun.data.startswith(MAGIC):
        raise ObjectDamaged(f"{key} does not say what it is made of")
    end = HEAD.size + int(HEAD.unpack_from(begun.data)[1])
    if end > min(begun.object_size, HEAD.size + MAX_MANIFEST_BYTES):
        raise ObjectDamaged(f"{key} ends within what says what it is made of")
    return end


def layout(key: str, packed: bytes) -> Layout:
    """What a manifest says. Raises ObjectDamaged."""
    try:
        inflating = zlib.decompressobj()
        found = orjson.loads(inflating.decompress(packed, MAX_MANIFEST_BYTES))
        parts, place = [], HEAD.size + len(packed)
        for kind, length, *rest in found["pieces"]:
            part = _part(Kind(kind), length, rest, place)
            if part.kind in (Kind.DEFLATED, Kind.CODED):
                place += part.stored
            parts.append(part)
        return Layout(
            tuple(parts),
            tuple(accumulate(part.length for part in parts)),
            str(found["sha256"]),
            str(found["form"]),
            str(found["source"]),
            tuple(str(each) for each in found["sharers"]),
        )
    except (ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
        raise ObjectDamaged(f"{key} does not say what it is made of") from error


def _part(kind: Kind, length: int, rest: Sequence[str | int], place: int) -> Part:
    if kind is Kind.GIVEN:
        return Part(kind, length, given=bytes.fromhex(str(rest[0])))
    if kind is Kind.SHARED:
        return Part(kind, length, int(rest[0]), length)
    return Part(kind, length, place, int(rest[0]), int(rest[1]) if kind is Kind.CODED else 0)
