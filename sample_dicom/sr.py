"""Structured report of the lesion: what was seen, how large, and on which images."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage

from sample_dicom.codes import code, reference
from sample_dicom.ct import AXIAL
from sample_dicom.patients import HEAD_CT, INSTITUTION
from sample_dicom.seg import LESION, Measurement
from sample_dicom.writer import Series, write

REPORT = Series(HEAD_CT, "report_sr", 4, "SR", "Report", "100000")


def write_sr(studies: Path, lesion: Measurement, ct_instances: list[Dataset], seg: Dataset) -> None:
    """Write a Comprehensive SR that measures the lesion on the CT slice that shows it widest."""
    slice_shown = ct_instances[lesion.widest]
    dataset = REPORT.instance(ComprehensiveSRStorage, 1)
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "VERIFIED"
    dataset.VerifyingObserverSequence = [_verifier()]
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(slice_shown, seg)]

    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [code("18748-4", "LN", "Diagnostic Imaging Report")]
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ContentSequence = [
        _coded(
            "HAS CONCEPT MOD",
            ("121049", "DCM", "Language of Content Item and Descendants"),
            ("en", "RFC5646", "English"),
        ),
        _coded("HAS OBS CONTEXT", ("121005", "DCM", "Observer Type"), ("121006", "DCM", "Person")),
        _person("HAS OBS CONTEXT", ("121008", "DCM", "Person Observer Name"), "Reader^Sample"),
        _section(("121070", "DCM", "Findings"), _findings(lesion, slice_shown, seg)),
        _section(
            ("121072", "DCM", "Impressions"),
            [
                _text(
                    ("121073", "DCM", "Impression"),
                    "Single ring-enhancing lesion of the left parietal lobe with perifocal oedema. "
                    "Synthetic data: this patient does not exist.",
                )
            ],
        ),
    ]
    write(dataset, REPORT, studies)


def _findings(lesion: Measurement, slice_shown: Dataset, seg: Dataset) -> list[Dataset]:
    long_axis = _number(
        ("103339001", "SCT", "Long Axis"), lesion.long_axis_mm, ("mm", "UCUM", "millimeter"), slice_shown
    )
    volume = _number(("118565006", "SCT", "Volume"), lesion.volume_ml, ("cm3", "UCUM", "cubic centimeter"), seg)
    seen = _text(
        ("121071", "DCM", "Finding"),
        f"Ring-enhancing lesion in the left parietal lobe, {lesion.long_axis_mm:.0f} mm in long axis, "
        f"{lesion.volume_ml:.1f} ml. No midline shift. The left lateral ventricle is compressed.",
    )
    return [seen, long_axis, volume]


def _verifier() -> Dataset:
    observer = Dataset()
    observer.VerifyingObserverName = "Reader^Sample"
    observer.VerifyingObserverIdentificationCodeSequence = []
    observer.VerifyingOrganization = INSTITUTION
    observer.VerificationDateTime = HEAD_CT.date + REPORT.time
    return observer


def _evidence(slice_shown: Dataset, seg: Dataset) -> Dataset:
    series_items = []
    for series, instance in ((AXIAL, slice_shown), (LESION, seg)):
        item = Dataset()
        item.SeriesInstanceUID = HEAD_CT.series_uid(series.folder)
        item.ReferencedSOPSequence = [reference(instance)]
        series_items.append(item)
    study = Dataset()
    study.StudyInstanceUID = HEAD_CT.study_uid
    study.ReferencedSeriesSequence = series_items
    return study


def _item(relationship: str, value_type: str, concept: tuple[str, str, str]) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [code(*concept)]
    return item


def _section(concept: tuple[str, str, str], content: list[Dataset]) -> Dataset:
    item = _item("CONTAINS", "CONTAINER", concept)
    item.ContinuityOfContent = "SEPARATE"
    item.ContentSequence = content
    return item


def _coded(relationship: str, concept: tuple[str, str, str], value: tuple[str, str, str]) -> Dataset:
    item = _item(relationship, "CODE", concept)
    item.ConceptCodeSequence = [code(*value)]
    return item


def _person(relationship: str, concept: tuple[str, str, str], name: str) -> Dataset:
    item = _item(relationship, "PNAME", concept)
    item.PersonName = name
    return item


def _text(concept: tuple[str, str, str], text: str) -> Dataset:
    item = _item("CONTAINS", "TEXT", concept)
    item.TextValue = text
    return item


def _number(concept: tuple[str, str, str], value: float, unit: tuple[str, str, str], source: Dataset) -> Dataset:
    item = _item("CONTAINS", "NUM", concept)
    measured = Dataset()
    measured.MeasurementUnitsCodeSequence = [code(*unit)]
    measured.NumericValue = f"{value:.1f}"
    item.MeasuredValueSequence = [measured]
    image = Dataset()
    image.RelationshipType = "INFERRED FROM"
    image.ValueType = "IMAGE"
    image.ReferencedSOPSequence = [reference(source)]
    if "NumberOfFrames" in source:
        image.ReferencedSOPSequence[0].ReferencedSegmentNumber = 1
    item.ContentSequence = [image]
    return item
