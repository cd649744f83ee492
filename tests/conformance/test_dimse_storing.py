"""Conformance statement 2.2 and 3.4: what is promised on storing, over DIMSE."""

from __future__ import annotations

import io
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from tests.conformance.claims import claim
from tests.conformance.made import rle
from tests.conformance.network import Dimse, matches
from tests.instances import CT, data_set, encode, uid
from tests.raw_scu import RawScu

MR = "1.2.840.10008.5.1.4.1.1.4"
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def same(found: Dataset, **attributes: Any) -> Dataset:
    """Other content under the UIDs of an instance, but for those that are given."""
    return data_set(**{**{each: found.get(each) for each in UIDS}, **attributes})


@claim("T1")
def test_what_is_acknowledged_is_found_at_once(dimse: Dimse) -> None:
    study = uid()
    for number in range(1, 6):
        dimse.put(data_set(StudyInstanceUID=study, InstanceNumber=number))
        (only,) = matches(dimse.find("STUDY", StudyInstanceUID=study, NumberOfStudyRelatedInstances=""))
        assert only.NumberOfStudyRelatedInstances == number


@claim("T2", "T3")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_data_sets_are_kept_byte_for_byte_behind_meta_information_of_the_gateways(dimse: Dimse, syntax: str) -> None:
    found = data_set()
    found.add_new(0x00091001, "LO", "what no dictionary knows")
    dimse.put(found, syntax=syntax, calling="CT1")
    (kept,) = dimse.kept(found)
    assert kept.endswith(encode(found, syntax))
    meta = pydicom.dcmread(io.BytesIO(kept)).file_meta
    assert kept[:128] == bytes(128)
    assert meta.TransferSyntaxUID == syntax
    assert meta.ImplementationClassUID == "2.25.278353180412966713158216087294190384257"
    assert meta.ImplementationVersionName == "DICOMWEB_GATEWAY"
    assert (meta.SourceApplicationEntityTitle, meta.SendingApplicationEntityTitle) == ("CT1", "CT1")
    assert meta.ReceivingApplicationEntityTitle == "GATEWAY"


@claim("T4")
def test_the_same_content_is_kept_once(dimse: Dimse) -> None:
    found = data_set()
    dimse.put(found, found)
    dimse.put(found, syntax=ImplicitVRLittleEndian)
    assert len(dimse.kept(found)) == 1


@claim("T9")
def test_the_same_data_compressed_is_kept_beside_what_goes_on_answering(dimse: Dimse) -> None:
    found = data_set()
    dimse.put(found)
    compressed = pydicom.dcmread(io.BytesIO(rle(**{each: found.get(each) for each in UIDS})))
    association = dimse.associate((CT, [RLELossless]))
    assert association.send_c_store(compressed).Status == 0x0000
    association.release()
    assert len(dimse.kept(found)) == 2
    (_, (got,)) = dimse.get("STUDY", StudyInstanceUID=found.StudyInstanceUID)
    assert got.PixelData == found.PixelData


@claim("T5")
def test_other_content_is_a_newer_version_which_then_answers(dimse: Dimse) -> None:
    first = data_set(SeriesDescription="first")
    newer = same(first, SeriesDescription="newer")
    dimse.put(first, newer)
    keys = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    (only,) = matches(dimse.find("SERIES", SeriesDescription="", **keys))
    assert only.SeriesDescription == "newer"
    (_, (got,)) = dimse.get("IMAGE", SOPInstanceUID=first.SOPInstanceUID, **keys)
    assert got.SeriesDescription == "newer"
    assert len(dimse.kept(first)) == 2


