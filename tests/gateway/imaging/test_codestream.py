import struct

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.imaging.codestream import JpegColour, read_jpeg2000_header, read_jpeg_header, rle_segments
from gateway.imaging.errors import FrameDamaged, FrameMismatch, ImagingError, NotDecodable

BASELINE = frozenset({0xC0})
GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


def siz(**changes: int) -> bytes:
    values = {"x1": 8, "y1": 6, "x0": 0, "y0": 0, "tw": 8, "th": 6, "tx": 0, "ty": 0, "n": 1} | changes
    parts = b"\x0f\x01\x01" * values["n"]
    return b"\xff\x4f\xff\x51" + struct.pack(">HH8IH", 38 + len(parts), 0, *values.values()) + parts


def test_jpeg_header_gives_size_components_and_precision() -> None:
    header = read_jpeg_header(imagecodecs.jpeg8_encode(GREY), BASELINE)
    assert (header.rows, header.columns, header.components, header.precision) == (6, 8, 1, 8)


def test_jpeg_ls_header_gives_size_components_and_precision() -> None:
    header = read_jpeg_header(imagecodecs.jpegls_encode(GREY), frozenset({0xF7}))
    assert (header.rows, header.columns, header.components, header.precision) == (6, 8, 1, 8)


def test_jfif_and_adobe_markers_tell_the_colour_space() -> None:
    frame = b"\xff\xc0\x00\x11\x08\x00\x06\x00\x08\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xd9"
    jfif = b"\xff\xe0\x00\x10JFIF\0" + bytes(9)
    adobe = b"\xff\xee\x00\x0eAdobe" + bytes(7)
    assert read_jpeg_header(b"\xff\xd8" + frame, BASELINE).colour is JpegColour.UNSTATED
    assert read_jpeg_header(b"\xff\xd8" + jfif + frame, BASELINE).colour is JpegColour.YCBCR
    assert read_jpeg_header(b"\xff\xd8" + adobe + frame, BASELINE).colour is JpegColour.RGB
    assert read_jpeg_header(b"\xff\xd8" + adobe + jfif + frame, BASELINE).colour is JpegColour.RGB


def test_another_jpeg_process_than_the_transfer_syntax_is_refused() -> None:
    with pytest.raises(NotDecodable, match="0xC0"):
        read_jpeg_header(imagecodecs.jpeg8_encode(GREY), frozenset({0xC3}))


def test_a_jpeg_whose_end_is_missing_is_damaged() -> None:
    with pytest.raises(FrameDamaged, match="end of image"):
        read_jpeg_header(imagecodecs.jpeg8_encode(GREY)[:-2], BASELINE)


def test_a_jpeg_without_lines_is_refused() -> None:
    with pytest.raises(NotDecodable):
        read_jpeg_header(b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x00\x00\x08\x01\x01\x11\x00\xff\xd9", BASELINE)


def test_endless_marker_segments_end_the_search() -> None:
    with pytest.raises(FrameDamaged):
        read_jpeg_header(b"\xff\xd8" + b"\xff\xfe\x00\x02" * 100_000 + b"\xff\xd9", BASELINE)


def test_jpeg_2000_header_gives_size_components_precision_and_sign() -> None:
    header = read_jpeg2000_header(imagecodecs.jpeg2k_encode(GREY.astype(np.int16), codecformat="j2k"))
    assert (header.rows, header.columns, header.components, header.precision) == (6, 8, 1, 16)
    assert header.signed


def test_jpeg_2000_header_is_found_inside_jp2_boxes() -> None:
    header = read_jpeg2000_header(imagecodecs.jpeg2k_encode(GREY, codecformat="jp2"))
    assert (header.rows, header.columns, header.precision) == (6, 8, 8)


@pytest.mark.parametrize(
    "changes", [{"x1": 0}, {"y0": 6}, {"tw": 0}, {"tx": 1}, {"n": 0}, {"x1": 1 << 31, "y1": 1 << 31, "tw": 1}]
)
def test_impossible_jpeg_2000_sizes_are_damaged(changes: dict[str, int]) -> None:
    with pytest.raises(FrameDamaged):
        read_jpeg2000_header(siz(**changes))


def test_rle_frame_is_split_into_its_segments() -> None:
    frame = struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"abcd"
    assert rle_segments(frame, 2) == (b"ab", b"cd")


def test_rle_with_another_number_of_segments_is_a_mismatch() -> None:
    with pytest.raises(FrameMismatch):
        rle_segments(struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"abcd", 3)


@pytest.mark.parametrize("offsets", [(0, 66), (66, 64), (64, 64), (64, 68), (64, 4_000_000_000)])
def test_rle_segments_outside_the_frame_are_damaged(offsets: tuple[int, int]) -> None:
    with pytest.raises(FrameDamaged):
        rle_segments(struct.pack("<16I", 2, *offsets, *[0] * 13) + b"abcd", 2)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (
        lambda: read_jpeg_header(b"\xff\xd8" + data + b"\xff\xd9", BASELINE),
        lambda: read_jpeg2000_header(b"\xff\x4f\xff\x51" + data),
        lambda: read_jpeg2000_header(b"\0\0\0\x0cjP  " + data),
        lambda: rle_segments(data, 1),
    ):
        try:
            read()
        except ImagingError:
            continue
