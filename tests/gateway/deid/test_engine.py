"""The engine: one instance in, what may be shown of it out."""

from __future__ import annotations

import copy

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence

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
    data = written(instance((0x00081140, "SQ", [dataset((0x00081155, "UI", "1.2.3.9"))])))
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
