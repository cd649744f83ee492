"""CT of the head: an axial volume in Hounsfield units and the scout it was planned on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless

from sample_dicom.anatomy.grid import FloatArray, Grid, axial_grid
from sample_dicom.anatomy.head import head
from sample_dicom.anatomy.layers import WHOLE, Layer, Tissue, coverage, paint
from sample_dicom.noise import blurred, grain
from sample_dicom.patients import HEAD_CT, HEAD_FRAME_OF_REFERENCE_UID
from sample_dicom.uids import sample_uid
from sample_dicom.writer import Series, describe_pixels, write

PIXEL_SPACING_MM = 0.9
SLICE_STEP_MM = 3.0
GRID = axial_grid(
    columns=256,
    rows=256,
    pixel_spacing_mm=PIXEL_SPACING_MM,
    first_z_mm=-60.0,
    slices=52,
    z_step_mm=SLICE_STEP_MM,
)
AXIAL = Series(HEAD_CT, "axial", 2, "CT", "Head axial 3 mm", "092000")
SCOUT = Series(HEAD_CT, "scout", 1, "CT", "Scout lateral", "091600")

HOUNSFIELD = {
    Tissue.AIR: -1000.0,
    Tissue.SKIN: 40.0,
    Tissue.FAT: -95.0,
    Tissue.MUSCLE: 58.0,
    Tissue.MUCOSA: 38.0,
    Tissue.CORTICAL_BONE: 1150.0,
    Tissue.MARROW: 520.0,
    Tissue.TOOTH: 2200.0,
    Tissue.CSF: 7.0,
    Tissue.GREY_MATTER: 41.0,
    Tissue.WHITE_MATTER: 29.0,
    Tissue.CEREBELLUM: 40.0,
    Tissue.DURA: 62.0,
    Tissue.VENOUS_BLOOD: 115.0,
    Tissue.CALCIFICATION: 170.0,
    Tissue.VITREOUS: 8.0,
    Tissue.LENS: 85.0,
    Tissue.OEDEMA: 17.0,
    Tissue.LESION_RIM: 78.0,
    Tissue.LESION_CORE: 16.0,
    Tissue.HEADREST: 90.0,
}
_RESCALE_INTERCEPT = -1024


def write_scout(studies: Path) -> None:
    """Write the lateral scout, one uncompressed instance."""
    spacing, size, step = 0.9, 256, 1.5
    grid = Grid(
        x=np.arange(-90.0, 90.5, step),
        y=(np.arange(size, dtype=np.float64) - (size - 1) / 2) * spacing,
        z=110.0 - np.arange(size, dtype=np.float64) * spacing,
    )
    water = np.clip(paint(grid, head(grid), HOUNSFIELD) / 1000.0 + 1.0, 0.0, None)
    # Line integral through the head, shown as scouts are: edges sharpened, air near -1000.
    path_cm = water.sum(axis=2) * step / 10.0
    path_cm += 0.9 * (path_cm - blurred(path_cm, 6.0))
    scout = -1000.0 + 85.0 * path_cm + 5.0 * grain(path_cm.shape, 0.6, seed=41)

    dataset = _ct_instance(SCOUT, 1, ["ORIGINAL", "PRIMARY", "LOCALIZER"])
    dataset.PixelSpacing = [spacing, spacing]
    # Rows run from front to back, columns from head to feet, in the plane x = 0.
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    dataset.ImagePositionPatient = _decimals(0.0, grid.y[0], grid.z[0])
    dataset.SliceThickness = 180
    dataset.RescaleType = "US"  # unspecified
    dataset.WindowCenter = 100
    dataset.WindowWidth = 1800
    dataset.WindowCenterWidthExplanation = "SCOUT"
    describe_pixels(dataset, _stored(scout), bits_stored=12)
    write(dataset, SCOUT, studies, ExplicitVRLittleEndian)


def write_axial(studies: Path) -> list[Dataset]:
    """Write the axial series in JPEG 2000 without loss and return its instances, feet first."""
    instances = []
    for number, (z, pixels) in enumerate(zip(GRID.z, _stored(hounsfield_volume()), strict=True), start=1):
        dataset = _ct_instance(AXIAL, number, ["ORIGINAL", "PRIMARY", "AXIAL"])
        dataset.PixelSpacing = [PIXEL_SPACING_MM, PIXEL_SPACING_MM]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = _decimals(GRID.x[0], GRID.y[0], z)
        dataset.SliceThickness = SLICE_STEP_MM
        dataset.SpacingBetweenSlices = SLICE_STEP_MM
        dataset.SliceLocation = _decimals(z)[0]
        dataset.RescaleType = "HU"
        dataset.WindowCenter = [40, 600]
        dataset.WindowWidth = [80, 2800]
        dataset.WindowCenterWidthExplanation = ["BRAIN", "BONE"]
        dataset.ContrastBolusAgent = "Synthetic iodine"
        dataset.ContrastBolusRoute = "INTRAVENOUS"
        describe_pixels(dataset, pixels, bits_stored=12)
        write(dataset, AXIAL, studies, JPEG2000Lossless)
        instances.append(dataset)
    return instances


def hounsfield_volume() -> FloatArray:
    """Return the axial volume with blur and noise, in HU, shape (slices, rows, columns)."""
    layers = (*head(GRID), _headrest(GRID))
    volume = blurred(paint(GRID, layers, HOUNSFIELD), 0.55)
    x, y, _ = GRID.axes()
    # The rays through the middle of the head are the weakest, so the noise is strongest there.
    noise = 1.6 + 2.6 * np.exp(-((x / 75.0) ** 2) - ((y - 5.0) / 90.0) ** 2)
    volume += noise * grain(GRID.shape, 0.65, seed=42)
    return volume


def _headrest(grid: Grid) -> Layer:
    x, y, _ = grid.axes()
    radius = np.sqrt((x / 96.0) ** 2 + ((y - 16.0) / 93.0) ** 2)
    shell = np.abs(radius - 1.0) * 94.0 - 1.3
    profile = coverage(np.maximum(shell, 52.0 - y))
    return Layer(Tissue.HEADREST, WHOLE, np.broadcast_to(profile, grid.shape))


def _ct_instance(series: Series, number: int, image_type: list[str]) -> Dataset:
    dataset = series.instance(CTImageStorage, number)
    dataset.ImageType = image_type
    dataset.AcquisitionNumber = series.number
    dataset.AcquisitionDate = series.study.date
    dataset.AcquisitionTime = series.time
    dataset.BodyPartExamined = "HEAD"
    dataset.PatientPosition = "HFS"
    dataset.PositionReferenceIndicator = ""
    dataset.FrameOfReferenceUID = HEAD_FRAME_OF_REFERENCE_UID
    dataset.ScanOptions = ""
    dataset.KVP = 120
    dataset.XRayTubeCurrent = 220
    dataset.ExposureTime = 1000
    dataset.ConvolutionKernel = "SYNTHETIC"
    dataset.GantryDetectorTilt = 0
    dataset.ReconstructionDiameter = "230.4"
    dataset.RescaleIntercept = _RESCALE_INTERCEPT
    dataset.RescaleSlope = 1
    dataset.DeviceUID = sample_uid("ct scanner")
    return dataset


def _stored(hounsfield: FloatArray) -> NDArray[np.uint16]:
    return np.asarray(np.clip(np.rint(hounsfield) - _RESCALE_INTERCEPT, 0, 4095), dtype=np.uint16)


def _decimals(*values: float) -> list[str]:
    return [f"{value:.3f}" for value in values]
