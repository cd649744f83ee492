"""Segmentation of the lesion on the CT slices that show it, and its measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.uid import SegmentationStorage

from sample_dicom.anatomy.brain import lesion_coverage
from sample_dicom.codes import BRAIN, code, reference
from sample_dicom.ct import AXIAL, GRID, PIXEL_SPACING_MM, SLICE_STEP_MM
from sample_dicom.patients import HEAD_CT, HEAD_FRAME_OF_REFERENCE_UID
from sample_dicom.uids import sample_uid
from sample_dicom.writer import Series, write

LESION = Series(HEAD_CT, "lesion_seg", 3, "SEG", "Lesion", "093500")
_DIMENSIONS_UID = sample_uid("lesion dimensions")


@dataclass(frozen=True, slots=True)
class Measurement:
    """Size of the lesion; ``widest`` is the index of the CT slice the long axis lies in."""

    volume_ml: float
    long_axis_mm: float
    widest: int


def lesion_mask() -> NDArray[np.bool_]:
    """Return the voxels of the CT that are mostly lesion, shape (slices, rows, columns)."""
    return lesion_coverage(GRID) > 0.5


def measure(mask: NDArray[np.bool_]) -> Measurement:
    """Measure a mask of shape (slices, rows, columns) on the CT's grid."""
    widest = int(mask.sum(axis=(1, 2)).argmax())
    points = np.argwhere(mask[widest]) * PIXEL_SPACING_MM
    distances = np.linalg.norm(points[:, None] - points[None, :], axis=2)
    return Measurement(
        volume_ml=float(mask.sum()) * PIXEL_SPACING_MM**2 * SLICE_STEP_MM / 1000.0,
        long_axis_mm=float(distances.max()),
        widest=widest,
    )


def write_seg(studies: Path, mask: NDArray[np.bool_], ct_instances: list[Dataset]) -> Dataset:
    """Write a binary Segmentation with one frame per CT slice that shows the lesion, and return it."""
    shown = [int(index) for index in np.flatnonzero(mask.any(axis=(1, 2)))]
    dataset = LESION.instance(SegmentationStorage, 1)
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.FrameOfReferenceUID = HEAD_FRAME_OF_REFERENCE_UID
    dataset.PositionReferenceIndicator = ""
    dataset.ContentLabel = "LESION"
    dataset.ContentDescription = "Ring-enhancing lesion, left parietal lobe"
    dataset.ContentCreatorName = "Sample^Generator"
    dataset.SegmentationType = "BINARY"
    dataset.SegmentSequence = [_segment()]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"

    series = Dataset()
    series.SeriesInstanceUID = HEAD_CT.series_uid(AXIAL.folder)
    series.ReferencedInstanceSequence = [reference(ct_instances[index]) for index in shown]
    dataset.ReferencedSeriesSequence = [series]

    organization = Dataset()
    organization.DimensionOrganizationUID = _DIMENSIONS_UID
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionOrganizationType = "3D"
    dataset.DimensionIndexSequence = [
        _dimension("ReferencedSegmentNumber", "SegmentIdentificationSequence", "Segment"),
        _dimension("ImagePositionPatient", "PlanePositionSequence", "Position"),
    ]
    dataset.SharedFunctionalGroupsSequence = [_shared_groups()]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame_groups(ct_instances[index], position) for position, index in enumerate(shown, start=1)
    ]

    dataset.NumberOfFrames = len(shown)
    dataset.Rows, dataset.Columns = mask.shape[1:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 1
    dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.PixelRepresentation = 0
    dataset.PixelData = pack_bits(mask[shown].astype(np.uint8))
    dataset["PixelData"].VR = "OB"
    write(dataset, LESION, studies)
    return dataset


def _segment() -> Dataset:
    segment = Dataset()
    segment.SegmentNumber = 1
    segment.SegmentLabel = "Lesion"
    segment.SegmentDescription = "Ring-enhancing lesion"
    segment.SegmentAlgorithmType = "AUTOMATIC"
    segment.SegmentAlgorithmName = "sample_dicom"
    segment.SegmentedPropertyCategoryCodeSequence = [code("49755003", "SCT", "Morphologically Abnormal Structure")]
    segment.SegmentedPropertyTypeCodeSequence = [code("52988006", "SCT", "Lesion")]
    segment.AnatomicRegionSequence = [code(*BRAIN)]
    # A warm red, as scaled CIELab (PS3.3 C.10.7.1.1).
    segment.RecommendedDisplayCIELabValue = [34885, 50629, 44975]
    segment.TrackingID = "Lesion 1"
    segment.TrackingUID = sample_uid("lesion")
    return segment


def _dimension(index: str, group: str, label: str) -> Dataset:
    dimension = Dataset()
    dimension.DimensionOrganizationUID = _DIMENSIONS_UID
    dimension.DimensionIndexPointer = tag_for_keyword(index)
    dimension.FunctionalGroupPointer = tag_for_keyword(group)
    dimension.DimensionDescriptionLabel = label
    return dimension


def _shared_groups() -> Dataset:
    measures = Dataset()
    measures.PixelSpacing = [PIXEL_SPACING_MM, PIXEL_SPACING_MM]
    measures.SliceThickness = SLICE_STEP_MM
    measures.SpacingBetweenSlices = SLICE_STEP_MM
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    segment = Dataset()
    segment.ReferencedSegmentNumber = 1
    groups = Dataset()
    groups.PixelMeasuresSequence = [measures]
    groups.PlaneOrientationSequence = [orientation]
    groups.SegmentIdentificationSequence = [segment]
    return groups


def _frame_groups(source: Dataset, position: int) -> Dataset:
    content = Dataset()
    content.DimensionIndexValues = [1, position]
    plane = Dataset()
    plane.ImagePositionPatient = source.ImagePositionPatient
    image = reference(source)
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [code("121322", "DCM", "Source image for image processing operation")]
    derivation = Dataset()
    derivation.SourceImageSequence = [image]
    derivation.DerivationCodeSequence = [code("113076", "DCM", "Segmentation")]
    groups = Dataset()
    groups.FrameContentSequence = [content]
    groups.PlanePositionSequence = [plane]
    groups.DerivationImageSequence = [derivation]
    return groups
