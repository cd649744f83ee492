import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.pixels import pixel_array

from gateway.imaging.decode import SUPPORTED_TRANSFER_SYNTAXES, check_header, decode, decoded_description
from gateway.imaging.description import PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import FrameDamaged, FrameMismatch, NotDecodable
from gateway.imaging.native import native_bytes

JPEG, JPEG_12, JPEG_LOSSLESS = (f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 70))
JPEG_LS, JPEG_2000, HTJ2K = (f"1.2.840.10008.1.2.4.{end}" for end in (80, 90, 201))
RLE = "1.2.840.10008.1.2.5"
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"
CT = "transfer-syntaxes/ct-one-image/1.2.840.10008.1.2"
COLOUR = "transfer-syntaxes/color-test-pattern/testpattern_"
HT = "transfer-syntaxes/htj2k/"

Describe = Callable[..., PixelDescription]


def decoded(instance: Any, number: int = 1) -> np.ndarray:
    frame = instance.frame(number)
    return decode(frame.data, frame.transfer_syntax_uid, frame.description, frame.bit_offset)


def rle(pixels: np.ndarray) -> bytes:
    """Encode as one literal run after the other, most significant byte planes first."""
    planes = [
        pixels[:, :, sample].astype(pixels.dtype.newbyteorder(">")).reshape(-1).view(np.uint8)
        for sample in range(pixels.shape[2])
    ]
    size = pixels.dtype.itemsize
    segments = [imagecodecs.packbits_encode(plane[byte::size].tobytes()) for plane in planes for byte in range(size)]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = np.cumsum([64, *map(len, segments)])[:-1].tolist()
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


GRADIENT = (np.arange(600).reshape(20, 30, 1) * 7 - 2000).astype("<i2")
COLOURS = np.random.default_rng(1).integers(0, 256, (16, 12, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "data"),
    [
        (JPEG_LOSSLESS, imagecodecs.jpeg8_encode(GRADIENT.view("<u2"), lossless=True, bitspersample=16)),
        (JPEG_LS, imagecodecs.jpegls_encode(GRADIENT[:, :, 0].view("<u2"))),
        (JPEG_2000, imagecodecs.jpeg2k_encode(GRADIENT[:, :, 0], codecformat="j2k", reversible=True, level=0)),
        (HTJ2K, imagecodecs.htj2k_encode(GRADIENT[:, :, 0], reversible=True)),
        (RLE, rle(GRADIENT)),
    ],
)
def test_lossless_codecs_return_signed_values_exactly(
    describe: Describe, transfer_syntax_uid: str, data: bytes
) -> None:
    found = decode(data, transfer_syntax_uid, describe(GRADIENT))
    assert found.dtype == np.dtype("<i2")
    assert np.array_equal(found, GRADIENT)


