"""Every encoder, decoded again by another library than the one that encoded."""

from __future__ import annotations

import io
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from gateway.imaging import encode as encoding
from gateway.imaging.decode import decode, decoded_description
from gateway.imaging.description import FloatKind, PhotometricInterpretation, PixelDescription
from gateway.imaging.encode import ENCODERS, LOSSY_METHODS, encode, encoded_description
from gateway.imaging.errors import NotEncodable
from gateway.imaging.native import Pixels
from tests.gateway.imaging.conftest import SHARED, Instance
from tests.instances import data_set, part10_file
from tests.programs import has_program

LOSSLESS = sorted(ENCODERS.keys() - LOSSY_METHODS.keys())
PLUGIN = {
    encoding.RLE_LOSSLESS: "pydicom",
    encoding.JPEG_LS: "pyjpegls",
    encoding.JPEG_LS_NEAR: "pyjpegls",
    **dict.fromkeys(
        (
            encoding.JPEG_2000,
            encoding.JPEG_2000_LOSSY,
            encoding.HTJ2K,
            encoding.HTJ2K_RPCL,
            encoding.HTJ2K_EITHER,
        ),
        "pylibjpeg",
    ),
}
"""pydicom's plugin around another library than ours: its own Python, CharLS by pyjpegls, its own build of OpenJPEG."""
DCMTK = {
    encoding.RLE_LOSSLESS: "dcmdrle",
    encoding.JPEG_BASELINE: "dcmdjpeg",
    encoding.JPEG_LOSSLESS: "dcmdjpeg",
    encoding.JPEG_LOSSLESS_SV1: "dcmdjpeg",
    encoding.JPEG_LS: "dcmdjpls",
    encoding.JPEG_LS_NEAR: "dcmdjpls",
}

Describe = Callable[..., PixelDescription]
random = np.random.default_rng(7)
ROWS, COLUMNS = 67, 131


def noise(low: int, high: int, dtype: str, samples: int = 1) -> Pixels:
    """Noise on a gradient: odd dimensions, the extremes included."""
    ramp = np.linspace(low, high, ROWS * COLUMNS).reshape(ROWS, COLUMNS, 1)
    found = (ramp + random.normal(0, (high - low) / 50, (ROWS, COLUMNS, samples))).clip(low, high)
    found[0, 0], found[-1, -1] = low, high
    return found.astype(dtype)


MONOCHROME = {
    "8 bit": (noise(0, 255, "u1"), {"bits_allocated": 8}),
    "12 of 16 bit": (noise(0, 4095, "<u2"), {"bits_allocated": 16, "bits_stored": 12}),
    "16 bit": (noise(0, 65535, "<u2"), {"bits_allocated": 16}),
    "signed 12 of 16 bit": (noise(-2048, 2047, "<i2"), {"bits_allocated": 16, "bits_stored": 12, "signed": True}),
    "signed 16 bit": (noise(-32768, 32767, "<i2"), {"bits_allocated": 16, "signed": True}),
    "bits above High Bit": (noise(0, 65535, "<u2"), {"bits_allocated": 16, "bits_stored": 12}),
    "one bit used": (noise(0, 1, "u1"), {"bits_allocated": 8, "bits_stored": 1}),
}
COLOUR = {
    "RGB": (noise(0, 255, "u1", 3), {"photometric": "RGB"}),
    "YBR_FULL": (noise(0, 255, "u1", 3), {"photometric": "YBR_FULL"}),
}
PALETTE = {"palette": (noise(0, 255, "u1"), {"photometric": "PALETTE COLOR"})}


def described(
    pixels: Pixels,
    *,
    bits_allocated: int = 8,
    bits_stored: int | None = None,
    signed: bool = False,
    photometric: str = "MONOCHROME2",
) -> PixelDescription:
    stored = bits_stored or bits_allocated
    return PixelDescription(
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=pixels.shape[2],
        bits_allocated=bits_allocated,
        bits_stored=stored,
        high_bit=stored - 1,
        pixel_representation=int(signed),
        photometric_interpretation=PhotometricInterpretation(photometric),
    )


