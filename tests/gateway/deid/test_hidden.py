"""Marks in the places where identifiers hide: none is in any byte of the output."""

from __future__ import annotations

import struct
import time
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from gateway.deid import Option, Profile, deidentify, icc
from gateway.errors import NotDeidentified
from tests.gateway.deid.made import PATIENT, PSEUDONYMS, dataset, instance, read, through, written

MARK = "HIDDEN"
_BYTES = f"{MARK}IDENTITY".encode()
TEXT = _BYTES.decode()


def profile_with_texts() -> bytes:
    """An sRGB profile with marks in its texts, in its header and between its parts."""
    found = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", found, 128)
    for number in range(count):
        _, start, length = struct.unpack_from(">4sII", found, 132 + 12 * number)
        if found[start : start + 4] in (b"mluc", b"text", b"desc"):
            found[start + length - 8 : start + length] = b"HIDDEN\0\0"
    found[80:84] = b"HIDD"
    found[100:128] = (b"HIDDEN" * 5)[:28]
    return bytes(found)


def hiding() -> Dataset:
    """One instance with a mark in every place but compressed frames."""
    private = dataset((0x00091010, "LO", TEXT))
    found = instance(
        (0x00090010, "LO", TEXT),
        (0x00091001, "LO", TEXT),
        (0x00091002, "OB", _BYTES),
        (0x00091003, "SQ", [private]),
        (0x00282000, "OB", profile_with_texts()),
        (0x00880200, "SQ", [dataset((0x00280010, "US", 1), (0x7FE00010, "OB", _BYTES))]),
        (0x04000561, "SQ", [dataset((0x04000550, "SQ", [dataset((0x00100010, "PN", TEXT))]))]),
        (0x04000404, "OB", _BYTES),
        (0x50000010, "US", 1),
        (0x50003000, "OW", _BYTES),
        (0x50022500, "LO", TEXT),
        (0x60000010, "US", 1),
        (0x60003000, "OB", _BYTES),
        (0x60004000, "LT", TEXT),
        (0x60220022, "LO", TEXT),
        (0x60FE1500, "LO", TEXT),
        (0x00420011, "OB", _BYTES),
        (0x00420015, "UL", len(_BYTES)),
        # A sequence as UN: in Implicit VR Little Endian, whatever the data set is in (CP-246).
        (0x00081140, "UN", implicit_item(0x00100010, _BYTES)),
        (0x00081115, "UN", implicit_item(0x00081155, _BYTES)),
        # In no dictionary, and not private.
        (0x0018FFFE, "LO", TEXT),
        (0x00080001, "UL", 99),
        (0x00081190, "UR", f"http://{TEXT}/"),
        (0x00280107, "LT", TEXT),
        (0xFFFAFFFA, "SQ", [dataset((0x04000115, "OB", _BYTES))]),
        (0xFFFCFFFC, "OB", _BYTES),
        sop_class=EncapsulatedPDFStorage,
    )
    meta = FileMetaDataset()
    for tag, vr, value in (
        (0x00020016, "AE", TEXT),
        (0x00020017, "AE", TEXT),
        (0x00020018, "AE", TEXT),
        (0x00020100, "UI", "1.2.3"),
        (0x00020102, "OB", _BYTES),
    ):
        meta.add_new(tag, vr, value)
    found.file_meta = meta
    return found


def implicit_item(tag: int, value: bytes) -> bytes:
    inner = struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("options", [(), tuple(Option)], ids=["basic", "every option"])
def test_no_hiding_place_is_left(syntax: str, options: tuple[Option, ...]) -> None:
    source = written(hiding(), syntax, preamble=(TEXT * 10)[:128].encode())
    assert source.startswith(b"HIDDEN")
    found = deidentify(read(source), Profile(frozenset(options)), PSEUDONYMS, PATIENT)
    data = found.part10()
    assert data[:132] == b"\0" * 128 + b"DICM"
    if syntax == DeflatedExplicitVRLittleEndian:
        start = 144 + int.from_bytes(data[140:144], "little")
        assert MARK.encode() not in data[:start]
        data = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    assert MARK.encode() not in data
    again = read(found.part10())
    assert [f"{tag:08x}" for tag in again.keys() if tag >> 16 & 0xFF00 in (0x5000, 0x6000)] == []  # noqa: SIM118
    assert again.EncapsulatedDocument.startswith(b"%PDF")
    assert again.EncapsulatedDocumentLength == len(again.EncapsulatedDocument)


def test_a_sequence_as_un_is_gone_through_and_not_lost() -> None:
    source = instance((0x00081115, "UN", implicit_item(0x0020000E, b"1.2.3.4\0")))
    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian):
        found = deidentify(read(written(source, syntax)), Profile(), PSEUDONYMS, PATIENT)
        again = read(found.part10())
        assert again[0x00081115].value[0].SeriesInstanceUID == PSEUDONYMS.uid("1.2.3.4")


def test_bytes_that_are_no_sequence_do_not_stay_as_one() -> None:
    found = through(instance((0x00081115, "UN", _BYTES)))
    assert 0x00081115 not in found.dataset
    assert found.warnings == ("(0008,1115) removed: it is not the sequence it should be",)


def test_text_in_the_place_of_numbers_does_not_stay() -> None:
    found = through(instance((0x00280107, "LT", TEXT), (0x00280010, "SH", TEXT), (0x00080008, "SQ", [instance()])))
    assert not {0x00280107, 0x00280010, 0x00080008} & set(found.dataset.keys())


