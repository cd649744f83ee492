"""Compressed frames: what is not pixels is zeros afterwards, and every pixel is as before."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from gateway.deid import codestreams
from gateway.errors import NotDeidentified

MARK = b"HIDDENIDENTITY"
GREY = np.random.default_rng(7).integers(0, 256, (40, 48), np.uint8)
COLOUR = np.random.default_rng(8).integers(0, 256, (40, 48, 3), np.uint8)


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def marked(frame: bytes) -> bytes:
    """A JPEG or JPEG-LS frame with marks in every application segment, in comments and after its end."""
    applications = b"".join(segment(0xE0 + number, MARK) for number in range(16))
    jfif = segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\4\4" + MARK)
    return frame[:2] + jfif + applications + segment(0xFE, MARK) + frame[2:] + MARK


def jpeg(**how: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(COLOUR).save(buffer, "JPEG", **how)
    return buffer.getvalue()


FRAMES = {
    "baseline": (JPEGBaseline8Bit, marked(jpeg(quality=90))),
    "progressive with restarts": (JPEGBaseline8Bit, marked(jpeg(progressive=True, restart_marker_blocks=2))),
    "RGB by Adobe's segment": (JPEGBaseline8Bit, marked(jpeg(keep_rgb=True))),
    "lossless": (JPEGLosslessSV1, marked(imagecodecs.ljpeg_encode(GREY))),
    "JPEG-LS": (JPEGLSLossless, marked(imagecodecs.jpegls_encode(GREY))),
    "JPEG-LS near": (JPEGLSNearLossless, marked(imagecodecs.jpegls_encode(COLOUR, level=2))),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_jpeg_frame_keeps_its_pixels_and_nothing_else(name: str) -> None:
    syntax, frame = FRAMES[name]
    found = codestreams.blanked(frame, syntax)
    assert len(found) == len(frame)
    assert b"HIDDEN" not in found
    np.testing.assert_array_equal(imagecodecs.imread(found), imagecodecs.imread(frame))


def codestream() -> bytes:
    """A JPEG 2000 codestream of several tiles with comments in its main header and in a tile-part header."""
    buffer = BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG2000", no_jp2=True, tile_size=(16, 16))
    plain = buffer.getvalue()
    comment = struct.pack(">HHH", 0xFF64, len(MARK) + 4, 1) + MARK
    start = plain.index(b"\xff\x90")
    length = struct.unpack_from(">I", plain, start + 6)[0]
    tile = bytearray(plain[start : start + length])
    struct.pack_into(">I", tile, 6, length + len(comment))
    tile[12:12] = comment
    return plain[:start] + comment + bytes(tile) + plain[start + length :]


def boxed(data: bytes) -> bytes:
    """The codestream in a JP2 file with a box of XML, as some writers put it into fragments."""
    plain = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="jp2")
    at = plain.index(b"jp2c") - 4
    xml = struct.pack(">I4s", 8 + len(MARK), b"xml ") + MARK
    return plain[:at] + xml + struct.pack(">I4s", 8 + len(data), b"jp2c") + data


@pytest.mark.parametrize("frame", [codestream() + MARK, boxed(codestream())], ids=["codestream", "JP2"])
def test_a_jpeg_2000_frame_keeps_its_pixels_and_nothing_else(frame: bytes) -> None:
    assert MARK in frame
    found = codestreams.blanked(frame, JPEG2000Lossless)
    assert len(found) == len(frame)
    assert b"HIDDEN" not in found
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(found), GREY)


def test_an_htj2k_frame_keeps_its_pixels() -> None:
    frame = imagecodecs.htj2k_encode(GREY)
    found = codestreams.blanked(frame, HTJ2KLossless)
    np.testing.assert_array_equal(imagecodecs.htj2k_decode(found), GREY)


@given(st.lists(st.integers(1, 400), max_size=4))
def test_a_frame_in_several_fragments_is_taken_as_one(lengths: list[int]) -> None:
    syntax, frame = FRAMES["baseline"]
    fragments, rest = [], frame
    for length in lengths:
        fragments.append(rest[: length + 3])
        rest = rest[length + 3 :]
    fragments = [*fragments, rest]
    found = codestreams.blanked_fragments([*fragments, frame], syntax)
    assert [len(each) for each in found] == [len(each) for each in [*fragments, frame]]
    whole = codestreams.blanked(frame, syntax)
    assert b"".join(found[:-1]) == whole
    assert found[-1] == whole


@given(st.sampled_from(sorted(FRAMES)), st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_damage_is_refused_or_leaves_a_frame_of_the_same_length(name: str, at: int, damage: bytes) -> None:
    syntax, frame = FRAMES[name]
    broken = frame[:at] + damage + frame[at + len(damage) :]
    with contextlib.suppress(NotDeidentified):
        assert len(codestreams.blanked(broken, syntax)) == len(broken)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("frame", [b"", b"\xff", MARK, b"\xff\xd8\xff\xe1\xff\xff", b"\xff\x4f\xff\x51\xff\xff"])
def test_what_is_no_frame_is_refused(syntax: str, frame: bytes) -> None:
    with pytest.raises(NotDeidentified):
        codestreams.blanked(frame, syntax)
