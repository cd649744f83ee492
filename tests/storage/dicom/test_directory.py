"""DICOMDIR: links, kinds of records, odd values."""

from __future__ import annotations

import io

import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    TwelveLeadECGWaveformStorage,
)

from storage.dicom.directory import Directory, Member, record_type

CT = str(CTImageStorage)


def member(number: int, *, patient: str = "P", study: str = "1.2", series: str = "1.3") -> Member:
    data_set = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Buc^Jérôme", "Ideographic": "山田"}]},
        "00100020": {"vr": "LO", "Value": [patient]},
        "0020000D": {"vr": "UI", "Value": [study]},
        "0020000E": {"vr": "UI", "Value": [series]},
        "00200013": {"vr": "IS", "Value": [number]},
    }
    return Member(("DICOM", f"I{number}"), CT, f"1.2.3.{number}", "1.2.840.10008.1.2.1", data_set)


def read(directory: Directory) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(directory.dumps("seed")))


def walk(found: pydicom.FileDataset) -> list[object]:
    """The tree that following the offsets gives, as nested lists of record types and instance numbers."""
    records = {item.seq_item_tell: item for item in found.DirectoryRecordSequence}

    def level(offset: int) -> list[object]:
        result: list[object] = []
        while offset:
            record = records[offset]
            lower = record.OffsetOfReferencedLowerLevelDirectoryEntity
            name = record.get("InstanceNumber") or record.DirectoryRecordType
            result.append([name, *level(lower)] if lower else name)
            offset = record.OffsetOfTheNextDirectoryRecord
        return result

    return level(found.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity)


def test_following_the_offsets_gives_the_tree() -> None:
    directory = Directory()
    for each in (
        member(1),
        member(2),
        member(3, series="1.4"),
        member(4, study="1.5", series="1.6"),
        member(5, patient="Q", study="1.7", series="1.6"),
    ):
        directory.add(each)
    found = read(directory)
    assert walk(found) == [
        ["PATIENT", ["STUDY", ["SERIES", 1, 2], ["SERIES", 3]], ["STUDY", ["SERIES", 4]]],
        ["PATIENT", ["STUDY", ["SERIES", 5]]],
    ]
    last = found.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity
    (record,) = [item for item in found.DirectoryRecordSequence if item.seq_item_tell == last]
    assert (record.DirectoryRecordType, record.PatientID) == ("PATIENT", "Q")
    assert str(found.DirectoryRecordSequence[0].PatientName) == "Buc^Jérôme=山田"
    assert found.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.1.3.10"


def test_an_empty_directory_is_one() -> None:
    found = read(Directory())
    assert (list(found.DirectoryRecordSequence), walk(found)) == ([], [])


def test_a_value_that_is_not_of_its_form_is_left_empty() -> None:
    odd = member(1)
    odd.data_set["00200013"] = {"vr": "IS", "Value": [{"no": "number"}]}
    odd.data_set["00100020"] = {"vr": "UN", "InlineBinary": "AAAA"}
    directory = Directory()
    directory.add(odd)
    found = read(directory)
    assert found.DirectoryRecordSequence[-1]["InstanceNumber"].value in (None, "")
    assert not found.DirectoryRecordSequence[0].PatientID


@pytest.mark.parametrize(
    ("sop_class_uid", "kind"),
    [
        (CTImageStorage, "IMAGE"),
        (SegmentationStorage, "IMAGE"),
        (RTDoseStorage, "RT DOSE"),
        (RTStructureSetStorage, "RT STRUCTURE SET"),
        (RTPlanStorage, "RT PLAN"),
        (EnhancedSRStorage, "SR DOCUMENT"),
        (KeyObjectSelectionDocumentStorage, "KEY OBJECT DOC"),
        (EncapsulatedPDFStorage, "ENCAP DOC"),
        (GrayscaleSoftcopyPresentationStateStorage, "PRESENTATION"),
        (TwelveLeadECGWaveformStorage, "WAVEFORM"),
        ("1.2.3", "IMAGE"),
    ],
)
def test_records_are_of_the_kind_of_their_sop_class(sop_class_uid: str, kind: str) -> None:
    assert record_type(sop_class_uid) == kind