def instance(frame: bytes, description: PixelDescription, uid: str) -> bytes:
    found = data_set(
        Rows=description.rows,
        Columns=description.columns,
        SamplesPerPixel=description.samples_per_pixel,
        BitsAllocated=description.bits_allocated,
        BitsStored=description.bits_stored,
        HighBit=description.high_bit,
        PixelRepresentation=description.pixel_representation,
        PhotometricInterpretation=description.photometric_interpretation.value,
        PlanarConfiguration=0 if description.samples_per_pixel == 3 else None,
        PixelData=encapsulate([frame]),
    )
    found["PixelData"].VR = "OB"
    return part10_file(found, uid)


def by_pydicom(frame: bytes, description: PixelDescription, uid: str) -> Pixels:
    found = pydicom.dcmread(io.BytesIO(instance(frame, description, uid)))
    pixels, _ = get_decoder(uid).as_array(found, index=0, decoding_plugin=PLUGIN[uid], raw=True)
    return np.asarray(pixels).reshape(description.rows, description.columns, -1)


def by_dcmtk(frame: bytes, description: PixelDescription, uid: str, folder: Path) -> Pixels:
    coded, plain = folder / "coded.dcm", folder / "plain.dcm"
    coded.write_bytes(instance(frame, description, uid))
    options = ["+cn", "+px"] if DCMTK[uid] == "dcmdjpeg" else []  # no conversion of colours, and by pixel
    subprocess.run([DCMTK[uid], *options, coded, plain], check=True, capture_output=True)
    found = pydicom.dcmread(plain)
    samples = np.frombuffer(
        found.PixelData, f"<{'i' if description.is_signed else 'u'}{description.bits_allocated // 8}"
    )
    size = description.rows * description.columns * description.samples_per_pixel
    shaped = samples[:size]
    if found.get("PlanarConfiguration") == 1:
        return shaped.reshape(-1, description.rows, description.columns).transpose(1, 2, 0)
    return shaped.reshape(description.rows, description.columns, -1)


@pytest.mark.parametrize("uid", LOSSLESS)
@pytest.mark.parametrize("name", [*MONOCHROME, *COLOUR, *PALETTE])
def test_lossless_frames_come_back_bit_for_bit_from_other_decoders(uid: str, name: str, tmp_path: Path) -> None:
    pixels, attributes = {**MONOCHROME, **COLOUR, **PALETTE}[name]
    before = described(pixels, **attributes)
    frame = encode(pixels, before, uid)
    after = encoded_description(before, uid)
    assert np.array_equal(decode(frame, uid, after), pixels)
    if uid in PLUGIN:
        # pydicom's own RLE decoder leaves out what stands above High Bit.
        seen = pixels & 0xFFF if name == "bits above High Bit" and uid == encoding.RLE_LOSSLESS else pixels
        assert np.array_equal(by_pydicom(frame, after, uid), seen)
    if uid in DCMTK and has_program(DCMTK[uid], "dcmtk"):
        assert np.array_equal(by_dcmtk(frame, after, uid, tmp_path), pixels)


@pytest.mark.parametrize("name", [*MONOCHROME, *COLOUR])
def test_near_lossless_frames_are_off_by_the_bound_at_most(name: str, tmp_path: Path) -> None:
    pixels, attributes = {**MONOCHROME, **COLOUR}[name]
    before = described(pixels, **attributes)
    frame = encode(pixels, before, encoding.JPEG_LS_NEAR)
    # Signed samples at the end of their range leave no room for an error: that frame has none.
    assert (frame == encode(pixels, before, encoding.JPEG_LS)) == (name == "signed 16 bit")
    for found in (
        decode(frame, encoding.JPEG_LS_NEAR, before),
        by_pydicom(frame, before, encoding.JPEG_LS_NEAR),
        by_dcmtk(frame, before, encoding.JPEG_LS_NEAR, tmp_path) if has_program("dcmdjpls", "dcmtk") else pixels,
    ):
        assert np.abs(found.astype(np.int64) - pixels).max() <= encoding.NEAR


