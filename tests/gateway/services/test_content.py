"""Bytes of known size, read from any place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.services.content import Content, cut, grouped, held, joined, taken
from gateway.services.frames import swapped
from storage.errors import ObjectDamaged


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


@given(
    st.lists(st.integers(0, 20) | st.integers(16_380, 16_390), max_size=20),
    st.integers(1, 20) | st.integers(1, 100_000),
)
def test_grouping_changes_no_byte_and_leaves_no_small_group_but_the_last(sizes: list[int], at_least: int) -> None:
    blocks = [bytes([number]) * size for number, size in enumerate(sizes)]
    found = list(grouped(iter(blocks), at_least))
    assert b"".join(block for group in found for block in group) == b"".join(blocks)
    assert all(sum(map(len, group)) >= at_least for group in found[:-1])


def test_within_a_group_small_blocks_are_put_together_and_large_ones_are_as_they_were() -> None:
    small, large = [b"a", b"b", b"c", b"d", b"e"], bytes(1 << 20)
    (group,) = grouped(iter([*small[:2], large, *small[2:]]), 1 << 21)
    assert group == [b"ab", large, b"cde"]
    assert group[1] is large


def test_what_is_taken_is_in_memory_and_read_once() -> None:
    reads = []

    def read(start: int, length: int) -> Iterator[bytes]:
        reads.append((start, length))
        yield from (b"01", b"23", b"45")

    found = taken(Content(6, read))
    assert found.blocks == [b"012345"]
    assert taken(found).blocks is found.blocks
    assert reads == [(0, 6)]
    assert held(b"01").blocks == (b"01",)


@pytest.mark.parametrize("size", [5, 7])
def test_what_is_not_as_long_as_it_says_is_not_taken(size: int) -> None:
    with pytest.raises(ObjectDamaged, match="6 bytes instead of"):
        taken(Content(size, lambda _start, _length: iter((b"012345",))))


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