def test_sign_is_extended_from_the_precision_of_the_codestream(describe: Describe) -> None:
    twelve_bits = (GRADIENT // 8).astype("<i2")
    data = imagecodecs.jpeg8_encode(twelve_bits.view("<u2") & 0x0FFF, lossless=True, bitspersample=12)
    description = describe(twelve_bits, bits_stored=12)
    assert np.array_equal(decode(data, JPEG_LOSSLESS, description), twelve_bits)


def test_rle_planes_of_colour_and_32_bit_pixels_are_put_together(describe: Describe) -> None:
    deep = np.arange(12, dtype="<u4").reshape(3, 4, 1) * 0x01020304
    assert np.array_equal(decode(rle(deep), RLE, describe(deep)), deep)
    assert np.array_equal(decode(rle(COLOURS), RLE, describe(COLOURS, planar_configuration=1)), COLOURS)


def test_an_rle_segment_that_is_too_short_is_damaged(describe: Describe) -> None:
    with pytest.raises(FrameDamaged):
        decode(rle(COLOURS[:8]), RLE, describe(COLOURS))


def test_deflated_single_bit_frame_is_inflated(describe: Describe) -> None:
    bits = np.arange(64, dtype=np.uint8).reshape(8, 8, 1) % 2
    packed = np.packbits(bits, bitorder="little").tobytes()
    deflate = zlib.compressobj(wbits=-15)
    data = deflate.compress(packed) + deflate.flush()
    description = describe(bits, bits_allocated=1, bits_stored=1, high_bit=0)
    assert np.array_equal(decode(data, DEFLATED_FRAME, description), bits)
    with pytest.raises(FrameDamaged):
        decode(b"\xff" + data, DEFLATED_FRAME, description)


def test_jpeg_described_as_ybr_full_stays_ybr_full(describe: Describe) -> None:
    ybr = describe(COLOURS, photometric_interpretation=PhotometricInterpretation.YBR_FULL)
    data = imagecodecs.jpeg8_encode(COLOURS, level=100, colorspace="YCBCR", outcolorspace="YCBCR", subsampling="444")
    assert decoded_description(ybr, JPEG) == ybr
    assert np.abs(decode(data, JPEG, ybr).astype(int) - COLOURS).max() <= 3


def test_jpeg_described_as_subsampled_becomes_rgb(describe: Describe) -> None:
    smooth = np.full((16, 16, 3), (200, 60, 30), np.uint8)
    subsampled = describe(smooth, photometric_interpretation=PhotometricInterpretation.YBR_FULL_422)
    data = imagecodecs.jpeg8_encode(smooth, level=100, colorspace="RGB", outcolorspace="YCBCR", subsampling="422")
    found = decoded_description(subsampled, JPEG)
    assert found.photometric_interpretation is PhotometricInterpretation.RGB
    pixels = decode(data, JPEG, subsampled)
    assert np.abs(pixels.astype(int) - smooth).max() <= 3
    assert len(native_bytes(pixels, found)) == 16 * 16 * 3


def test_jpeg_2000_component_transforms_become_rgb(describe: Describe) -> None:
    rct = describe(COLOURS, photometric_interpretation=PhotometricInterpretation.YBR_RCT)
    data = imagecodecs.jpeg2k_encode(COLOURS, codecformat="j2k", reversible=True, mct=True, level=0)
    assert np.array_equal(decode(data, JPEG_2000, rct), COLOURS)
    assert decoded_description(rct, JPEG_2000).photometric_interpretation is PhotometricInterpretation.RGB


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "data"),
    [
        (JPEG, imagecodecs.jpeg8_encode(np.zeros((40, 30), np.uint8))),
        (JPEG, imagecodecs.jpeg8_encode(np.zeros((20, 30, 3), np.uint8))),
        (JPEG_LS, imagecodecs.jpegls_encode(np.zeros((20, 31), np.uint8))),
        (JPEG_2000, imagecodecs.jpeg2k_encode(np.zeros((21, 30), np.uint8), codecformat="j2k")),
        (JPEG_LS, imagecodecs.jpegls_encode(np.full((20, 30), 0xFFFF, np.uint16))),
        (RLE, rle(np.zeros((20, 30, 3), np.uint8))),
    ],
)
def test_a_header_that_disagrees_with_the_instance_is_a_mismatch(
    describe: Describe, transfer_syntax_uid: str, data: bytes
) -> None:
    description = describe(np.zeros((20, 30, 1), np.uint8))
    with pytest.raises(FrameMismatch):
        check_header(data, transfer_syntax_uid, description)
    with pytest.raises(FrameMismatch):
        decode(data, transfer_syntax_uid, description)


def test_a_jpeg_2000_bomb_is_refused_by_its_header(describe: Describe) -> None:
    small = imagecodecs.jpeg2k_encode(np.zeros((20, 30), np.uint8), codecformat="j2k")
    bomb = small[:8] + struct.pack(">II", 60000, 60000) + small[16:24] + struct.pack(">II", 60000, 60000) + small[32:]
    with pytest.raises(FrameMismatch, match="60000"):
        decode(bomb, JPEG_2000, describe(np.zeros((20, 30, 1), np.uint8)))


def test_a_deflate_bomb_yields_no_more_than_the_frame(describe: Describe) -> None:
    deflate = zlib.compressobj(wbits=-15)
    bomb = deflate.compress(bytes(50_000_000)) + deflate.flush()
    assert decode(bomb, DEFLATED_FRAME, describe(np.zeros((2, 2, 1), np.uint8))).shape == (2, 2, 1)


def test_a_corrupt_codestream_is_damaged(describe: Describe) -> None:
    good = imagecodecs.jpegls_encode(GRADIENT[:, :, 0].view("<u2"))
    with pytest.raises(FrameDamaged):
        decode(good[:40], JPEG_LS, describe(GRADIENT))
    with pytest.raises(FrameDamaged):
        decode(good[:60] + b"\xff\xd9", JPEG_LS, describe(GRADIENT))