def test_an_icc_profile_without_its_texts_gives_the_same_colours() -> None:
    old = profile_with_texts()
    new = icc.without_text(old)
    assert new is not None
    assert len(new) == len(old)
    assert b"HIDD" not in new
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8))
    lab = ImageCms.createProfile("LAB")
    results = [
        ImageCms.applyTransform(
            picture, ImageCms.buildTransform(ImageCms.ImageCmsProfile(BytesIO(data)), lab, "RGB", "LAB")
        )
        for data in (old, new)
    ]
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("damage", [b"", b"x" * 200, profile_with_texts()[:300]])
def test_what_is_no_icc_profile_is_removed(damage: bytes) -> None:
    assert icc.without_text(damage) is None
    assert 0x00282000 not in through(instance((0x00282000, "OB", damage + b"\0" * (len(damage) % 2)))).dataset


def test_an_overlay_in_the_pixels_is_told() -> None:
    found = through(
        instance(
            (0x00280100, "US", 16),
            (0x00280101, "US", 12),
            (0x00280102, "US", 11),
            (0x60000100, "US", 16),
            (0x60000102, "US", 15),
            (0x7FE00010, "OW", b"\0\0"),
        )
    )
    assert found.pixels.overlay_bits == (15,)
    assert found.pixels.unused_bits == 0xF000
    assert found.pixels.needs_cleaning


def test_what_is_said_to_be_burned_in_is_told() -> None:
    assert through(instance((0x00280301, "CS", "YES"))).pixels.needs_cleaning
    assert not through(instance((0x00280301, "CS", "NO"))).pixels.needs_cleaning


def test_metadata_in_the_frames_of_an_instance_goes_and_offsets_stay_true() -> None:
    frames = []
    for shade in (10, 200):
        buffer = BytesIO()
        Image.new("L", (16, 16), shade).save(buffer, "JPEG", comment=_BYTES, exif=b"Exif\0\0" + _BYTES)
        frames.append(buffer.getvalue() + b"\0" * (len(buffer.getvalue()) % 2))
    source = instance((0x00280008, "IS", "2"))
    source.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=True)
    source["PixelData"].VR = "OB"
    source["PixelData"].is_undefined_length = True
    data = deidentify(read(written(source, JPEGBaseline8Bit)), Profile(), PSEUDONYMS, PATIENT).part10()
    assert MARK.encode() not in data
    again = read(data)
    assert len(again.PixelData) == len(source.PixelData)
    assert again.PixelData[:16] == source.PixelData[:16]


def test_a_frame_that_is_not_what_it_should_be_is_refused() -> None:
    source = instance((0x00280008, "IS", "1"))
    source.PixelData = encapsulate([b"\xff\xd8\xff\xe1\xff\xff" + _BYTES])
    source["PixelData"].VR = "OB"
    source["PixelData"].is_undefined_length = True
    with pytest.raises(NotDeidentified):
        deidentify(read(written(source, JPEGBaseline8Bit)), Profile(), PSEUDONYMS, PATIENT)


def test_a_stream_that_is_not_looked_at_is_told() -> None:
    source = instance((0x00280008, "IS", "1"))
    source.PixelData = encapsulate([b"\0\0\1\xb3" + b"\0" * 12])
    source["PixelData"].VR = "OB"
    source["PixelData"].is_undefined_length = True
    found = deidentify(read(written(source, "1.2.840.10008.1.2.4.100")), Profile(), PSEUDONYMS, PATIENT)
    assert found.pixels.unexamined_stream
    assert found.pixels.needs_cleaning


@pytest.mark.parametrize("vr", ["DS", "IS"])
@pytest.mark.parametrize(
    ("value", "stays"), [(TEXT, False), ("1.5\\-2e3", True), ("1,5", True), ("NaN", True), ("", True)]
)
def test_a_number_in_text_is_a_number(vr: str, value: str, stays: bool) -> None:
    tag = {"DS": 0x00180050, "IS": 0x00201206}[vr]
    source = written(instance((tag, "LO", value)))
    at = source.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF) + b"LO")
    source = source[: at + 4] + vr.encode() + source[at + 6 :]
    found = deidentify(read(source), Profile(), PSEUDONYMS, PATIENT).dataset
    assert (tag in found) == stays


@pytest.mark.parametrize("tag", [0x00081030, 0x0020000D, 0x00080020, 0x00101010, 0x00080070])
def test_a_sequence_in_the_place_of_a_value_does_not_stay(tag: int) -> None:
    class Trusting:
        def clean(self, text: str, /) -> str:
            return text

    source = instance((tag, "SQ", [dataset((0x00080070, "LO", TEXT))]))
    options = frozenset(Option) - {Option.RETAIN_UIDS}
    found = deidentify(read(written(source)), Profile(options), PSEUDONYMS, PATIENT, Trusting())
    assert tag not in found.dataset
    assert MARK.encode() not in found.part10()


def test_pixels_in_a_sequence_do_not_stay() -> None:
    picture = dataset((0x00280010, "US", 1), (0x7FE00010, "OW", _BYTES))
    found = through(instance((0x00089215, "SQ", [picture]), (0x7FE00010, "OW", b"\1\2")))
    assert 0x7FE00010 in found.dataset
    assert 0x7FE00010 not in found.dataset[0x00089215].value[0]
    assert MARK.encode() not in found.part10()


def test_a_million_items_in_bytes_of_no_vr_are_refused_at_once() -> None:
    source = instance((0x00081115, "UN", b"\xfe\xff\x00\xe0\0\0\0\0" * 1_000_000))
    data = read(written(source))
    start = time.process_time()
    with pytest.raises(NotDeidentified, match="more in it"):
        deidentify(data, Profile(), PSEUDONYMS, PATIENT)
    assert time.process_time() - start < 1
