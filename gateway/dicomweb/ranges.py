"""Byte ranges of a representation (RFC 9110 14 "Range Requests", 13.1.5 "If-Range")."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes to send: from ``start``, counted from 0, to ``end``, exclusive."""

    start: int
    end: int


class Unsatisfiable(Exception):
    """The range begins where the representation has ended."""


def wanted(range_header: str | None, if_range: str | None, etag: str, size: int) -> Span | None:
    """The one range that a request asks for; None when the whole representation is the answer.

    A header that is no range, another unit than bytes, several ranges (a server may answer them whole: RFC 9110
    14.2), and an If-Range that is not the representation's strong entity tag ask for everything.

    Raises
    ------
    Unsatisfiable
        A range in form that names no byte.
    """
    if range_header is None or (if_range is not None and if_range.strip() != etag):
        return None
    match = _RANGE.fullmatch(range_header.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        if int(last) == 0:
            raise Unsatisfiable
        return Span(max(0, size - int(last)), size) if size else None
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return Span(start, min(size, int(last) + 1) if last else size)
