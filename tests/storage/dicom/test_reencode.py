"""Re-encoding to Explicit VR Little Endian."""

from __future__ import annotations

import io
import json
import struct

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from storage.dicom import file_meta, reencode
from storage.dicom.limits import Limits
from tests.instances import SHARED, data_set, encode, extract, extract_file, part10_file


def explicit(body: bytes, syntax: str) -> bytes:
    return b"".join(reencode.explicit_little_endian(io.BytesIO(body), file_meta.encoding_of(syntax), Limits()))


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
        again = b"".join(reencode.explicit_little_endian(stream, file_meta.encoding_of(name), Limits()))
    assert extract(again).canonical_digest == reference.canonical_digest
