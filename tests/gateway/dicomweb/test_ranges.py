"""Byte ranges, by RFC 9110's own rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dicomweb import ranges
from gateway.dicomweb.ranges import Span, Unsatisfiable

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "size", "span"),
    [
        ("bytes=0-0", 10, Span(0, 1)),
        ("bytes=2-5", 10, Span(2, 6)),
        ("bytes=2-", 10, Span(2, 10)),
        ("bytes=2-99999999999", 10, Span(2, 10)),
        ("bytes=-3", 10, Span(7, 10)),
        ("bytes=-30", 10, Span(0, 10)),
        ("BYTES = 2-5", 10, Span(2, 6)),
        ("bytes=-3", 0, None),
        (None, 10, None),
        ("", 10, None),
        ("bytes=", 10, None),
        ("bytes=-", 10, None),
        ("bytes=5-2", 10, None),
        ("bytes=1-2,4-5", 10, None),
        ("frames=1-2", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=+1-2", 10, None),
        ("bytes=" + "9" * 30 + "-", 10, None),
    ],
)
def test_one_range_in_form_is_given_and_everything_else_is_answered_whole(
    header: str | None, size: int, span: Span | None
) -> None:
    assert ranges.wanted(header, None, ETAG, size) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_a_range_without_a_byte_is_unsatisfiable(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        ranges.wanted(header, None, ETAG, size)


@pytest.mark.parametrize(
    ("if_range", "given"),
    [(ETAG, True), ('"other"', False), ("W/" + ETAG, False), ("Sun, 22 Nov 2026 10:00:00 GMT", False), ("", False)],
)
def test_if_range_needs_the_strong_entity_tag(if_range: str, given: bool) -> None:
    assert (ranges.wanted("bytes=0-1", if_range, ETAG, 10) is not None) == given


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40))
def test_what_is_given_is_what_slicing_gives(first: int, last: int, size: int) -> None:
    body = bytes(range(size))
    if first >= size or last < first:
        return
    span = ranges.wanted(f"bytes={first}-{last}", None, ETAG, size)
    assert span is not None
    assert body[span.start : span.end] == body[first : last + 1]
