"""Bytes of known size, read from any place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.services.content import Content, batched, cut, held, joined
from gateway.services.frames import swapped


@given(st.lists(st.binary(max_size=9), max_size=12), st.integers(0, 120), st.integers(0, 120))
def test_any_range_of_joined_contents_is_that_range_of_their_bytes(
    pieces: list[bytes], start: int, length: int
) -> None:
    whole = b"".join(pieces)
    content = joined([len(each) for each in pieces], lambda number: held(pieces[number]))
    assert content.size == len(whole)
    start = min(start, len(whole))
    length = min(length, len(whole) - start)
    assert b"".join(content.read(start, length)) == whole[start : start + length]


def test_only_the_pieces_that_a_range_touches_are_made() -> None:
    made: list[int] = []

    def piece(number: int) -> Content:
        made.append(number)
        return held(b"0123456789")

    content = joined([10] * 100_000, piece)
    assert b"".join(content.read(555_555, 10)) == b"5678901234"
    assert made == [55_555, 55_556]


@given(st.lists(st.binary(max_size=9), max_size=9), st.integers(0, 30), st.integers(0, 60))
def test_cutting_a_stream_is_slicing_it(blocks: list[bytes], skip: int, length: int) -> None:
    assert b"".join(cut(iter(blocks), skip, length)) == b"".join(blocks)[skip : skip + length]


@given(st.lists(st.binary(max_size=9), max_size=20), st.integers(1, 20))
def test_batching_changes_no_byte_and_leaves_no_small_block_but_the_last(blocks: list[bytes], at_least: int) -> None:
    found = list(batched(iter(blocks), at_least))
    assert b"".join(found) == b"".join(blocks)
    assert all(len(block) >= at_least for block in found[:-1])


@pytest.mark.parametrize("word_bytes", [1, 2, 4, 8])
def test_a_range_of_a_swapped_value_is_that_range_of_the_whole_one(word_bytes: int) -> None:
    raw = bytes(range(29))  # the last word is not whole

    def read(start: int, length: int) -> Iterator[bytes]:
        for place in range(start, start + length, 3):
            yield raw[place : min(place + 3, start + length)]

    content = swapped(Content(len(raw), read), word_bytes)
    whole = b"".join(content.read(0, len(raw)))
    words = [raw[place : place + word_bytes] for place in range(0, 29 // word_bytes * word_bytes, word_bytes)]
    assert whole == b"".join(word[::-1] for word in words) + raw[29 // word_bytes * word_bytes :]
    for start in range(29):
        for length in range(29 - start):
            assert b"".join(content.read(start, length)) == whole[start : start + length]