@claim("T6")
@pytest.mark.parametrize("contradiction", ["study", "series", "SOP class", "patient", "issuer"])
def test_what_contradicts_is_refused_and_changes_nothing(dimse: Dimse, contradiction: str) -> None:
    found = data_set(IssuerOfPatientID="HERE")
    dimse.put(found)
    elsewhere = {
        "study": same(found, StudyInstanceUID=uid()),
        "series": same(found, SeriesInstanceUID=uid()),
        "SOP class": same(found, SOPClassUID=MR),
        "patient": same(found, SOPInstanceUID=uid(), PatientID="T-2", IssuerOfPatientID="HERE"),
        "issuer": same(found, SOPInstanceUID=uid(), IssuerOfPatientID="THERE"),
    }[contradiction]
    (response,) = dimse.store(elsewhere, sop_class=elsewhere.SOPClassUID)
    assert response.Status == 0xC001
    assert any(each.endswith(encode(elsewhere)) for each in dimse.kept(elsewhere)), "it is in quarantine"
    (only,) = matches(dimse.find("STUDY", StudyInstanceUID=found.StudyInstanceUID, NumberOfStudyRelatedInstances=""))
    assert only.NumberOfStudyRelatedInstances == 1


@claim("T7", "B14")
@pytest.mark.parametrize(
    ("keyword", "tag"),
    [("StudyInstanceUID", 0x0020000D), ("SeriesInstanceUID", 0x0020000E)],
)
def test_a_uid_that_is_missing_is_named(dimse: Dimse, keyword: str, tag: int) -> None:
    (response,) = dimse.store(data_set(**{keyword: None}))
    assert (response.Status, response.OffendingElement) == (0xC000, tag)


@claim("T10")
def test_the_command_set_stands_in_for_uids_of_the_data_set(dimse: Dimse) -> None:
    found, sop_uid = data_set(SOPInstanceUID=None, SOPClassUID=None), uid()
    with RawScu(dimse.address, CT, ExplicitVRLittleEndian) as scu:
        response = scu.store(sop_uid, encode(found))
    assert response is not None
    assert response.Status == 0x0000
    keys = {"StudyInstanceUID": found.StudyInstanceUID, "SeriesInstanceUID": found.SeriesInstanceUID}
    (only,) = matches(dimse.find("IMAGE", SOPInstanceUID="", SOPClassUID="", **keys))
    assert (only.SOPInstanceUID, only.SOPClassUID) == (sop_uid, "")
    (last, received) = dimse.get("STUDY", StudyInstanceUID=found.StudyInstanceUID)
    assert (last.Status, len(received)) == (0x0000, 1)
    assert received[0].file_meta.MediaStorageSOPClassUID == CT


@claim("T8")
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_uids_with_leading_zeros_are_taken(dimse: Dimse) -> None:
    found = data_set(StudyInstanceUID=f"1.2.003.{uid()[5:30]}")
    dimse.put(found)
    (only,) = matches(dimse.find("STUDY", StudyInstanceUID=found.StudyInstanceUID))
    assert only.StudyInstanceUID == found.StudyInstanceUID


@claim("B1")
def test_error_comments_are_short_and_say_nothing_of_the_patient(dimse: Dimse) -> None:
    found = data_set(PatientName="Marked^Person", PatientID="MARKED-1")
    dimse.put(found)
    broken = data_set(StudyInstanceUID=None, PatientName="Marked^Person")
    elsewhere = data_set(SOPInstanceUID=found.SOPInstanceUID, PatientName="Marked^Person")
    answers = [
        *dimse.store(broken, elsewhere),
        *dimse.store(data_set(PatientName="Marked^Person"), calling="MR_READER"),
    ]
    assert [each.Status for each in answers] == [0xC000, 0xC001, 0x0124]
    for each in answers:
        assert 0 < len(each.ErrorComment) <= 64
        assert "marked" not in each.ErrorComment.lower()


@claim("B15")
def test_a_tenant_that_is_full_is_out_of_resources(dimse: Dimse) -> None:
    first, second = data_set(), data_set()
    assert [each.Status for each in dimse.store(first, second, calling="CROWDED")] == [0x0000, 0xA700]
    assert matches(dimse.find("STUDY", StudyInstanceUID=second.StudyInstanceUID, calling="CROWDED")) == []
    dimse.put(data_set())
