"""Instances made of metadata and bulk data that came apart."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_charset_files, get_testdata_file

from storage.dicom import compose, file_meta, json_model, part10
from storage.dicom.compose import BulkValue
from storage.dicom.limits import Limits
from storage.errors import LimitExceeded, MalformedDataSet
from tests.instances import SHARED

LIMITS = Limits()


def no_bulk(uri: str) -> list[BulkValue]:
    raise AssertionError(f"asked for {uri}")


def written(source: json_model.JsonDataSet, bulk: compose.Bulk = no_bulk, *, encapsulated: bool = False) -> bytes:
    return b"".join(compose.data_set(compose.checked(source), bulk, LIMITS, encapsulated=encapsulated))


def read(body: bytes, syntax: str = file_meta.EXPLICIT_VR_LITTLE_ENDIAN) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(file_meta.write(file_meta.FileMeta(syntax, "1.2", "1.3")) + body))


def metadata_and_bulk(path: Path) -> tuple[json_model.JsonDataSet, compose.Bulk]:
    """Of an uncompressed file: what the archive would give of it over the web."""
    whole = path.read_bytes()
    with path.open("rb") as stream:
        meta, offset, _ = file_meta.read(stream, LIMITS)
        stream.seek(offset)
        announced = part10.Announced(meta.sop_class_uid, meta.sop_uid)
        extract = part10.extract(stream, meta.transfer_syntax_uid, LIMITS, announced)
    assert meta.transfer_syntax_uid in (file_meta.EXPLICIT_VR_LITTLE_ENDIAN, file_meta.IMPLICIT_VR_LITTLE_ENDIAN)
    values = {item.path: whole[offset + item.offset :][: item.length] for item in extract.bulk}

    def bulk(uri: str) -> list[BulkValue]:
        value = values[uri.rpartition("/bulkdata/")[2]]
        return [BulkValue(len(value), lambda: [value[:100], value[100:]])]

    return json_model.loads(extract.metadata), bulk


FILES = [
    get_testdata_file(name)
    for name in ("CT_small.dcm", "rtplan.dcm", "liver_1frame.dcm", "reportsi.dcm", "MR_small.dcm")
] + [
    str(path)
    for path in get_charset_files("chr*.dcm")
    if not path.endswith(("chrSQEncoding.dcm", "chrSQEncoding1.dcm"))
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: Path(path).stem)
def test_metadata_and_bulk_data_of_a_file_make_the_same_data_set(path: str) -> None:
    source, bulk = metadata_and_bulk(Path(path))
    ours, original = read(written(source, bulk)), pydicom.dcmread(path)
    assert json_of(ours) == json_of(original)


def json_of(found: pydicom.Dataset) -> dict[str, Any]:
    """pydicom's view of a data set, without what differs by design: character set, group lengths, empty names."""
    found.decode()
    return _comparable(found.to_json_dict(suppress_invalid_tags=True))


def _comparable(data_set: dict[str, Any]) -> dict[str, Any]:
    return {
        tag: {**element, "Value": values} if (values := _values(element)) else {"vr": element["vr"], **_inline(element)}
        for tag, element in data_set.items()
        if tag != "00080005" and not tag.endswith("0000")
    }


def _values(element: dict[str, Any]) -> list[Any]:
    found = element.get("Value", [])
    if element["vr"] == "SQ":
        return [_comparable(item) for item in found]
    if element["vr"] == "PN":
        named = [{group: text.rstrip("^ ") for group, text in (name or {}).items()} for name in found]
        return named if any(any(name.values()) for name in named) else []
    return list(found)


def _inline(element: dict[str, Any]) -> dict[str, bytes]:
    if "InlineBinary" not in element:
        return {}
    value = base64.b64decode(element["InlineBinary"])
    return {"InlineBinary": value + b"\0" * (len(value) % 2)}  # one file of the shared ones has an odd length


