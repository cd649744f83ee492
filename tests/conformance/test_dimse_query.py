"""Conformance statement 3.5 and 6: Query, and character sets."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset

from tests.conformance.claims import claim
from tests.conformance.network import PATIENT_FIND, STUDY_FIND, Dimse, identifier, matches
from tests.instances import CT, data_set, element, encode, text, uid
from tests.raw_peer import EXPLICIT
from tests.raw_scu import RawScu

LONG_STRINGS = [
    tag for tag, entry in DicomDictionary.items() if entry[0] == "LO" and not entry[3] and tag >> 16 in (0x18, 0x40)
]


def statuses(found: list[tuple[Dataset, Dataset | None]]) -> list[int]:
    return [each.Status for each, _ in found]


def matched(dimse: Dimse, patient: str, **keys: Any) -> bool:
    """Whether the only study of a patient matches keys too."""
    found = dimse.find("STUDY", PatientID=patient, **keys)
    assert found[-1][0].Status == 0x0000
    return len(matches(found)) == 1


@pytest.fixture
def patient(dimse: Dimse) -> str:
    """A patient with one study."""
    found = f"Q{uid()[-30:]}"
    dimse.put(
        data_set(
            PatientID=found, SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jürgen=山田^太郎",
            AccessionNumber="ACC-17", StudyDescription="Head", StudyDate="20260102", StudyTime="101500",
        )
    )  # fmt: skip
    return found


@claim("G21")
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("AccessionNumber", "ACC-17", True), ("AccessionNumber", "ACC-1", False), ("AccessionNumber", "", True),
        ("AccessionNumber", "ACC-*", True), ("AccessionNumber", "*7", True), ("AccessionNumber", "ACC-?7", True),
        ("AccessionNumber", "ACC-?", False), ("AccessionNumber", "*", True),
        ("StudyDate", "20260102", True), ("StudyDate", "20260101-20260102", True), ("StudyDate", "20260102-", True),
        ("StudyDate", "-20260101", False), ("StudyDate", "20260103-", False), ("StudyTime", "10-11", True),
        ("StudyTime", "101501-", False),
    ],
)  # fmt: skip
def test_single_value_universal_wildcard_and_range(
    dimse: Dimse, patient: str, key: str, value: str, expected: bool
) -> None:
    assert matched(dimse, patient, **{key: value}) is expected


@claim("G22")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MULLER^jurgen", True), ("müller^*", True), ("山田^*", True), ("Muller^Jurgen=山田^太郎", True),
        ("Mueller^*", False), ("太郎*", False),
    ],
)  # fmt: skip
def test_names_are_matched_without_case_and_accents_in_each_group(
    dimse: Dimse, patient: str, name: str, expected: bool
) -> None:
    assert matched(dimse, patient, SpecificCharacterSet="ISO_IR 192", PatientName=name) is expected


@claim("G23")
def test_other_text_is_matched_exactly_as_it_stands(dimse: Dimse, patient: str) -> None:
    assert matched(dimse, patient, StudyDescription="Head")
    assert not matched(dimse, patient, StudyDescription="HEAD")
    assert not matched(dimse, patient, AccessionNumber="acc-17")


@claim("G24")
def test_attributes_of_the_levels_above_are_matched_and_come_back(dimse: Dimse, patient: str) -> None:
    (study,) = matches(dimse.find("STUDY", PatientID=patient, StudyInstanceUID=""))
    above = {"StudyInstanceUID": study.StudyInstanceUID, "PatientID": patient}
    (series,) = matches(dimse.find("SERIES", StudyDescription="Head", AccessionNumber="", Modality="", **above))
    assert (series.AccessionNumber, series.Modality, series.PatientID) == ("ACC-17", "CT", patient)
    assert matches(dimse.find("SERIES", StudyDescription="Neck", **above)) == []
    (below,) = matches(dimse.find("SERIES", PATIENT_FIND, SeriesInstanceUID="", PatientName="", **above))
    assert below.SeriesInstanceUID


@claim("G25")
def test_nothing_that_matches_is_success_at_every_level(dimse: Dimse) -> None:
    above = {"StudyInstanceUID": uid(), "SeriesInstanceUID": uid()}
    for level in ("STUDY", "SERIES", "IMAGE"):
        assert statuses(dimse.find(level, **above)) == [0x0000]
    assert statuses(dimse.find("PATIENT", PATIENT_FIND, PatientID="nobody")) == [0x0000]


@claim("G26")
def test_a_query_has_so_many_keys_and_values_at_most(dimse: Dimse) -> None:
    uids = [uid() for _ in range(1001)]
    assert statuses(dimse.find("STUDY", StudyInstanceUID=uids[:1000])) == [0x0000]
    assert statuses(dimse.find("STUDY", StudyInstanceUID=uids)) == [0xA900]
    association = dimse.associate((STUDY_FIND, [EXPLICIT]))
    for count, expected in ((64, 0x0000), (65, 0xA900)):
        many = identifier("STUDY", PatientID="nobody", PatientName="Nobody")
        for tag in LONG_STRINGS[: count - 2]:
            many.add_new(tag, "LO", "x")
        assert [each.Status for each, _ in association.send_c_find(many, STUDY_FIND)] == [expected]
    association.release()


@claim("G27")
def test_what_the_caller_may_not_see_does_not_match(dimse: Dimse) -> None:
    study, ct, mr = uid(), uid(), uid()
    dimse.put(data_set(StudyInstanceUID=study, SeriesInstanceUID=ct))
    dimse.put(data_set(StudyInstanceUID=study, SeriesInstanceUID=mr, Modality="MR"))
    seen = {
        calling: [
            each.SeriesInstanceUID
            for each in matches(dimse.find("SERIES", StudyInstanceUID=study, SeriesInstanceUID="", calling=calling))
        ]
        for calling in ("SCU", "MR_READER")
    }
    assert (sorted(seen["SCU"]), seen["MR_READER"]) == (sorted([ct, mr]), [mr])
    assert statuses(dimse.find("STUDY", StudyInstanceUID=study, calling="SENDER")) == [0x0124]


NAMES = [
    ("ISO_IR 6", "Buc^Jerome"),
    ("ISO_IR 100", "Buc^Jérôme"),
    ("ISO_IR 101", "Wałęsa^Lech"),
    ("ISO_IR 109", "Ĉu^Ŝi"),
    ("ISO_IR 110", "Žemaitė^Ārija"),
    ("ISO_IR 144", "Люкceмбypг"),
    ("ISO_IR 127", "قباني^لنزار"),
    ("ISO_IR 126", "Διονυσιος"),
    ("ISO_IR 138", "שרון^דבורה"),
    ("ISO_IR 148", "Çavuşoğlu^İlkay"),
    ("ISO_IR 166", "นามสกุล^ชื่อ"),
    ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
    ("ISO 2022 IR 100\\ISO 2022 IR 144", "Buc^Jérôme=Люкceмбypг"),
    ("GB18030", "Wang^XiaoDong=王^小东"),
    ("GBK", "Wang^XiaoDong=王^小东"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
]
# What pydicom does not write, or not with its escape sequences.
BYTES = [
    ("ISO_IR 203", "Œuvre^Zoë".encode("iso8859_15"), "Œuvre^Zoë"),
    ("\\ISO 2022 IR 203", b"Oeuvre=\x1b-b" + "Œuvre^".encode("iso8859_15") + b"\x1b-bZo\xeb", "Oeuvre=Œuvre^Zoë"),
    ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang^XiaoDong=张^小东"),
    ("\\ISO 2022 IR 159", b"Y=\x1b$(D\x30\x21\x1b(B", "Y=丂"),
]


@claim("W5")
@pytest.mark.parametrize(("sets", "name"), NAMES, ids=[sets for sets, _ in NAMES])
def test_every_character_set_is_decoded_and_the_data_set_kept(dimse: Dimse, sets: str, name: str) -> None:
    found = data_set(SpecificCharacterSet=sets.split("\\"), PatientName=name)
    dimse.put(found)
    keys = {"StudyInstanceUID": found.StudyInstanceUID, "SpecificCharacterSet": "ISO_IR 192"}
    for asked in ("", name):
        (only,) = matches(dimse.find("STUDY", PatientName=asked, **keys))
        assert str(only.PatientName) == name
    (kept,) = dimse.kept(found)
    assert kept.endswith(encode(found))


def name_of(dimse: Dimse, sets: str, raw: bytes) -> str:
    """What a name is read as that is stored as these bytes."""
    study, sop_uid = uid(), uid()
    body = b"".join((
        text(0x00080005, "CS", sets), text(0x00080016, "UI", CT), text(0x00080018, "UI", sop_uid),
        element(0x00100010, "PN", raw + b" " * (len(raw) % 2)),
        text(0x0020000D, "UI", study), text(0x0020000E, "UI", uid()),
    ))  # fmt: skip
    with RawScu(dimse.address, CT, EXPLICIT) as scu:
        response = scu.store(sop_uid, body)
    assert response is not None
    assert response.Status == 0x0000
    (only,) = matches(dimse.find("STUDY", StudyInstanceUID=study, PatientName="", SpecificCharacterSet="ISO_IR 192"))
    return str(only.PatientName)


@claim("W5")
@pytest.mark.parametrize(("sets", "raw", "name"), BYTES, ids=[sets for sets, _, _ in BYTES])
def test_character_sets_are_decoded_with_their_escape_sequences(dimse: Dimse, sets: str, raw: bytes, name: str) -> None:
    assert name_of(dimse, sets, raw) == name


@claim("W6")
@pytest.mark.parametrize(
    ("sets", "raw", "name"),
    [
        ("ISO_IR 192", b"Doe\xff^Jane", "Doe\ufffd^Jane"),
        ("ISO_IR 999", "Müller^Eva".encode(), "Müller^Eva"),
        ("ISO_IR 999", "Müller^Eva".encode("latin-1"), "Müller^Eva"),
    ],
)
def test_decoding_does_not_fail(dimse: Dimse, sets: str, raw: bytes, name: str) -> None:
    assert name_of(dimse, sets, raw) == name
