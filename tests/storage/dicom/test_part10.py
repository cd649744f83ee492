"""The one pass over an instance."""

from __future__ import annotations

import base64
import io
import json
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from storage.dicom import part10
from storage.dicom.frames import FrameKind
from storage.dicom.limits import Limits
from storage.errors import AnnouncedOtherwise, LimitExceeded, MissingAttribute, Unreadable
from tests.instances import (
    CT,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    SHARED,
    data_set,
    element,
    encapsulated,
    encode,
    extract,
    extract_file,
    identity,
    text,
)


def wheel_file(name: str) -> Path:
    found = get_testdata_file(name)
    assert isinstance(found, str)
    return Path(found)


@pytest.mark.parametrize("tag", ["0020000D", "0020000E", "00080018", "00080016"])
def test_an_instance_without_one_of_its_uids_is_refused_by_name(tag: str) -> None:
    found = data_set()
    del found[int(tag, 16)]
    with pytest.raises(MissingAttribute, match=f"{tag[:4]},{tag[4:]}.*missing"):
        extract(encode(found))


@pytest.mark.parametrize(
    "uid",
    ["../../x", "/etc/passwd", "1.2/3", "1..2", ".1.2", "1.2.", "1.2.a", "1.2\\3", "%2e%2e", "１.２", "1." + "2" * 63],
)  # fmt: skip
def test_a_uid_that_may_not_stand_in_a_key_is_refused(uid: str) -> None:
    body = identity().replace(text(0x0020000D, "UI", "1.2.3"), text(0x0020000D, "UI", uid))
    with pytest.raises(MissingAttribute):
        extract(body)


def test_a_uid_with_leading_zeros_is_kept_as_scanners_send_it() -> None:
    assert extract(identity("1.2.03.0004")).sop_uid == "1.2.03.0004"


def test_a_binding_announcement_that_differs_is_refused() -> None:
    body = identity()
    with pytest.raises(AnnouncedOtherwise):
        part10.extract(io.BytesIO(body), ExplicitVRLittleEndian, Limits(), part10.Announced(CT, "1.2.9", binding=True))
    part10.extract(io.BytesIO(body), ExplicitVRLittleEndian, Limits(), part10.Announced(CT, "1.2.9"))


def test_announced_uids_stand_in_for_missing_ones() -> None:
    body = identity()[len(text(0x00080016, "UI", CT)) :]
    found = part10.extract(io.BytesIO(body), ExplicitVRLittleEndian, Limits(), part10.Announced(CT, "1.2.3.4"))
    assert found.sop_class_uid == CT


def test_metadata_is_the_dicom_json_model_with_bulk_data_behind_relative_uris() -> None:
    found = data_set(
        StudyDescription="Übung", SpecificCharacterSet="ISO_IR 192", SliceThickness="2.50", WindowCenter=[40, 600]
    )
    extracted = extract(encode(found))
    metadata = json.loads(extracted.metadata)
    assert metadata["00081030"] == {"vr": "LO", "Value": ["Übung"]}
    assert metadata["00180050"] == {"vr": "DS", "Value": [2.5]}
    assert metadata["00281050"] == {"vr": "DS", "Value": [40, 600]}
    assert metadata["00280010"] == {"vr": "US", "Value": [4]}
    uri = metadata["7FE00010"]["BulkDataURI"]
    assert uri == (
        f"studies/{extracted.study_uid}/series/{extracted.series_uid}/instances/{extracted.sop_uid}/bulkdata/7FE00010"
    )
    (item,) = extracted.bulk
    assert encode(found)[item.offset : item.offset + item.length] == bytes(range(32))


