import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels.processing import _expand_segmented_lut

from gateway.imaging.errors import InvalidDescription
from gateway.imaging.palette import LookupTable, Palette, read_palette, read_table


def no_bulk(uri: str, start: int, length: int) -> bytes:
    raise AssertionError(uri)


def segmented(count: int, bits: int, data: bytes) -> dict[str, Any]:
    return {
        "00281101": {"vr": "US", "Value": [count, 0, bits]},
        "00281221": {"vr": "OW", "InlineBinary": base64.b64encode(data).decode()},
    }


def expand(count: int, bits: int, data: bytes) -> list[int]:
    table = read_table(segmented(count, bits, data), "00281101", "00281201", False, no_bulk, segmented_tag="00281221")
    return [int(entry) for entry in table.array()]


def words(*numbers: int) -> bytes:
    return np.array(numbers, "<u2").tobytes()


def test_discrete_and_linear_segments_become_entries() -> None:
    data = words(0, 2, 100, 200, 1, 4, 1000, 0, 1, 65535)
    assert expand(7, 16, data) == [100, 200, 400, 600, 800, 1000, 65535]


def test_an_indirect_segment_repeats_earlier_ones_by_their_byte_offset() -> None:
    data = words(0, 2, 10, 300, 1, 2, 500, 2, 2, 0, 0)
    assert expand(8, 16, data) == [10, 300, 400, 500, 10, 300, 400, 500]
    # Only the linear segment, 8 bytes from the beginning: it starts at the entry before the copy.
    assert expand(6, 16, words(0, 2, 10, 300, 1, 2, 500, 2, 1, 8, 0)) == [10, 300, 400, 500, 500, 500]


@pytest.mark.parametrize("widened", [False, True])
def test_8_bit_segments_may_be_bytes_or_words(widened: bool) -> None:
    numbers = [0, 1, 5, 1, 5, 255]
    data = words(*numbers) if widened else bytes(numbers)
    assert expand(6, 8, data) == [5, 55, 105, 155, 205, 255]


segment = st.one_of(
    st.lists(st.integers(0, 65535), min_size=1, max_size=5).map(lambda found: [0, len(found), *found]),
    st.tuples(st.integers(1, 40), st.integers(0, 65535)).map(lambda found: [1, found[0], found[1]]),
)


@given(st.integers(0, 65535), st.lists(segment, max_size=6))
def test_expansion_agrees_with_pydicom(first: int, segments: list[list[int]]) -> None:
    numbers = [0, 1, first, *(number for each in segments for number in each)]
    expected = _expand_segmented_lut(tuple(numbers), "<H")
    assert np.abs(np.subtract(expand(len(expected), 16, words(*numbers)), expected)).max() <= 1 or max(expected) <= 255


@pytest.mark.parametrize(
    "data",
    [
        words(1, 4, 100),
        words(0, 9, 1, 2),
        words(7, 1, 1),
        words(0, 0),
        words(0, 1, 5, 2, 1, 0xFFFF, 0xFFFF),
        words(0, 1, 5, 2, 60000, 0, 0),
        words(0, 1, 5),
        b"",
    ],
)
def test_broken_segments_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidDescription):
        expand(256, 16, data)


def test_a_hostile_table_never_grows_beyond_its_descriptor() -> None:
    data = words(0, 1, 5, *([1, 65535, 0] * 2000))
    assert len(expand(300, 16, data)) == 300


def test_palettes_are_read_plain_or_segmented() -> None:
    found = {f"0028110{index}": {"vr": "US", "Value": [4, 0, 16]} for index in (1, 2, 3)}
    data = {"vr": "OW", "InlineBinary": base64.b64encode(words(0, 1, 0, 1, 3, 65535)).decode()}
    palette = read_palette(found | {f"0028122{index}": data for index in (1, 2, 3)}, False, no_bulk)
    assert palette.colours(np.array([0.0, 3.0, 9.0])).tolist() == [[0, 0, 0], [255, 255, 255], [255, 255, 255]]


def test_a_ramp_goes_through_the_whole_table() -> None:
    table = LookupTable(7, 8, np.arange(3, dtype="<u2").tobytes())
    assert Palette(table, table, table).ramp()[[0, 128, 255], 0].tolist() == [0, 1, 2]
