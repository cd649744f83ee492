"""The engine: one instance in, what may be shown of it out."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from gateway.deid import Done, Option, Profile, deidentify
from gateway.errors import NotDeidentified
from storage.dicom.limits import Limits
from tests.gateway.deid.made import PATIENT, PSEUDONYMS, dataset, instance, read, through, written


def test_a_ct_instance_of_the_basic_profile_tells_nothing_of_the_patient() -> None:
    source = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    found = deidentify(source, Profile(), PSEUDONYMS, PATIENT)
    data = found.part10()
    for value in (source.PatientName, source.PatientID, source.StudyInstanceUID, source.SOPInstanceUID, "JFK IMAGING"):
        assert str(value).encode() not in data
    again = read(data)
    assert again.PixelData == source.PixelData
    assert again.PatientID == PATIENT.id
    assert again.PatientName == PATIENT.name
    assert again.SOPInstanceUID == PSEUDONYMS.uid(source.SOPInstanceUID) == again.file_meta.MediaStorageSOPInstanceUID
    assert again.PatientIdentityRemoved == "YES"
    assert again.LongitudinalTemporalInformationModified == "REMOVED"
    assert [item.CodeValue for item in again.DeidentificationMethodCodeSequence] == ["113100"]


def test_the_input_stays_as_it_is_and_the_output_is_always_the_same() -> None:
    references = [dataset((0x00081155, "UI", "1.2.3.9"))]
    data = written(instance((0x00081115, "SQ", references), (0x00080050, "SH", ""), (0x00080070, "LO", None)))
    source = read(data)
    before = copy.deepcopy(source)
    raw = {int(tag): source.get_item(tag).is_raw for tag in source.keys()}  # noqa: SIM118
    first = deidentify(source, Profile(), PSEUDONYMS, PATIENT).part10()
    assert {int(tag): source.get_item(tag).is_raw for tag in source.keys()} == raw  # noqa: SIM118
    assert source == before
    assert deidentify(read(data), Profile(), PSEUDONYMS, PATIENT).part10() == first


def test_once_more_changes_nothing_but_pseudonyms() -> None:
    options = frozenset((Option.RETAIN_UIDS, Option.CLEAN_DESCRIPTORS, Option.CLEAN_STRUCTURED_CONTENT))
    for name in ("CT_small.dcm", "reportsi.dcm", "rtplan.dcm", "liver_1frame.dcm"):
        source = pydicom.dcmread(get_testdata_file(name, download=False))
        once = deidentify(source, Profile(options), PSEUDONYMS, PATIENT).part10()
        assert deidentify(read(once), Profile(options), PSEUDONYMS, PATIENT).part10() == once


def test_an_instance_without_its_pixel_data_is_taken() -> None:
    source = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    whole = deidentify(source, Profile(), PSEUDONYMS, PATIENT).dataset
    del source.PixelData
    header = deidentify(source, Profile(), PSEUDONYMS, PATIENT).dataset
    del whole.PixelData
    assert header.to_json_dict() == whole.to_json_dict()


def test_every_attribute_has_its_outcome() -> None:
    found = through(instance((0x00080080, "LO", "Clinic"), (0x00280010, "US", 1), (0x00091001, "LO", "x")))
    assert {outcome.path: outcome.done for outcome in found.outcomes} == {
        (0x00080016,): Done.KEPT,
        (0x00080018,): Done.PSEUDONYM,
        (0x00080080,): Done.REMOVED,
        (0x00091001,): Done.REMOVED,
        (0x00100010,): Done.PSEUDONYM,
        (0x00100020,): Done.PSEUDONYM,
        (0x0020000D,): Done.PSEUDONYM,
        (0x0020000E,): Done.PSEUDONYM,
        (0x00280010,): Done.KEPT,
    }


def test_a_path_is_told_as_the_standard_writes_tags() -> None:
    found = through(
        instance((0x00400275, "SQ", [dataset((0x00400007, "LO", "Head"))])),
        Option.CLEAN_DESCRIPTORS,
    )
    assert "(0040,0275).(0040,0007)" in [outcome.place() for outcome in found.outcomes]


def nested(depth: int) -> Dataset:
    inner = dataset((0x00081155, "UI", "1.2.3"))
    for _ in range(depth):
        inner = dataset((0x00081115, "SQ", Sequence([inner])))
    return inner


def test_sequences_nested_beyond_the_limit_are_refused() -> None:
    source = instance((0x00081115, "SQ", [nested(10)]))
    through(source, limits=Limits(max_depth=11))
    with pytest.raises(NotDeidentified, match="too deeply"):
        through(source, limits=Limits(max_depth=10))


def test_more_elements_than_the_limit_are_refused() -> None:
    with pytest.raises(NotDeidentified, match="too many"):
        through(instance(), limits=Limits(max_elements=5))


class Finds:
    """Takes one word out of whatever it is given."""

    def clean(self, text: str, /) -> str:
        return text.replace("Doe", "[...]")


def test_text_that_the_profile_keeps_is_searched_where_that_is_asked_for() -> None:
    source = instance(
        (0x00080005, "CS", "ISO_IR 192"),
        (0x00080070, "LO", "Doe & Söhne"),
        (0x00081090, "LO", "Model"),
        (0x00420010, "ST", "Letter about Doe"),
        (0x00180050, "DS", "1.5"),
    )
    kept = through(source).dataset
    assert kept.DocumentTitle == "Letter about Doe"
    found = read(through(source, kept_text=Finds()).part10())
    assert found.DocumentTitle == "Letter about [...]"
    assert found.Manufacturer == "[...] & Söhne"
    assert found.ManufacturerModelName == "Model"
    assert found.SliceThickness == 1.5


def test_text_without_a_cleaner_does_not_stay() -> None:
    source = instance((0x00081030, "LO", "Knee of Doe"), (0x300A0002, "SH", "Doe"), (0x30060026, "LO", "Doe"))
    nothing = through(source, Option.CLEAN_DESCRIPTORS).dataset
    assert "StudyDescription" not in nothing
    assert nothing.RTPlanLabel == "REMOVED"
    assert not nothing.ROIName
    something = through(source, Option.CLEAN_DESCRIPTORS, cleaner=Finds()).dataset
    assert something.StudyDescription == "Knee of [...]"


def test_names_in_other_alphabets_do_not_hinder() -> None:
    source = instance((0x00080005, "CS", ["", "ISO 2022 IR 87"]), (0x00081030, "LO", "検査"))
    source[0x00100010].value = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    found = read(through(source, Option.CLEAN_DESCRIPTORS, cleaner=Finds()).part10())
    assert found.StudyDescription == "検査"
    assert found.PatientName == PATIENT.name


def test_a_date_that_is_none_is_removed_and_told() -> None:
    source = instance((0x00080020, "DA", "2024-01-01"), (0x00080021, "DA", "Doe"), (0x00080030, "TM", "late"))
    found = through(source, Option.RETAIN_MODIFIED_DATES)
    assert not found.dataset.StudyDate
    assert "SeriesDate" not in found.dataset
    assert not found.dataset.StudyTime
    assert found.warnings[0] == "(0008,0020) is no DA, so it could not be shifted"
    assert not any("Doe" in warning for warning in found.warnings)


def test_intervals_between_studies_of_a_patient_stay() -> None:
    dates = [
        through(instance((0x00080020, "DA", text)), Option.RETAIN_MODIFIED_DATES).dataset.StudyDate
        for text in ("20231231", "20240101", "20240301")
    ]
    days = [date.fromisoformat(text) for text in dates]
    assert [(each - days[0]).days for each in days] == [0, 1, 61]


def test_an_age_above_90_is_90_where_ages_stay() -> None:
    keep = Option.RETAIN_PATIENT_CHARACTERISTICS
    assert through(instance((0x00101010, "AS", "097Y")), keep).dataset.PatientAge == "090Y"
    assert through(instance((0x00101010, "AS", "045Y")), keep).dataset.PatientAge == "045Y"
    assert "PatientAge" not in through(instance((0x00101010, "AS", "old")), keep).dataset


def test_another_patient_in_a_sequence_is_another_pseudonym() -> None:
    group = [dataset((0x00100020, "LO", "MRN-1")), dataset((0x00100020, "LO", "MRN-2"))]
    found = through(instance((0x00100027, "SQ", group))).dataset.GroupOfPatientsIdentificationSequence
    assert found[0].PatientID == PATIENT.id
    assert found[1].PatientID == f"P{PSEUDONYMS.label('PatientID', 'MRN-2')}"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (RawDataElement(BaseTag(0x00080070), "ZZ", 2, b"ab", 0, False, True, True), "VR that does not exist"),
        (RawDataElement(BaseTag(0x00080070), "LO", 2, None, 0, False, True, True), "without some of its values"),
    ],
)
def test_an_element_that_cannot_be_read_is_refused(changed: RawDataElement, reason: str) -> None:
    source = read(written(instance()))
    source[0x00080070] = changed
    with pytest.raises(NotDeidentified, match=reason):
        deidentify(source, Profile(), PSEUDONYMS, PATIENT)


def test_a_transfer_syntax_that_is_none_is_refused() -> None:
    with pytest.raises(NotDeidentified, match="transfer syntax"):
        through(instance(), transfer_syntax_uid="Doe")


# What pydicom raises of a file that it cannot read at all; it never comes to the engine.
BROKEN = (
    ValueError, OSError, EOFError, NotImplementedError, KeyError, TypeError, AttributeError, BytesLengthException
)  # fmt: skip
EDITS = st.lists(st.tuples(st.integers(132, 3000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=8)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["CT_small.dcm", "reportsi.dcm", "MR_small_bigendian.dcm"]), EDITS)
def test_a_damaged_file_comes_out_readable_or_is_refused(name: str, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(Path(get_testdata_file(name, download=False)).read_bytes())
    for at, new in edits:
        data[at : at + len(new)] = new
    try:
        source = read(bytes(data))
    except BROKEN:
        return
    try:
        found = deidentify(source, Profile(frozenset(Option)), PSEUDONYMS, PATIENT)
    except NotDeidentified:
        return
    read(found.part10())
