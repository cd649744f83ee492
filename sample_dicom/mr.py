"""T1-weighted MR of the same head as the CT, in the same frame of reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import JPEGLSLossless, MRImageStorage

from sample_dicom.anatomy.grid import axial_grid
from sample_dicom.anatomy.head import head
from sample_dicom.anatomy.layers import Tissue, paint
from sample_dicom.noise import blurred, grain
from sample_dicom.patients import HEAD_FRAME_OF_REFERENCE_UID, HEAD_MR
from sample_dicom.writer import Series, describe_pixels, write

PIXEL_SPACING_MM = 0.95
SLICE_STEP_MM = 5.0
SLICE_THICKNESS_MM = 4.5
GRID = axial_grid(
    columns=256,
    rows=256,
    pixel_spacing_mm=PIXEL_SPACING_MM,
    first_z_mm=-45.0,
    slices=28,
    z_step_mm=SLICE_STEP_MM,
)
T1 = Series(HEAD_MR, "t1_axial", 1, "MR", "T1 axial", "134500")

# Arbitrary units, after the order of tissues in a T1-weighted spin echo.
SIGNAL = {
    Tissue.AIR: 0.0,
    Tissue.SKIN: 420.0,
    Tissue.FAT: 960.0,
    Tissue.MUSCLE: 330.0,
    Tissue.MUCOSA: 380.0,
    Tissue.CORTICAL_BONE: 45.0,
    Tissue.MARROW: 520.0,
    Tissue.TOOTH: 20.0,
    Tissue.CSF: 130.0,
    Tissue.GREY_MATTER: 410.0,
    Tissue.WHITE_MATTER: 600.0,
    Tissue.CEREBELLUM: 430.0,
    Tissue.DURA: 250.0,
    Tissue.VENOUS_BLOOD: 110.0,
    Tissue.CALCIFICATION: 150.0,
    Tissue.VITREOUS: 150.0,
    Tissue.LENS: 330.0,
    Tissue.OEDEMA: 360.0,
    Tissue.LESION_RIM: 470.0,
    Tissue.LESION_CORE: 210.0,
}


def signal_volume() -> NDArray[np.uint16]:
    """Return the stored magnitude signal, shape (slices, rows, columns), below 4096."""
    x, y, z = GRID.axes()
    # The head coil receives the rim of the head better than the middle.
    sensitivity = 0.86 + 0.2 * ((x / 95.0) ** 2 + (y / 110.0) ** 2) - 0.0006 * np.clip(-z, 0.0, None)
    volume = blurred(paint(GRID, head(GRID), SIGNAL) * sensitivity, 0.6)
    real = volume + 15.0 * grain(GRID.shape, 0.55, seed=51)
    imaginary = 15.0 * grain(GRID.shape, 0.55, seed=52)
    return np.clip(np.rint(np.hypot(real, imaginary)), 0, 4095).astype(np.uint16)


def write_mr(studies: Path) -> None:
    """Write the series in JPEG-LS without loss, feet first."""
    for number, (z, pixels) in enumerate(zip(GRID.z, signal_volume(), strict=True), start=1):
        dataset = T1.instance(MRImageStorage, number)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        dataset.AcquisitionNumber = 1
        dataset.AcquisitionDate = HEAD_MR.date
        dataset.AcquisitionTime = T1.time
        dataset.BodyPartExamined = "HEAD"
        dataset.PatientPosition = "HFS"
        dataset.PositionReferenceIndicator = ""
        dataset.FrameOfReferenceUID = HEAD_FRAME_OF_REFERENCE_UID
        dataset.PixelSpacing = [PIXEL_SPACING_MM, PIXEL_SPACING_MM]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [f"{value:.3f}" for value in (GRID.x[0], GRID.y[0], z)]
        dataset.SliceThickness = SLICE_THICKNESS_MM
        dataset.SpacingBetweenSlices = SLICE_STEP_MM
        dataset.SliceLocation = f"{z:.3f}"
        dataset.ScanningSequence = "SE"
        dataset.SequenceVariant = "NONE"
        dataset.ScanOptions = ""
        dataset.MRAcquisitionType = "2D"
        dataset.SequenceName = "t1_se"
        dataset.RepetitionTime = 520
        dataset.EchoTime = 11
        dataset.EchoTrainLength = 1
        dataset.FlipAngle = 90
        dataset.MagneticFieldStrength = 1.5
        dataset.WindowCenter = 400
        dataset.WindowWidth = 800
        # The JPEG-LS encoder codes 16 bits per sample, and Bits Stored must say the same.
        describe_pixels(dataset, pixels, bits_stored=16)
        write(dataset, T1, studies, JPEGLSLossless)