def test_unsupported_transfer_syntaxes_are_named(describe: Describe) -> None:
    video = "1.2.840.10008.1.2.4.102"
    assert video not in SUPPORTED_TRANSFER_SYNTAXES
    with pytest.raises(NotDecodable, match=video):
        decode(b"", video, describe(GRADIENT))


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_bigendian.dcm",
        "ExplVR_BigEnd.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "MR_small_RLE.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_32bit.dcm",
        "rtdose_rle_1frame.dcm",
        "rtdose_expb_1frame.dcm",
        "liver_1frame.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "image_dfl.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "examples_jpeg2k.dcm",
        "MR_small_jp2klossless.dcm",
    ],
)
def test_stored_values_agree_with_pydicom(pydicom_instance: Callable[[str], Any], name: str) -> None:
    instance = pydicom_instance(name)
    expected = pixel_array(instance.dataset, index=0, raw=True)
    assert np.array_equal(decoded(instance).reshape(expected.shape), expected)


def test_a_jpeg_2000_with_the_wrong_sign_flag_follows_pixel_representation(
    pydicom_instance: Callable[[str], Any],
) -> None:
    instance = pydicom_instance("J2K_pixelrep_mismatch.dcm")
    assert instance.description.is_signed
    assert decoded(instance).min() == -2000


@pytest.mark.parametrize(
    ("ending", "tolerance"),
    [
        ("", 0),
        (".2", 0),
        (".1.99", 0),
        (".4.57", 0),
        (".4.70", 0),
        (".4.80", 0),
        (".4.81", 1),
        (".4.90", 0),
        (".4.91", 5),
        (".5", 0),
    ],
)
def test_one_ct_image_is_the_same_in_every_transfer_syntax(
    shared_instance: Callable[[str], Any], ending: str, tolerance: int
) -> None:
    reference = shared_instance(f"{CT}.1.dcm")
    found = decoded(shared_instance(f"{CT}{ending}.dcm"))
    assert found.dtype == np.dtype("<i2")
    assert np.abs(found.astype(int) - decoded(reference)).max() <= tolerance


def test_12_bit_jpeg_processes_agree_with_each_other(shared_instance: Callable[[str], Any]) -> None:
    extended, spectral, full = (decoded(shared_instance(f"{CT}.4.{end}.dcm")) for end in (51, 53, 55))
    assert np.array_equal(extended, spectral)
    assert np.array_equal(extended, full)
    assert (extended.min(), extended.max()) == (497, 2708)


@pytest.mark.parametrize(
    ("name", "reference", "tolerance"),
    [
        (f"{COLOUR}jpeg-lossless_rgb.dcm", f"{COLOUR}rgb.dcm", 0),
        (f"{COLOUR}jpeg-ls-lossless.dcm", f"{COLOUR}rgb.dcm", 0),
        (f"{COLOUR}jpeg-ls-nearlossless.dcm", f"{COLOUR}rgb.dcm", 10),
        (f"{HT}htj2k-rpcl-202-nm.dcm", f"{HT}uncompressed-nm.dcm", 0),
        (f"{HT}htj2k-203-rgb.dcm", f"{HT}htj2k-lossless-201-rgb.dcm", 4),
    ],
)
def test_compressed_pictures_agree_with_their_reference(
    shared_instance: Callable[[str], Any], name: str, reference: str, tolerance: int
) -> None:
    difference = decoded(shared_instance(name)).astype(int) - decoded(shared_instance(reference))
    assert np.abs(difference).max() <= tolerance


def test_deflated_frames_equal_the_packed_ones(shared_instance: Callable[[str], Any]) -> None:
    deflated = shared_instance("transfer-syntaxes/deflated-image-frame-8.1-seg.dcm")
    packed = shared_instance("objects/seg/liver-binary.dcm")
    for number in (1, 2, 3):
        assert np.array_equal(decoded(deflated, number), decoded(packed, number))


def test_edge_tiles_of_another_size_are_refused_and_the_others_decode(
    shared_instance: Callable[[str], Any],
) -> None:
    slide = shared_instance("multiframe/wsi-jpeg-140-frames.dcm")
    assert decoded(slide, 1).shape == (240, 240, 3)
    with pytest.raises(FrameMismatch):
        decoded(slide, 140)