def test_frames_that_came_one_by_one_go_into_fragments_with_an_offset_table() -> None:
    frames = [b"a" * 10, b"b" * 7, b"c" * 4]
    source = {"7FE00010": {"vr": "OW", "BulkDataURI": "pixels"}}
    body = written(
        source, lambda _: [BulkValue(len(each), lambda each=each: [each]) for each in frames], encapsulated=True
    )  # type: ignore[misc]
    found = read(body, "1.2.840.10008.1.2.4.50")
    assert found["PixelData"].VR == "OB"
    assert list(pydicom.encaps.generate_frames(found.PixelData, number_of_frames=3)) == [
        b"a" * 10,
        b"b" * 7 + b"\0",
        b"c" * 4,
    ]
    basic, _ = pydicom.encaps.parse_basic_offsets(io.BytesIO(found.PixelData)), None
    assert basic == [0, 18, 34]


def test_text_becomes_utf_8_whatever_the_metadata_calls_it() -> None:
    source = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg", "Ideographic": "山田"}]},
    }
    found = read(written(source))
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert str(found.PatientName) == "Müller^Jörg=山田"


def test_numbers_and_tags_are_encoded_by_their_vr() -> None:
    source = {
        "00189087": {"vr": "FD", "Value": [1.5, "NaN"]},
        "00280009": {"vr": "AT", "Value": ["00181063", "00540010"]},
        "00280010": {"vr": "US", "Value": [512]},
        "00280030": {"vr": "DS", "Value": [0.123456789012345678, "0.5"]},
        "00280106": {"vr": "SS", "Value": [-5]},
        "00200013": {"vr": "IS", "Value": ["7"]},
    }
    found = read(written(source))
    assert found[0x00189087].value[0] == 1.5
    assert np.isnan(found[0x00189087].value[1])
    assert found[0x00280009].value == [0x00181063, 0x00540010]
    assert (found.Rows, found[0x00280106].value, found.InstanceNumber) == (512, -5, 7)
    assert [str(each) for each in found.PixelSpacing] == ["0.12345678901235", "0.5"]
    assert len(str(found.PixelSpacing[0])) <= 16


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"00280010": {"vr": "US", "Value": [70000]}}, r"Rows \(0028,0010\): not a value of VR US"),
        ({"00280010": {"vr": "US", "Value": ["x"]}}, "not a value of VR US"),
        ({"00280010": {"vr": "XX", "Value": [1]}}, "is no VR"),
        ({"00100020": {"vr": "LO", "Value": ["a\\b"]}}, "not a value of VR LO"),
        ({"00100020": {"vr": "LO", "Value": [["a"]]}}, "not a value of VR LO"),
        ({"00100020": {"vr": "LO", "Value": "text"}}, "Value is no array"),
        ({"00100020": "text"}, "no JSON object"),
        ({"PatientID": {"vr": "LO"}}, "is no tag"),
        ({"0010002Z": {"vr": "LO"}}, "is no tag"),
        ({"7FE00010": {"vr": "OB", "InlineBinary": "!!"}}, "not base64"),
        ({"7FE00010": {"vr": "OB", "Value": [1]}}, "needs InlineBinary"),
        ({"00081140": {"vr": "SQ", "Value": ["x"]}}, "no JSON object"),
        ({"00189087": {"vr": "FD", "Value": [None]}}, "not a value of VR FD"),
        ([], "no JSON object"),
    ],
)
def test_what_is_not_of_the_model_is_refused_with_the_attribute(source: Any, message: str) -> None:
    with pytest.raises(MalformedDataSet, match=message):
        written(source)


def test_nesting_beyond_the_limit_is_refused() -> None:
    source: json_model.JsonDataSet = {}
    for _ in range(70):
        source = {"00081140": {"vr": "SQ", "Value": [source]}}
    with pytest.raises(LimitExceeded):
        written(source)


@pytest.mark.filterwarnings("ignore:.*Invalid value for VR:UserWarning")
@pytest.mark.skipif(not SHARED.exists(), reason="the shared test data is not there")
def test_segmentations_reports_and_plans_of_other_makers_survive() -> None:
    seen = 0
    for path in sorted((SHARED / "objects").rglob("*.dcm")):
        syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
        if syntax not in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
            continue
        source, bulk = metadata_and_bulk(path)
        assert json_of(read(written(source, bulk))) == json_of(pydicom.dcmread(path)), path.name
        seen += 1
    assert seen > 10