def test_metadata_agrees_with_pydicoms_for_real_files() -> None:
    for name in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "reportsi.dcm", "examples_overlay.dcm"):
        path = wheel_file(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = json.loads(pydicom.dcmread(path).to_json(suppress_invalid_tags=True))
        ours = json.loads(extract_file(path).metadata)
        for tag, element_ in theirs.items():
            if tag == "00080005" or (tag.endswith("0000") and tag != "00080000"):
                continue
            if element_["vr"] in ("DS", "IS") and any(isinstance(v, str) for v in element_.get("Value", [])):
                continue
            mine = ours[tag]
            assert mine["vr"] == element_["vr"], (name, tag)
            if "Value" in element_ and element_["vr"] not in ("SQ", "PN"):
                assert mine.get("Value") == [v if v != "" else None for v in element_["Value"]], (name, tag)


def test_sequences_nest_and_inner_bulk_values_have_numbered_paths() -> None:
    inner = Dataset()
    inner.add_new(0x00091001, "LO", "in")
    inner.add_new(0x54001010, "OW", bytes(5000))
    found = data_set()
    found.WaveformSequence = Sequence([Dataset(), inner])
    extracted = extract(encode(found))
    assert [item.path for item in extracted.bulk] == ["54000100.2.54001010", "7FE00010"]
    metadata = json.loads(extracted.metadata)
    assert metadata["54000100"]["Value"][0] == {}
    assert metadata["54000100"]["Value"][1]["54001010"]["BulkDataURI"].endswith("/bulkdata/54000100.2.54001010")


def test_small_bytes_stand_inline_in_base64() -> None:
    found = data_set()
    found.add_new(0x00091001, "OB", b"\1\2\3\4")
    assert (
        json.loads(extract(encode(found)).metadata)["00091001"]["InlineBinary"]
        == base64.b64encode(b"\1\2\3\4").decode()
    )


def test_metadata_beyond_its_bound_is_refused() -> None:
    body = identity() + b"".join(text(0x00091000 + n, "LO", "x" * 60) for n in range(100))
    with pytest.raises(LimitExceeded):
        extract(body, limits=Limits(max_metadata_bytes=2000))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_an_instance_is_the_same_in_every_native_encoding(syntax: str) -> None:
    found = data_set(SmallestImagePixelValue=3, PixelAspectRatio=[1, 1], GridFrameOffsetVector=[0, 1.5])
    found.ReferencedImageSequence = Sequence([Dataset()])
    found.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    explicit, other = extract(encode(found)), extract(encode(found, syntax), syntax)
    assert other.canonical_digest == explicit.canonical_digest
    assert other.metadata == explicit.metadata


def test_a_rewrite_that_changes_nothing_has_the_same_canonical_digest() -> None:
    item = text(0x00081155, "UI", "1.2.3")
    defined = element(0x00081140, "SQ", b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item)
    undefined = element(0x00081140, "SQ", ITEM + item + ITEM_END + SEQUENCE_END, 0xFFFFFFFF)
    group_length = element(0x00080000, "UL", b"\x99\0\0\0")
    plain = extract(identity() + defined + element(0x00100010, "PN", b"A^B ")).canonical_digest
    assert extract(group_length + identity() + undefined + element(0x00100010, "PN", b"A^B")).canonical_digest == plain
    assert extract(identity() + defined + element(0x00100010, "PN", b"A^C ")).canonical_digest != plain


def test_changed_pixels_change_the_canonical_but_not_the_header_digest() -> None:
    first, second = (
        data_set(SOPInstanceUID="1.2.3", StudyInstanceUID="1.2", SeriesInstanceUID="1.3") for _ in range(2)
    )
    second.PixelData = bytes(32)
    one, two = extract(encode(first)), extract(encode(second))
    assert one.header_digest == two.header_digest
    assert one.canonical_digest != two.canonical_digest


def test_offset_tables_do_not_change_the_canonical_digest() -> None:
    body = identity() + text(0x00280008, "IS", "2")
    without = extract(body + encapsulated(b"\xff\xd8\xff1", b"\xff\xd8\xff2"))
    table = (0).to_bytes(4, "little") + (12).to_bytes(4, "little")
    with_table = extract(body + encapsulated(b"\xff\xd8\xff1", b"\xff\xd8\xff2", offset_table=table))
    assert without.canonical_digest == with_table.canonical_digest


EXPECTED_NAMES = {
    "chrArab": "قباني^لنزار",
    "chrFren": "Buc^Jérôme",
    "chrGerm": "Äneas^Rüdiger",
    "chrGreek": "Διονυσιος",
    "chrHbrw": "שרון^דבורה",
    "chrRuss": "Люкceмбypг",
    "chrH31": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "chrH32": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "chrI2": "Hong^Gildong=洪^吉洞=홍^길동",
    "chrX1": "Wang^XiaoDong=王^小東",
    "chrX2": "Wang^XiaoDong=王^小东",
}


@pytest.mark.parametrize("name", EXPECTED_NAMES)
def test_names_in_every_character_set_are_decoded(name: str) -> None:
    (path,) = get_charset_files(f"{name}.dcm")
    value = json.loads(extract_file(Path(path)).metadata)["00100010"]["Value"][0]
    groups = [value.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")]
    assert "=".join(groups).rstrip("=") == EXPECTED_NAMES[name]


def test_metadata_name_the_character_set_that_they_are_in() -> None:
    body = text(0x00080005, "CS", "ISO_IR 126") + identity() + element(0x00100010, "PN", "Διον".encode("iso8859-7"))
    found = json.loads(extract(body).metadata)
    assert found["00080005"]["Value"] == ["ISO_IR 192"]
    assert found["00100010"]["Value"] == [{"Alphabetic": "Διον"}]


def test_text_that_its_character_set_cannot_hold_becomes_replacement_characters() -> None:
    body = text(0x00080005, "CS", "ISO_IR 192") + identity() + element(0x00100010, "PN", b"A\xff\xfeB")
    assert "\ufffd" in json.loads(extract(body).metadata)["00100010"]["Value"][0]["Alphabetic"]


@pytest.mark.parametrize("raw", [b"\x1b", b"\x1b$", b"\x1b$B\x30", b"A\x1b(J\xff\x1b", b"\x00\x00", b"a\xe2\x80\xae"])
@pytest.mark.parametrize("character_set", ["ISO 2022 IR 87", "ISO_IR 192", "GB18030", "\\ISO 2022 IR 149", "NO SUCH"])
def test_broken_text_of_any_set_gives_valid_json(raw: bytes, character_set: str) -> None:
    body = text(0x00080005, "CS", character_set) + identity() + element(0x00100010, "PN", raw)
    json.loads(extract(body).metadata)


def test_a_compressed_frame_table_covers_every_frame() -> None:
    found = extract_file(wheel_file("examples_ybr_color.dcm"))
    assert (found.frames.kind, found.frames.count) == (FrameKind.ENCAPSULATED, 30)


SHARED_FILES = sorted(SHARED.rglob("*.dcm")) if SHARED.exists() else []


@pytest.mark.skipif(not SHARED_FILES, reason="needs ../shared/dicom")
def test_every_real_file_is_read_or_refused_and_the_well_formed_ones_are_read() -> None:
    refused: dict[str, str] = {}
    for path in SHARED_FILES:
        try:
            extract_file(path)
        except Unreadable as error:
            if "malformed" not in path.parts:
                refused[path.name] = str(error).partition(";")[0]
    # These four lack a UID that the hierarchy cannot do without.
    names = ("wsi-jpeg-140-frames", "htj2k-203-rgb", "htj2k-lossless-201-rgb", "jpegls-7bit")
    assert refused == {f"{name}.dcm": "StudyInstanceUID (0020,000D) is missing" for name in names}
