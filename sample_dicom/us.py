"""Colour ultrasound of a beating heart, with a name burned into the pixels."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage

from sample_dicom.codes import code
from sample_dicom.noise import FloatArray, smooth
from sample_dicom.patients import ECHO
from sample_dicom.writer import Series, encapsulate_frames, write

FOUR_CHAMBER = Series(ECHO, "four_chamber", 1, "US", "Apical four chamber, colour", "101500")
FRAMES, ROWS, COLUMNS = 20, 240, 320
FRAME_TIME_MS = 45
BURNED_IN = ("LUKASIEWICZ^UNAL", "SAMPLE-0003")

_APEX = (160.0, 22.0)
_CM_PER_PIXEL = 0.078
_DEPTH_CM = 15.0
_HALF_ANGLE = 0.66
_COLOUR_BOX = (4.2, 11.2, -0.12, 0.34)


def write_us(studies: Path) -> None:
    """Write the one multi-frame instance, JPEG baseline with 4:2:2 chroma."""
    frames = cine()
    space = imagecodecs.JPEG8.CS
    encoded = [
        bytes(
            imagecodecs.jpeg8_encode(
                frame, level=88, colorspace=space.RGB, outcolorspace=space.YCbCr, subsampling="422"
            )
        )
        for frame in frames
    ]
    dataset = FOUR_CHAMBER.instance(UltrasoundMultiFrameImageStorage, 1)
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.AcquisitionDateTime = ECHO.date + FOUR_CHAMBER.time
    dataset.PatientOrientation = []
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PlanarConfiguration = 0
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.BitsAllocated = 8
    dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.FrameTime = FRAME_TIME_MS
    dataset.FrameIncrementPointer = tag_for_keyword("FrameTime")
    dataset.CineRate = round(1000 / FRAME_TIME_MS)
    dataset.UltrasoundColorDataPresent = 1
    dataset.SequenceOfUltrasoundRegions = [_region()]
    dataset.AnatomicRegionSequence = [code("80891009", "SCT", "Heart")]
    dataset.BurnedInAnnotation = "YES"
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = f"{frames.nbytes / sum(map(len, encoded)):.1f}"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    encapsulate_frames(dataset, encoded)
    write(dataset, FOUR_CHAMBER, studies, JPEGBaseline8Bit)


def cine() -> NDArray[np.uint8]:
    """Return one heartbeat, RGB, shape (frames, rows, columns, 3)."""
    rng = np.random.default_rng(61)
    speckle = _speckle(rng)
    return np.stack([_frame(index, speckle, rng) for index in range(FRAMES)])


def _region() -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat = 1  # 2D
    region.RegionDataType = 1  # tissue
    region.RegionFlags = 2
    half_width = round(_DEPTH_CM / _CM_PER_PIXEL * np.sin(_HALF_ANGLE))
    region.RegionLocationMinX0 = round(_APEX[0]) - half_width
    region.RegionLocationMinY0 = round(_APEX[1])
    region.RegionLocationMaxX1 = round(_APEX[0]) + half_width
    region.RegionLocationMaxY1 = round(_APEX[1] + _DEPTH_CM / _CM_PER_PIXEL)
    region.ReferencePixelX0 = half_width
    region.ReferencePixelY0 = 0
    region.ReferencePixelPhysicalValueX = 0.0
    region.ReferencePixelPhysicalValueY = 0.0
    region.PhysicalUnitsXDirection = 3  # cm
    region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = _CM_PER_PIXEL
    region.PhysicalDeltaY = _CM_PER_PIXEL
    return region


def _speckle(rng: np.random.Generator) -> FloatArray:
    """Return speckle in polar coordinates, shape (512 depths, 256 angles): fine in depth, broad in angle."""
    parts = [smooth(smooth(rng.standard_normal((512, 256)), 1.3, 0), 2.0, 1) for _ in range(2)]
    amplitude = np.hypot(*parts)
    return np.asarray(amplitude / amplitude.mean())


def _contraction(index: int) -> float:
    """How far the ventricles are contracted, 0 to 1; the first third of the beat is systole."""
    phase = index / FRAMES
    return float(np.sin(np.pi * phase / 0.42) if phase < 0.42 else 0.12 * np.sin(np.pi * (phase - 0.42) / 0.58))


def _frame(index: int, speckle: FloatArray, rng: np.random.Generator) -> NDArray[np.uint8]:
    columns, rows = np.meshgrid(np.arange(COLUMNS, dtype=np.float64), np.arange(ROWS, dtype=np.float64))
    x = (columns - _APEX[0]) * _CM_PER_PIXEL
    y = (rows - _APEX[1]) * _CM_PER_PIXEL
    depth, angle = np.hypot(x, y), np.arctan2(x, y)
    squeeze = _contraction(index)

    # Speckle belongs to the tissue and is carried along with it.
    carried = np.clip(depth * (1.0 + 0.05 * squeeze) / 16.5 * 511, 0, 511).astype(int)
    turned = np.clip((angle * (1.0 + 0.06 * squeeze) / 1.6 + 0.5) * 255, 0, 255).astype(int)
    grain = speckle[carried, turned] * rng.normal(1.0, 0.06, x.shape)
    echo = _reflectivity(x, y, squeeze) * grain * np.exp(-0.045 * depth)
    grey = np.clip(63.0 * np.log1p(10.0 * echo), 0.0, 255.0)
    grey *= (depth < _DEPTH_CM) & (np.abs(angle) < _HALF_ANGLE) & (depth > 0.25)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    _add_flow(rgb, x, y, index)
    image = Image.fromarray(rgb.astype(np.uint8))
    _annotate(ImageDraw.Draw(image), index)
    return np.asarray(image)


def _ellipse(x: FloatArray, y: FloatArray, centre: tuple[float, float], semi_axes: tuple[float, float]) -> FloatArray:
    """Approximate distance in cm to an ellipse, negative inside."""
    level = np.hypot((x - centre[0]) / semi_axes[0], (y - centre[1]) / semi_axes[1])
    return (level - 1.0) * min(semi_axes)


def _reflectivity(x: FloatArray, y: FloatArray, squeeze: float) -> FloatArray:
    """Echo strength of heart muscle, chambers, valves and what lies around them."""
    small, large = 1.0 - 0.24 * squeeze, 1.0 + 0.14 * squeeze
    annulus = 8.9 - 0.9 * squeeze
    left = _ellipse(x, y, (1.15, 2.4 + (annulus - 2.4) / 2), (1.75 * small, (annulus - 2.2) / 2))
    right = _ellipse(x, y, (-1.75, 3.6 + (annulus - 3.6) / 2), (1.15 * small, (annulus - 3.4) / 2))
    left_atrium = _ellipse(x, y, (1.4, annulus + 1.9), (1.75 * large, 1.75 * large))
    right_atrium = _ellipse(x, y, (-1.75, annulus + 1.7), (1.65 * large, 1.6 * large))
    muscle = np.minimum(_ellipse(x, y, (0.0, 6.2), (3.9 - 0.35 * squeeze, 5.3)), left - 0.9)
    atria = np.minimum(left_atrium, right_atrium) - 0.3
    strength = 0.17 + 0.35 * np.exp(-(((np.minimum(muscle, atria) - 0.25) / 0.16) ** 2))
    strength = np.where(np.minimum(muscle, atria) < 0.0, 1.0, strength)
    chambers = np.minimum(np.minimum(left, right), np.minimum(left_atrium, right_atrium))
    blood = np.clip(0.5 - chambers / 0.14, 0.0, 1.0)
    strength = strength * (1.0 - blood) + 0.012 * blood
    strength += 0.7 * np.exp(-((chambers / 0.11) ** 2))
    opening = 1.0 - min(1.0, 2.5 * squeeze)
    for hinge, inward in ((-0.35, 1), (2.75, -1), (-3.2, 1), (-0.65, -1)):
        strength += 1.6 * _leaflet(x, y, (hinge, annulus), inward, opening)
    return strength


def _leaflet(x: FloatArray, y: FloatArray, hinge: tuple[float, float], inward: int, opening: float) -> FloatArray:
    """One leaflet of a valve, closed across the annulus or open towards the transducer."""
    turn = 0.25 + 1.05 * opening
    length = 1.5 if hinge[0] > -0.5 else 1.2
    dx, dy = inward * np.cos(turn), -np.sin(turn)
    along = np.clip((x - hinge[0]) * dx + (y - hinge[1]) * dy, 0.0, length)
    distance = np.hypot(x - hinge[0] - along * dx, y - hinge[1] - along * dy)
    return np.asarray(np.exp(-((distance / 0.1) ** 2)))


def _add_flow(rgb: FloatArray, x: FloatArray, y: FloatArray, index: int) -> None:
    """Paint blood flow in place: red fills the left ventricle in diastole, blue leaves it in systole."""
    phase = index / FRAMES
    systole = phase < 0.42
    strength = np.sin(np.pi * phase / 0.42) if systole else abs(np.sin(2 * np.pi * (phase - 0.42) / 0.58))
    reach, shift = (1.7, 0.35) if systole else (2.3, 1.15)
    jet = _ellipse(x, y, (shift, 7.6 if systole else 7.4), (0.8, reach))
    depth, angle = np.hypot(x, y), np.arctan2(x, y)
    near, far, first, last = _COLOUR_BOX
    box = (depth > near) & (depth < far) & (angle > first) & (angle < last)
    inside = np.clip(-jet / 0.65, 0.0, 1.0) * box * min(1.0, 1.4 * float(strength))
    core = inside**2
    full = np.full_like(core, 255.0)
    away, towards = (30 * inside, 90 + 150 * core, full), (full, 60 + 170 * core, 20 * inside)
    flow = np.stack(away if systole else towards, axis=-1)
    share = np.clip(3.0 * inside, 0.0, 0.95)
    rgb += share[..., None] * (flow - rgb)
    outline = (np.minimum(np.abs(depth - near), np.abs(depth - far)) < 0.05) & (angle > first) & (angle < last)
    outline |= (np.abs((angle - first) * depth) < 0.05) & (depth > near) & (depth < far)
    outline |= (np.abs((angle - last) * depth) < 0.05) & (depth > near) & (depth < far)
    rgb[outline] = (120.0, 170.0, 120.0)


def _annotate(draw: ImageDraw.ImageDraw, index: int) -> None:
    """Burn in name, scale, colour bar and ECG."""
    font = ImageFont.load_default_imagefont()
    for line, text in enumerate(BURNED_IN):
        draw.text((4, 3 + 11 * line), text, fill=(255, 220, 120), font=font)
    for line, text in enumerate(("SYNTHETIC", "22 Hz  15 cm")):
        draw.text((244, 3 + 11 * line), text, fill=(170, 190, 200), font=font)
    for centimetre in range(0, 16):
        row = _APEX[1] + centimetre / _CM_PER_PIXEL
        draw.line((312 - (4 if centimetre % 5 == 0 else 2), row, 312, row), fill=(150, 150, 150))
    for step in range(60):
        warm = (255 - step * 2, 220 - step * 6, 0) if step < 30 else (0, (step - 30) * 6, 140 + step * 2)
        draw.line((8, 70 + step, 15, 70 + step), fill=tuple(max(0, min(255, value)) for value in warm))
    points = [(column, 226.0 - 14.0 * _ecg((column - 20) / 140.0)) for column in range(20, 300)]
    draw.line(points, fill=(60, 210, 90))
    now = 20 + 140 * index // FRAMES
    draw.line((now, 212, now, 232), fill=(230, 230, 90))


def _ecg(time: float) -> float:
    """Height of an ECG over time in beats, the R wave 1 high."""
    phase = (time + 0.3) % 1.0
    waves = ((0.12, 0.13, 0.03), (0.28, -0.15, 0.01), (0.3, 1.0, 0.011), (0.325, -0.25, 0.011), (0.58, 0.28, 0.05))
    return float(sum(height * np.exp(-(((phase - at) / width) ** 2)) for at, height, width in waves))
