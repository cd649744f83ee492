"""The study that the kit makes: small, under UIDs that nobody else has, of a patient that nobody takes for one."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

CT = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.2"
EXPLICIT, RLE = str(ExplicitVRLittleEndian), str(RLELossless)

FAMILY_NAME = "ZZ-CONFORMANCE-KIT"
PATIENT_NAME = f"{FAMILY_NAME}^Nöbody"
STUDY_DATE = "20000102"
STEP_ID = "KIT-STEP-1"
SIDE, FRAMES = 16, 3


@dataclass(frozen=True, slots=True)
class Made:
    """The study: two instances of CT in a series, one of several frames, one that is compressed."""

    patient_id: str
    study_uid: str
    plain: tuple[Dataset, Dataset]
    frames: Dataset
    compressed: Dataset


def uid() -> str:
    """A UID that nobody else has (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def make() -> Made:
    """A study that is not at any server yet."""
    token = uuid.uuid4().hex[:8].upper()
    study = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": PATIENT_NAME,
        "PatientID": f"CONFORMANCE-KIT-{token}",
        "PatientBirthDate": "19000101",
        "PatientSex": "O",
        "StudyInstanceUID": uid(),
        "StudyDate": STUDY_DATE,
        "StudyTime": "101500",
        "StudyID": token,
        "StudyDescription": "Made by a conformance kit: delete it",
        "AccessionNumber": f"KIT{token}",
        # Without a value, for what is to be found by that.
        "ReferringPhysicianName": "",
    }
    series = uid()
    step = Dataset()
    step.ScheduledProcedureStepID = STEP_ID
    step.RequestedProcedureID = "KIT-REQUEST-1"
    gray_16 = _pixels(16, bytes(value % 251 for value in range(SIDE * SIDE * 2)))
    plain = tuple(
        instance(
            study, SOPClassUID=CT, Modality="CT", SeriesInstanceUID=series, SeriesNumber=1, InstanceNumber=number,
            SeriesDescription="plain", RequestAttributesSequence=[step], **gray_16,
        )
        for number in (1, 2)
    )  # fmt: skip
    gray_8 = _pixels(8, bytes(value % 251 for value in range(SIDE * SIDE * FRAMES)))
    frames = instance(
        study, SOPClassUID=MULTI_FRAME, Modality="OT", SeriesInstanceUID=uid(), SeriesNumber=2, InstanceNumber=1,
        SeriesDescription="frames", NumberOfFrames=FRAMES, **gray_8,
    )  # fmt: skip
    compressed = instance(
        study, SOPClassUID=SECONDARY_CAPTURE, Modality="OT", SeriesInstanceUID=uid(), SeriesNumber=3, InstanceNumber=1,
        SeriesDescription="compressed", **_pixels(8, bytes(range(256))),
    )  # fmt: skip
    compressed.compress(RLELossless, generate_instance_uid=False)
    return Made(study["PatientID"], study["StudyInstanceUID"], (plain[0], plain[1]), frames, compressed)


def instance(study: dict[str, Any], **attributes: Any) -> Dataset:
    """An instance of a study, under a UID of its own unless ``attributes`` have it."""
    found = Dataset()
    for keyword, value in {"SOPInstanceUID": uid(), **study, **attributes}.items():
        setattr(found, keyword, value)
    if "PixelData" in found:
        found["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = found.SOPClassUID
    meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    meta.TransferSyntaxUID = UID(EXPLICIT)
    found.file_meta = meta
    return found


def another(made: Made, **attributes: Any) -> Dataset:
    """One more instance like the first, under a UID of its own; it is in the study unless ``attributes`` say other."""
    like = {each.keyword: each.value for each in made.plain[0] if each.keyword != "SOPInstanceUID"}
    return instance(like, **{"InstanceNumber": 9, **attributes})


def written(found: Dataset) -> bytes:
    """A Part 10 file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, found, enforce_file_format=True)
    return buffer.getvalue()


def _pixels(bits: int, values: bytes) -> dict[str, Any]:
    return {
        "Rows": SIDE,
        "Columns": SIDE,
        "SamplesPerPixel": 1,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": values,
    }
