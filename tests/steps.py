"""Scheduled and performed procedure steps as data sets."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from storage.dicom import file_meta, short
from storage.dicom.json_model import JsonDataSet
from storage.dicom.limits import Limits
from tests import instances


def scheduled(**attributes: Any) -> Dataset:
    """An item of the worklist: a CT of the first of December 2026; attributes of the step are told by their names."""
    found, item = Dataset(), Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.PatientID, found.PatientName = "W-1", "Gray^Dorian"
    found.PatientBirthDate, found.PatientSex = "19700102", "M"
    found.AccessionNumber, found.RequestedProcedureID = "A-1", "RP-1"
    found.StudyInstanceUID = instances.uid()
    item.ScheduledStationAETitle, item.Modality = "CT1", "CT"
    item.ScheduledProcedureStepStartDate, item.ScheduledProcedureStepStartTime = "20261201", "0900"
    item.ScheduledProcedureStepID, item.ScheduledProcedureStepDescription = "SPS-1", "Head"
    for keyword, value in attributes.items():
        setattr(item if keyword.startswith("Scheduled") or keyword == "Modality" else found, keyword, value)
    found.ScheduledProcedureStepSequence = [item]
    return found


def body(found: Dataset) -> JsonDataSet:
    """A data set in the DICOM JSON Model, as the gateway reads it."""
    return short.read(encoded(found), file_meta.EXPLICIT_VR_LITTLE_ENDIAN, Limits())


def encoded(found: Dataset) -> bytes:
    """In Explicit VR Little Endian, without File Meta Information."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, found)
    return bytes(file.getvalue())


def performed(order: Dataset, **attributes: Any) -> Dataset:
    """What a modality says when it begins what was scheduled."""
    found, request = Dataset(), Dataset()
    step = order.ScheduledProcedureStepSequence[0]
    request.StudyInstanceUID, request.AccessionNumber = order.StudyInstanceUID, order.AccessionNumber
    request.RequestedProcedureID = order.RequestedProcedureID
    request.ScheduledProcedureStepID = step.ScheduledProcedureStepID
    request.ScheduledProtocolCodeSequence = []
    found.ScheduledStepAttributesSequence = [request]
    found.SpecificCharacterSet = "ISO_IR 192"
    found.PatientID, found.PatientName = order.PatientID, order.PatientName
    found.PatientBirthDate, found.PatientSex = "", ""
    found.PerformedProcedureStepID, found.PerformedStationAETitle = "PPS-1", "CT1"
    found.PerformedProcedureStepStartDate, found.PerformedProcedureStepStartTime = "20261201", "090500"
    found.PerformedProcedureStepStatus, found.Modality = "IN PROGRESS", "CT"
    found.PerformedProcedureStepEndDate = found.PerformedProcedureStepEndTime = ""
    found.PerformedSeriesSequence = []
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def ended(status: str = "COMPLETED") -> Dataset:
    """What a modality says when it has done so."""
    found, series = Dataset(), Dataset()
    found.PerformedProcedureStepStatus = status
    found.PerformedProcedureStepEndDate, found.PerformedProcedureStepEndTime = "20261201", "091500"
    series.SeriesInstanceUID, series.ProtocolName = instances.uid(), "Head"
    series.PerformingPhysicianName = series.OperatorsName = series.SeriesDescription = ""
    series.RetrieveAETitle = ""
    series.ReferencedImageSequence = series.ReferencedNonImageCompositeSOPInstanceSequence = []
    found.PerformedSeriesSequence = [series]
    return found
