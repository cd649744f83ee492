"""Re-encoding to Explicit VR Little Endian."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from storage.dicom import file_meta, reencode
from storage.dicom.limits import Limits
from tests.instances import SHARED, data_set, element, encapsulated, encode, extract, extract_file, part10_file


def explicit(body: bytes, syntax: str) -> bytes:
    return b"".join(reencode.little_endian(io.BytesIO(body), file_meta.encoding_of(syntax), Limits()))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_value_is_the_same_after_re_encoding(syntax: str) -> None:
    found = data_set(
        PixelRepresentation=1, SmallestImagePixelValue=-3, PixelData=bytes(range(256)) * 600, Rows=320, Columns=240
    )
    item = Dataset()
    item.RetrieveAETitle = "A"
    item.ReferencedFrameOfReferenceUID = "1.2"
    found.ReferencedStudySequence = Sequence([item, Dataset()])
    found.RedPaletteColorLookupTableData = bytes(range(16))
    body = encode(found, syntax)
    again = explicit(body, syntax)
    before, after = extract(body, syntax), extract(again)
    assert after.canonical_digest == before.canonical_digest
    assert json.loads(after.metadata) == json.loads(before.metadata)
    theirs = pydicom.dcmread(io.BytesIO(part10_file(found)[: -len(encode(found))] + again))
    assert theirs.SmallestImagePixelValue == -3
    assert theirs.PixelData == found.PixelData


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_value_is_the_same_without_its_vr(syntax: str) -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2"
    found = data_set(
        PixelData=bytes(range(256)) * 600, Rows=320, Columns=240, ReferencedStudySequence=[item, Dataset()]
    )
    body = encode(found, syntax)
    again = b"".join(reencode.little_endian(io.BytesIO(body), file_meta.encoding_of(syntax), Limits(), implicit=True))
    assert extract(again, ImplicitVRLittleEndian).canonical_digest == extract(body, syntax).canonical_digest
    theirs = pydicom.dcmread(
        io.BytesIO(part10_file(found, ImplicitVRLittleEndian)[: -len(encode(found, ImplicitVRLittleEndian))] + again)
    )
    assert theirs == found


def test_pixels_and_edits_are_written_without_vrs_too() -> None:
    body = encode(data_set(PixelData=b"abcd"), ExplicitVRLittleEndian)
    edits = reencode.Edits(values={0x00100020: ("LO", b"changed ")})
    pixels = reencode.NativePixels("OW", 4, iter((b"wxyz",)))
    again = b"".join(
        reencode.little_endian(
            io.BytesIO(body), file_meta.encoding_of(ExplicitVRLittleEndian), Limits(), implicit=True, edits=edits,
            pixels=pixels,
        )
    )  # fmt: skip
    theirs = pydicom.dcmread(io.BytesIO(again), force=True)
    assert (theirs.PatientID, theirs.PixelData) == ("changed", b"wxyz")


def test_a_value_too_long_for_its_vr_goes_out_as_unknown() -> None:
    body = encode(data_set(PixelData=None), ImplicitVRLittleEndian)
    long = struct.pack("<HHI", 0x0028, 0x4000, 70_000) + b"x" * 70_000
    (item,) = extract(explicit(body + long, ImplicitVRLittleEndian)).bulk
    assert (item.vr, item.length) == ("UN", 70_000)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom")
@pytest.mark.parametrize("name", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
def test_a_real_slice_is_the_same_in_every_encoding(name: str) -> None:
    path = SHARED / "transfer-syntaxes" / "ct-one-image" / f"{name}.dcm"
    reference = extract_file(path.with_name("1.2.840.10008.1.2.1.dcm"))
    with path.open("rb") as stream:
        _, offset, _ = file_meta.read(stream, Limits())
        stream.seek(offset)
        again = b"".join(reencode.little_endian(stream, file_meta.encoding_of(name), Limits()))
    assert extract(again).canonical_digest == reference.canonical_digest


# Edits and other pixels


def rewritten(body: bytes, syntax: str = ExplicitVRLittleEndian, **changes: Any) -> Dataset:
    found = b"".join(reencode.little_endian(io.BytesIO(body), file_meta.encoding_of(syntax), Limits(), **changes))
    return pydicom.dcmread(io.BytesIO(found), force=True)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_values_are_replaced_put_in_at_their_place_and_left_out(syntax: str) -> None:
    item = Dataset()
    item.PatientID = "inner"
    found = data_set(ReferencedStudySequence=Sequence([item]), TextValue="x" * 70_000)
    edits = reencode.Edits(
        values={
            0x00080008: ("CS", b"DERIVED "),  # before everything
            0x00100020: ("LO", b"changed "),
            0x0040A160: ("UT", b"short "),  # in place of a large one
            0x00282110: ("CS", b"01"),  # between others
            0x7FE00020: ("UL", b"\1\0\0\0"),  # after everything
        },
        without=frozenset((0x00081110, 0x00080060)),
    )
    after = rewritten(encode(found, syntax), syntax, edits=edits)
    assert [each.tag for each in after] == sorted(each.tag for each in after)
    assert (after.ImageType, after.PatientID, after.TextValue) == ("DERIVED", "changed", "short")
    assert after.LossyImageCompression == "01"
    assert after[0x7FE00020].value == 1
    assert "ReferencedStudySequence" not in after
    assert "Modality" not in after
    assert after.PixelData == found.PixelData


def test_an_item_stands_first_in_a_sequence_or_makes_it() -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2"
    ours = b"\xfe\xff\x00\xe0\x0c\x00\x00\x00" + b"\x08\x00\x55\x11UI\x04\x001.3\0"
    edits = reencode.Edits(items={0x00082112: ours})
    for before, expected in ((None, ["1.3"]), (Sequence([item]), ["1.3", "1.2"]), (Sequence([]), ["1.3"])):
        after = rewritten(encode(data_set(SourceImageSequence=before)), edits=edits)
        assert [each.ReferencedSOPInstanceUID for each in after.SourceImageSequence] == expected


def test_a_tag_inside_an_item_is_not_the_one_that_is_edited() -> None:
    item = Dataset()
    item.PatientID, item.PixelData = "inner", b"\1\2"
    item["PixelData"].VR = "OB"
    found = data_set(IconImageSequence=Sequence([item]))
    edits = reencode.Edits(values={0x00100020: ("LO", b"changed ")})
    pixels = reencode.NativePixels("OW", 4, iter((b"abcd",)))
    after = rewritten(encode(found), edits=edits, pixels=pixels)
    assert after.IconImageSequence[0].PatientID == "inner"
    assert after.IconImageSequence[0].PixelData == b"\1\2"
    assert (after.PatientID, after.PixelData) == ("changed", b"abcd")


def test_frames_become_fragments_of_even_length() -> None:
    pixels = reencode.EncapsulatedPixels(iter((b"\xff\xd8\xff", b"\xff\xd8")))
    body = encode(data_set(PixelData=bytes(100_000), Rows=100, Columns=500))
    after = rewritten(body, pixels=pixels)
    first, second = struct.pack("<HHI", 0xFFFE, 0xE000, 4), struct.pack("<HHI", 0xFFFE, 0xE000, 2)
    empty_table = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    assert bytes(after.PixelData).startswith(empty_table + first + b"\xff\xd8\xff\0" + second + b"\xff\xd8")
    assert list(generate_fragments(after.PixelData)) == [b"", b"\xff\xd8\xff\0", b"\xff\xd8"]


def test_an_extended_offset_table_goes_with_its_fragments() -> None:
    table = element(0x7FE00001, "OV", bytes(8)) + element(0x7FE00002, "OV", bytes(8))
    body = encode(data_set(PixelData=None)) + table + encapsulated(b"ab")
    assert "ExtendedOffsetTable" in rewritten(body)
    after = rewritten(body, pixels=reencode.NativePixels("OB", 2, iter((b"xy",))))
    assert "ExtendedOffsetTable" not in after
    assert "ExtendedOffsetTableLengths" not in after
    assert after.PixelData == b"xy"
