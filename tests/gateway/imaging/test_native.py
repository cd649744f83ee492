from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gateway.imaging.description import FloatKind, PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import FrameDamaged, NotDecodable
from gateway.imaging.native import native_bytes, unpack

Describe = Callable[..., PixelDescription]


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i2", "<u4", "<i4"])
def test_integers_of_every_width_keep_their_value(describe: Describe, dtype: str) -> None:
    limits = np.iinfo(np.dtype(dtype))
    pixels = np.array([limits.min, -1 if limits.min else 1, limits.max, 5], dtype).reshape(2, 2, 1)
    description = describe(pixels)
    decoded = unpack(pixels.tobytes(), description)
    assert decoded.dtype == np.dtype(dtype)
    assert np.array_equal(decoded, pixels)
    assert native_bytes(decoded, description) == pixels.tobytes()


@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "i4"])
def test_big_endian_integers_become_little_endian(describe: Describe, dtype: str) -> None:
    pixels = np.array([1, 2, 300, -4 if dtype[0] == "i" else 4], f"<{dtype}").reshape(2, 2, 1)
    description = describe(pixels)
    decoded = unpack(pixels.astype(f">{dtype}").tobytes(), description, big_endian=True)
    assert np.array_equal(decoded, pixels)
    assert native_bytes(decoded, description) == pixels.tobytes()


def test_big_endian_words_of_8_bit_pixels_are_put_in_order(describe: Describe) -> None:
    pixels = np.array([1, 2, 3, 4], np.uint8).reshape(2, 2, 1)
    in_words = describe(pixels, is_word_encoded=True)
    assert unpack(b"\x02\x01\x04\x03", in_words, big_endian=True).tolist() == pixels.tolist()
    assert unpack(b"\x01\x02\x03\x04", describe(pixels), big_endian=True).tolist() == pixels.tolist()
    with pytest.raises(NotDecodable):
        unpack(b"\x02\x01\x04\x03\x05", in_words, big_endian=True)


@pytest.mark.parametrize("bit_offset", range(8))
def test_single_bit_frames_may_begin_inside_a_byte(describe: Describe, bit_offset: int) -> None:
    bits = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1], np.uint8)
    description = describe(bits.reshape(3, 5, 1), bits_allocated=1, bits_stored=1, high_bit=0)
    before = np.ones(bit_offset, np.uint8)
    data = np.packbits(np.concatenate([before, bits]), bitorder="little").tobytes()
    decoded = unpack(data, description, bit_offset=bit_offset)
    assert np.array_equal(decoded.reshape(-1), bits)
    assert native_bytes(decoded, description) == np.packbits(bits, bitorder="little").tobytes()


@pytest.mark.parametrize(("kind", "dtype"), [(FloatKind.FLOAT, "<f4"), (FloatKind.DOUBLE, "<f8")])
def test_floating_point_pixels_keep_their_bits(describe: Describe, kind: FloatKind, dtype: str) -> None:
    pixels = np.array([0.1, -1e30, np.inf, np.nan], dtype).reshape(2, 2, 1)
    description = describe(pixels, float_kind=kind)
    assert native_bytes(unpack(pixels.tobytes(), description), description) == pixels.tobytes()


@pytest.mark.parametrize("planar_configuration", [0, 1])
def test_planes_and_interleaved_pixels_decode_alike(describe: Describe, planar_configuration: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    description = describe(pixels, planar_configuration=planar_configuration)
    stored = pixels.transpose(2, 0, 1).tobytes() if planar_configuration else pixels.tobytes()
    decoded = unpack(stored, description)
    assert np.array_equal(decoded, pixels)
    assert native_bytes(decoded, description) == stored


def ybr_422(describe: Describe, **changes: Any) -> PixelDescription:
    shape = np.empty((1, 4, 3), np.uint8)
    return describe(shape, photometric_interpretation=PhotometricInterpretation.YBR_FULL_422, **changes)


def test_subsampled_chroma_is_repeated_for_both_pixels_of_a_pair(describe: Describe) -> None:
    stored = bytes([10, 11, 100, 200, 12, 13, 101, 201])
    description = ybr_422(describe)
    decoded = unpack(stored, description)
    assert decoded.tolist() == [[[10, 100, 200], [11, 100, 200], [12, 101, 201], [13, 101, 201]]]
    assert native_bytes(decoded, description) == stored


def test_a_short_frame_is_damaged(describe: Describe) -> None:
    description = describe(np.zeros((4, 4, 1), np.uint16))
    with pytest.raises(FrameDamaged, match="31 bytes"):
        unpack(bytes(31), description)


def test_padding_after_the_frame_is_ignored(describe: Describe) -> None:
    pixels = np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    assert np.array_equal(unpack(pixels.tobytes() + b"\0", describe(pixels)), pixels)