HOUNSFIELD = {"bits_allocated": 16, "signed": True}


@pytest.mark.parametrize("name", ["8 bit", "12 of 16 bit", "signed 12 of 16 bit", "16 bit", "RGB", "YBR_FULL", "CT"])
def test_lossy_jpeg_2000_errs_by_one_level_in_4096_of_those_that_are_used(name: str) -> None:
    """A CT declares 16 bits and uses a part of them: the error has to follow the use."""
    pixels, attributes = {**MONOCHROME, **COLOUR, "CT": (noise(-1024, 2000, "<i2"), HOUNSFIELD)}[name]
    before = described(pixels, **attributes)
    frame = encode(pixels, before, encoding.JPEG_2000_LOSSY)
    assert len(frame) < len(encode(pixels, before, encoding.JPEG_2000))
    after = encoded_description(before, encoding.JPEG_2000_LOSSY)
    found = by_pydicom(frame, after, encoding.JPEG_2000_LOSSY).astype(np.float64)
    allowed = max(1.0, (int(pixels.max()) - int(pixels.min())) / 4096)
    assert np.sqrt(np.mean((found - pixels) ** 2)) < allowed * 1.25


@pytest.mark.parametrize("name", ["8 bit", "RGB", "YBR_FULL"])
def test_baseline_jpeg_shows_what_was_there(name: str) -> None:
    smooth = np.linspace(0, 255, ROWS * COLUMNS).reshape(ROWS, COLUMNS, 1).astype("u1")
    pixels, attributes = {**MONOCHROME, **COLOUR}[name]
    smooth = np.repeat(smooth, pixels.shape[2], axis=2)
    if pixels.shape[2] == 3:
        smooth[:, :, 1] = 255 - smooth[:, :, 1]
    before = described(smooth, **attributes)
    frame = encode(smooth, before, encoding.JPEG_BASELINE)
    picture = Image.open(io.BytesIO(frame))
    if name != "8 bit":
        assert encoded_description(before, encoding.JPEG_BASELINE).photometric_interpretation.value == "YBR_FULL_422"
        picture.draft("RGB" if name == "RGB" else "YCbCr", picture.size)
    found = np.asarray(picture).reshape(smooth.shape).astype(int)
    assert np.abs(found - smooth).max() <= 6


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [4, 64, 65, 512, 4097])
def test_htj2k_is_rpcl_with_tlm_and_a_base_resolution_of_at_most_64(rows: int, transposed: bool) -> None:
    pixels = random.integers(0, 200, (rows, rows + 3, 1)).astype("u1")
    pixels = pixels.transpose(1, 0, 2) if transposed else pixels
    frame = encode(pixels, described(pixels), encoding.HTJ2K_RPCL)
    found = markers(frame)
    progression, layers, _, decompositions = struct.unpack_from(">BHBB", found[0xFF52], 1)
    assert (progression, layers) == (2, 1)  # T.800 Table A.16: RPCL
    assert found[0xFF52][9] == 1  # the reversible 5-3 wavelet
    assert found[0xFF52][8] & 0x40  # T.814: HT code-blocks
    assert -(-min(pixels.shape[:2]) >> decompositions) <= 64
    assert 0xFF50 in found  # CAP
    # TLM: one entry a tile part, whose lengths together are the rest of the codestream up to EOC.
    tlm = found[0xFF55]
    assert tlm[1] == 0x60
    entries = list(struct.iter_unpack(">HI", tlm[2:]))
    first = frame.index(b"\xff\x90\x00\x0a")
    assert len(entries) == decompositions + 1
    assert first + sum(length for _, length in entries) == len(frame) - 2


def markers(frame: bytes) -> dict[int, bytes]:
    """Marker segments of the main header, without marker and length."""
    found, place = {}, 2
    while True:
        marker, length = struct.unpack_from(">HH", frame, place)
        if marker == 0xFF90:
            return found
        found[marker] = frame[place + 4 : place + 2 + length]
        place += 2 + length


