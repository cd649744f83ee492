import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from storage.dicom import file_meta, json_model, part10, xml_model
from storage.dicom.limits import Limits
from storage.errors import LimitExceeded, MalformedDataSet
from tests.programs import need_program

_NS = f"{{{xml_model.NAMESPACE}}}"


def _metadata(path: str | Path) -> json_model.JsonDataSet:
    with Path(path).open("rb", buffering=0) as stream:
        meta, offset, _ = file_meta.read(stream, Limits())
        stream.seek(offset)
        extract = part10.extract(stream, meta.transfer_syntax_uid, Limits(), part10.Announced())
    found: json_model.JsonDataSet = json_model.loads(extract.metadata)
    return found


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "reportsi.dcm", "rtplan.dcm", "liver_1frame.dcm", "examples_palette.dcm"]
)
def test_what_is_written_is_read_back_the_same(name: str) -> None:
    data_set = _metadata(get_testdata_file(name))
    assert xml_model.loads(xml_model.dumps(data_set)) == dict(sorted(data_set.items()))


def _texts(root: ET.Element, namespace: str) -> dict[str, list[str]]:
    return {
        attribute.get("tag", ""): [value.text or "" for value in attribute.iter(f"{namespace}Value")]
        for attribute in root.iter(f"{namespace}DicomAttribute")
        if attribute.get("vr") in ("CS", "LO", "SH", "UI", "DA", "TM", "US")
    }


@need_program("dcm2xml", "dcmtk")
def test_dcmtk_writes_the_same_values_for_a_file_with_private_elements() -> None:
    path = get_testdata_file("CT_small.dcm")
    theirs = subprocess.run(["dcm2xml", "-nat", path, "-"], capture_output=True, check=True, timeout=60).stdout
    expected = _texts(ET.fromstring(theirs), "")
    ours = _texts(ET.fromstring(xml_model.dumps(_metadata(path))), _NS)
    compared = {tag for tag in expected if tag[:4] not in ("0002", "FFFC") and tag != "00080005"}
    assert len(compared) > 40
    assert {tag: ours.get(tag) for tag in compared} == {tag: expected[tag] for tag in compared}


def test_a_private_element_carries_its_creator_and_no_block_number() -> None:
    data_set = {"00190011": {"vr": "LO", "Value": ["ACME"]}, "00191108": {"vr": "CS", "Value": ["A"]}}
    text = xml_model.dumps(data_set)
    assert b'tag="00190008" privateCreator="ACME"' in text
    assert xml_model.loads(text) == data_set


def test_a_private_element_without_its_creators_element_gets_a_block() -> None:
    text = b"""<NativeDicomModel><DicomAttribute tag="00190008" vr="CS" privateCreator="ACME">
        <Value number="1">A</Value></DicomAttribute></NativeDicomModel>"""
    with pytest.raises(MalformedDataSet):
        xml_model.loads(b"<NativeDicomModel><Value/></NativeDicomModel>")
    assert xml_model.loads(text) == {
        "00190010": {"vr": "LO", "Value": ["ACME"]},
        "00191008": {"vr": "CS", "Value": ["A"]},
    }


def test_a_name_stands_in_components_of_its_groups() -> None:
    name = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    data_set = {"00100010": {"vr": "PN", "Value": [name]}}
    root = ET.fromstring(xml_model.dumps(data_set))
    assert [each.text for each in root.iter(f"{_NS}FamilyName")] == ["Yamada", "山田", "やまだ"]
    assert xml_model.loads(xml_model.dumps(data_set)) == data_set


@given(st.lists(st.none() | st.text(min_size=1), min_size=1).filter(lambda values: values[-1] is not None))
def test_any_text_survives_but_for_characters_that_xml_has_not(values: list[str | None]) -> None:
    data_set = {"00081030": {"vr": "LO", "Value": values}}
    (read,) = xml_model.loads(xml_model.dumps(data_set)).values()
    legal = [None if value is None else xml_model._NO_CHARACTER.sub("\ufffd", value) for value in values]
    assert read["Value"] == legal


def _one(vr: str, content: str) -> bytes:
    attribute = f'<DicomAttribute tag="00080005" {vr}>{content}</DicomAttribute>'
    return f"<NativeDicomModel>{attribute}</NativeDicomModel>".encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<NativeDicomModel>",
        b"<other/>",
        b'<NativeDicomModel><DicomAttribute tag="1" vr="LO"/></NativeDicomModel>',
        _one('vr="US"', '<Value number="1">x</Value>'),
        _one('vr="LO"', '<Value number="0">x</Value>'),
        _one('vr="LO"', "<Unknown/>"),
        b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel>&b;</NativeDicomModel>',
        b'<?xml version="1.0" encoding="nonsense"?><NativeDicomModel/>',
    ],
)
def test_what_is_not_of_the_model_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedDataSet):
        xml_model.loads(text)


def test_entities_that_would_grow_are_refused_before_they_do() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "x">{entities}]><NativeDicomModel>&e9;</NativeDicomModel>'
    with pytest.raises(MalformedDataSet, match="document type"):
        xml_model.loads(bomb.encode())


def test_nesting_beyond_the_limit_is_refused() -> None:
    begin = b'<DicomAttribute tag="00081140" vr="SQ"><Item number="1">'
    end = b"</Item></DicomAttribute>"
    text = b"<NativeDicomModel>" + begin * 70 + end * 70 + b"</NativeDicomModel>"
    with pytest.raises(LimitExceeded):
        xml_model.loads(text)


def test_a_value_number_that_would_fill_memory_is_refused() -> None:
    text = b"""<NativeDicomModel><DicomAttribute tag="00081030" vr="LO"><Value number="99999999">x</Value>
        </DicomAttribute></NativeDicomModel>"""
    with pytest.raises(LimitExceeded):
        xml_model.loads(text)
