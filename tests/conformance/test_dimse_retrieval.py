"""Conformance statement 3.6 and 3.8: Retrieval, and what is sent to peers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts

from tests.conformance.claims import claim
from tests.conformance.made import rle
from tests.conformance.network import PATIENT_MOVE, Dimse, counts
from tests.instances import data_set, uid

PIXELS = (np.add.outer(np.arange(40), np.arange(56)) * 9).astype("<u2")


def study_of(dimse: Dimse, count: int, **attributes: Any) -> list[Dataset]:
    """Instances of one new series, stored."""
    shared = {"StudyInstanceUID": uid(), "SeriesInstanceUID": uid(), **attributes}
    found = [data_set(**shared) for _ in range(count)]
    dimse.put(*found)
    return found


def uids(found: list[Dataset]) -> set[str]:
    return {each.SOPInstanceUID for each in found}


def picture() -> Dataset:
    return data_set(Rows=40, Columns=56, PixelData=PIXELS.tobytes())


@claim("M17")
def test_keys_that_are_not_unique_are_passed_over(dimse: Dimse) -> None:
    stored = study_of(dimse, 2)
    (last, _) = dimse.move("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID, Modality="MR", PatientName="Nobody")
    assert (last.Status, *counts(last)) == (0x0000, 2, 0, 0)


@claim("M18")
@pytest.mark.parametrize(
    ("level", "keys"),
    [("PATIENT", {"PatientID": "A\\B"}), ("PATIENT", {"PatientID": "?"}), ("STUDY", {"StudyInstanceUID": "*"})],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_wildcards_and_lists_of_patients_are_refused(dimse: Dimse, level: str, keys: dict[str, str]) -> None:
    above = {"PatientID": "A"} if level == "STUDY" else {}
    (last, _) = dimse.move(level, PATIENT_MOVE, **above, **keys)
    assert last.Status == 0xA900


@claim("M19")
def test_what_is_not_there_is_no_sub_operation(dimse: Dimse) -> None:
    (last, failed) = dimse.move("STUDY", StudyInstanceUID=uid())
    assert (last.Status, *counts(last), failed) == (0x0000, 0, 0, 0, None)
    (last, received) = dimse.get("STUDY", StudyInstanceUID=uid())
    assert (last.Status, *counts(last), received) == (0x0000, 0, 0, 0, [])


@claim("M20")
def test_what_the_caller_may_not_see_is_no_sub_operation(dimse: Dimse) -> None:
    study = uid()
    study_of(dimse, 2, StudyInstanceUID=study)
    (seen,) = study_of(dimse, 1, StudyInstanceUID=study, Modality="MR")
    (last, _) = dimse.move("STUDY", StudyInstanceUID=study, calling="MR_READER")
    assert (last.Status, *counts(last)) == (0x0000, 1, 0, 0)
    assert uids(dimse.destination.received) == {seen.SOPInstanceUID}
    (last, _) = dimse.move("STUDY", StudyInstanceUID=study, calling="SENDER")
    assert last.Status == 0x0124


@claim("M21")
@pytest.mark.parametrize("taken", [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_it_is_compressed_without_loss_where_the_peer_takes_no_other(dimse: Dimse, taken: str) -> None:
    stored = picture()
    dimse.put(stored)
    (last, (received,)) = dimse.get("STUDY", StudyInstanceUID=stored.StudyInstanceUID, syntaxes=(taken,))
    assert (last.Status, *counts(last)) == (0x0000, 1, 0, 0)
    assert received.file_meta.TransferSyntaxUID == taken
    assert (received.pixel_array == PIXELS).all()


@claim("M22")
@pytest.mark.parametrize("taken", [JPEGBaseline8Bit, JPEGLSNearLossless, JPEG2000])
def test_nothing_is_compressed_with_loss(dimse: Dimse, taken: str) -> None:
    stored = picture()
    dimse.put(stored)
    (last, received) = dimse.get("STUDY", StudyInstanceUID=stored.StudyInstanceUID, syntaxes=(taken,))
    assert (last.Status, *counts(last), received) == (0xA702, 0, 1, 0, [])


@claim("M23")
def test_128_contexts_are_proposed_at_most_and_the_rest_over_another_association(dimse: Dimse) -> None:
    study, stored = uid(), []
    classes = [str(each.abstract_syntax) for each in AllStoragePresentationContexts[:66]]
    for number, sop_class in enumerate(classes):
        found = data_set(
            StudyInstanceUID=study, SeriesInstanceUID=f"{study}.{number // 33}", SOPClassUID=sop_class, Modality="OT"
        )
        dimse.put(found, sop_class=sop_class)
        stored.append(found)
    (last, _) = dimse.move("STUDY", StudyInstanceUID=study)
    assert (last.Status, *counts(last)) == (0x0000, 66, 0, 0)
    assert uids(dimse.destination.received) == uids(stored)
    proposed = [len(each.requested_contexts) for each in dimse.destination.requests]
    assert proposed == [66, 66]


@claim("M24")
def test_each_kind_has_a_context_as_stored_and_each_class_a_plain_one(dimse: Dimse) -> None:
    (plain,) = study_of(dimse, 1)
    compressed = pydicom.dcmread(io.BytesIO(rle(
        StudyInstanceUID=plain.StudyInstanceUID, SeriesInstanceUID=plain.SeriesInstanceUID,
    )))  # fmt: skip
    association = dimse.associate((compressed.SOPClassUID, [RLELossless]))
    assert association.send_c_store(compressed).Status == 0x0000
    association.release()
    (last, _) = dimse.move("STUDY", StudyInstanceUID=plain.StudyInstanceUID)
    assert last.Status == 0x0000
    (requestor,) = dimse.destination.requests
    *as_stored, together = [each.transfer_syntax for each in requestor.requested_contexts]
    assert sorted(as_stored) == [[ExplicitVRLittleEndian], [RLELossless]]
    assert together == [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


@claim("K6")
def test_associations_are_asked_for_under_our_title_and_with_our_length(dimse: Dimse) -> None:
    stored = study_of(dimse, 1)
    dimse.move("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID)
    (requestor,) = dimse.destination.requests
    assert (requestor.ae_title, requestor.maximum_length) == ("GATEWAY", 131_072)
    assert requestor.implementation_class_uid == "2.25.278353180412966713158216087294190384257"
    assert requestor.implementation_version_name == "DICOMWEB_GATEWAY"
    assert requestor.primitive.called_ae_title == "DEST"


STORED = [0x0000]
WARNED = [0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF]
FAILED = [0x0110, 0x0111, 0x0117, 0x0122, 0x0124, 0x0211, 0xA700, 0xA7FF, 0xA900, 0xC000, 0xCFFF, 0xFE00]


@claim("K7", "K8", "K9")
def test_every_status_of_a_peer_is_completed_a_warning_or_a_failure(dimse: Dimse) -> None:
    every = [*STORED, *WARNED, *FAILED]
    stored = study_of(dimse, len(every))
    dimse.destination.says.update(zip((each.SOPInstanceUID for each in stored), every, strict=True))
    (last, failed) = dimse.move("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID)
    assert (last.Status, *counts(last)) == (0xB000, len(STORED), len(FAILED), len(WARNED))
    assert failed is not None
    assert set(failed.FailedSOPInstanceUIDList) == uids(stored[len(STORED) + len(WARNED) :])
    assert len(dimse.destination.received) == len(every), "no failure is tried again"
    assert len(dimse.destination.requests) == 1


@claim("M25")
@pytest.mark.parametrize(
    ("says", "status"), [((0xB000, 0), 0xB000), ((0xA700, 0), 0xB000), ((0xA700, 0xA700), 0xA702), ((0, 0), 0x0000)]
)
def test_the_final_status_tells_all_some_and_none_apart(dimse: Dimse, says: tuple[int, int], status: int) -> None:
    stored = study_of(dimse, 2)
    dimse.destination.says.update(zip((each.SOPInstanceUID for each in stored), says, strict=True))
    (last, _) = dimse.move("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID)
    assert last.Status == status