def test_the_low_resolutions_of_htj2k_come_first_in_the_codestream() -> None:
    """What progressive viewers rely on: a beginning of the bytes is a smaller picture."""
    pixels = noise(0, 255, "u1")
    frame = encode(pixels, described(pixels), encoding.HTJ2K_RPCL)
    entries = struct.iter_unpack(">HI", markers(frame)[0xFF55][2:])
    place = frame.index(b"\xff\x90\x00\x0a")
    for _, length in entries:
        assert frame[place : place + 2] == b"\xff\x90"
        place += length
    assert frame[place:] == b"\xff\xd9"


def test_rle_rows_are_encoded_one_by_one() -> None:
    """PS3.5 G.3.1: a run does not go from one row to the next."""
    pixels = np.zeros((3, 5, 1), "u1")
    frame = encode(pixels, described(pixels), encoding.RLE_LOSSLESS)
    assert frame[64:] == bytes([0x100 - 4, 0]) * 3


@pytest.mark.parametrize("uid", sorted(ENCODERS))
@pytest.mark.parametrize(
    ("change", "by"),
    [
        ({"bits_allocated": 1, "bits_stored": 1, "high_bit": 0}, "every"),
        ({"float_kind": FloatKind.FLOAT, "bits_allocated": 32, "bits_stored": 32, "high_bit": 31}, "every"),
        ({"bits_allocated": 32, "bits_stored": 32, "high_bit": 31}, "all but RLE"),
        ({"bits_allocated": 16, "bits_stored": 12, "high_bit": 11}, "baseline"),
        ({"pixel_representation": 1}, "baseline"),
        ({"photometric_interpretation": PhotometricInterpretation.PALETTE_COLOR}, "lossy"),
    ],
)
def test_what_a_syntax_cannot_hold_is_refused(uid: str, change: dict[str, object], by: str) -> None:
    description = replace(described(noise(0, 255, "u1")), **change)
    refused = {
        "every": True,
        "all but RLE": uid != encoding.RLE_LOSSLESS,
        "baseline": uid == encoding.JPEG_BASELINE,
        "lossy": uid in LOSSY_METHODS,
    }[by]
    if refused:
        with pytest.raises(NotEncodable):
            encoded_description(description, uid)
    else:
        assert encoded_description(description, uid).rows == ROWS


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.110", "1.2.3"])
def test_other_syntaxes_are_not_written(uid: str) -> None:
    with pytest.raises(NotEncodable):
        encoded_description(described(noise(0, 255, "u1")), uid)


def test_thirty_two_bits_go_through_rle() -> None:
    pixels = random.integers(0, 1 << 32, (5, 7, 1), dtype=np.uint64).astype("<u4")
    description = described(pixels, bits_allocated=32)
    frame = encode(pixels, description, encoding.RLE_LOSSLESS)
    assert np.array_equal(by_pydicom(frame, description, encoding.RLE_LOSSLESS), pixels)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom")
@pytest.mark.parametrize("uid", [encoding.RLE_LOSSLESS, encoding.JPEG_LS, encoding.JPEG_2000, encoding.HTJ2K_RPCL])
def test_real_frames_of_every_transfer_syntax_become_another_without_loss(uid: str) -> None:
    seen = 0
    for path in sorted((SHARED / "transfer-syntaxes").glob("**/*.dcm")):
        stored = Instance(path)
        frame = stored.frame(1)
        pixels = decode(frame.data, frame.transfer_syntax_uid, frame.description, frame.bit_offset)
        before = decoded_description(frame.description, frame.transfer_syntax_uid)
        if before.bits_allocated == 1:
            continue
        after = replace(encoded_description(before, uid), number_of_frames=1)
        coded = encode(pixels, before, uid)
        assert np.array_equal(decode(coded, uid, after), pixels), path
        # Colour that a codestream transforms is compared as our own decoder gives it.
        if after.photometric_interpretation is before.photometric_interpretation:
            assert np.array_equal(by_pydicom(coded, after, uid), pixels), path
        seen += 1
    assert seen >= 24
