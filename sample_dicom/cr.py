"""Radiograph of the chest, MONOCHROME1: high stored values are black."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import ComputedRadiographyImageStorage, RLELossless

from sample_dicom.noise import FloatArray, blurred, grain, smooth
from sample_dicom.patients import CHEST
from sample_dicom.writer import Series, describe_pixels, write

CHEST_PA = Series(CHEST, "pa", 1, "CR", "Chest PA", "161000")
SIZE = 512
PIXEL_SPACING_MM = 0.8

_SIDES = (-1, 1)


def write_cr(studies: Path) -> None:
    """Write the one radiograph, RLE compressed."""
    dataset = CHEST_PA.instance(ComputedRadiographyImageStorage, 1)
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.AcquisitionDate = CHEST.date
    dataset.AcquisitionTime = CHEST_PA.time
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.KVP = 125
    dataset.ImagerPixelSpacing = [PIXEL_SPACING_MM, PIXEL_SPACING_MM]
    dataset.WindowCenter = 2048
    dataset.WindowWidth = 3600
    describe_pixels(dataset, radiograph(), bits_stored=12)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    write(dataset, CHEST_PA, studies, RLELossless)


def radiograph() -> NDArray[np.uint16]:
    """Return the stored values, shape (rows, columns), 12 bits: dense tissue is low."""
    half = SIZE * PIXEL_SPACING_MM / 2
    axis = np.linspace(-half, half, SIZE)
    # mm from the middle: x to the right of the image (the patient's left), y downwards.
    x, y = axis[None, :], axis[:, None]
    density = _body(x, y) - _lungs(x, y)
    density += _spine(x, y) + _heart(x, y) + _vessels(x, y)
    density += _ribs(x, y) + _shoulders(x, y)
    density += 1.6 * _side_marker(x, y)
    exposed = blurred(3950.0 * np.exp(-0.62 * np.clip(density, 0.0, None)), 0.9)
    exposed += (8.0 + 0.25 * np.sqrt(np.clip(exposed, 0.0, None))) * grain((SIZE, SIZE), 0.6, seed=71)
    return np.asarray(np.clip(np.rint(exposed), 0, 4095), dtype=np.uint16)


def _side_marker(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the lead letter L, on the patient's left."""
    upright = _capsule(x, y, (164.0, -190.0), (164.0, -172.0), 1.8)
    foot = _capsule(x, y, (164.0, -172.0), (174.0, -172.0), 1.8)
    return _inside(np.minimum(upright, foot), 1.5)


def _inside(distance: FloatArray, edge_mm: float) -> FloatArray:
    """Turn a signed distance in mm (negative inside) into 1 inside, 0 outside."""
    return np.clip(0.5 - distance / edge_mm, 0.0, 1.0)


def _bulge(distance: FloatArray, depth_mm: float) -> FloatArray:
    """Thickness of a rounded body: 0 at its outline, 1 from ``depth_mm`` inwards."""
    return np.sqrt(1.0 - (1.0 - np.clip(-distance / depth_mm, 0.0, 1.0)) ** 2)


def _capsule(
    x: FloatArray, y: FloatArray, start: tuple[float, float], end: tuple[float, float], radius_mm: float
) -> FloatArray:
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy) - radius_mm


def _ellipse(
    x: FloatArray, y: FloatArray, centre: tuple[float, float], semi_axes: tuple[float, float], turn: float
) -> FloatArray:
    """Approximate distance to an ellipse turned clockwise on the image by ``turn`` radians."""
    u, v = x - centre[0], y - centre[1]
    across = (u * np.cos(turn) + v * np.sin(turn)) / semi_axes[0]
    down = (v * np.cos(turn) - u * np.sin(turn)) / semi_axes[1]
    return np.asarray((np.hypot(across, down) - 1.0) * min(semi_axes))


def _body(x: FloatArray, y: FloatArray) -> FloatArray:
    width = np.interp(y, (-205, -180, -160, -135, -100, -50, 30, 205), (60, 66, 120, 215, 225, 178, 166, 172))
    width = smooth(width, 10.0, 0)
    thickness = np.interp(y, (-205, -170, -110, 60, 120), (2.3, 2.4, 2.6, 2.7, 3.3))
    return thickness * _bulge(np.abs(x) - width, 150.0)


def _lungs(x: FloatArray, y: FloatArray) -> FloatArray:
    """How much the air in lungs, trachea and stomach takes away."""
    air = np.zeros((SIZE, SIZE))
    for side in _SIDES:
        dome = (72.0 if side == 1 else 58.0) + ((side * x - 62.0) / 52.0) ** 2 * 34.0
        outline = _ellipse(x, y, (side * 72.0, 10.0), (60.0, 158.0), side * -0.06)
        distance = np.maximum(np.maximum(outline, y - dome), 14.0 - side * x)
        air += 2.0 * _bulge(distance, 38.0)
    trachea = _capsule(x, y, (-1.0, -220.0), (3.0, -62.0), 9.0)
    for end in ((-34.0, -30.0), (40.0, -22.0)):
        trachea = np.minimum(trachea, _capsule(x, y, (3.0, -62.0), end, 5.5))
    bubble = _ellipse(x, y, (78.0, 108.0), (30.0, 17.0), 0.1)
    return air + 0.55 * _bulge(trachea, 8.0) + 0.8 * _bulge(bubble, 14.0)


def _heart(x: FloatArray, y: FloatArray) -> FloatArray:
    outlines = (
        (_ellipse(x, y, (22.0, 34.0), (66.0, 50.0), 0.55), 40.0, 1.25),
        (_ellipse(x, y, (-14.0, 30.0), (34.0, 46.0), 0.0), 30.0, 0.75),
        (_ellipse(x, y, (22.0, -66.0), (19.0, 21.0), 0.0), 14.0, 0.8),
        (_capsule(x, y, (0.0, -150.0), (0.0, 60.0), 26.0), 18.0, 0.55),
        (_capsule(x, y, (20.0, -66.0), (34.0, 10.0), 15.0), 14.0, 0.5),
    )
    thickness = np.zeros((SIZE, SIZE))
    for distance, depth_mm, density in outlines:
        thickness = np.maximum(thickness, density * _bulge(distance, depth_mm))
    return thickness


def _vessels(x: FloatArray, y: FloatArray) -> FloatArray:
    """Both hila and three generations of vessels that fan out from each."""
    rng = np.random.default_rng(72)
    density = np.zeros((SIZE, SIZE))
    for side in _SIDES:
        hilum = (side * 40.0, -18.0)
        density += 0.45 * _bulge(_ellipse(x, y, hilum, (12.0, 23.0), side * -0.3), 14.0)
        branches = [(hilum, angle, 38.0, 3.4) for angle in np.linspace(-1.4, 1.3, 7) + rng.uniform(-0.12, 0.12, 7)]
        for start, angle, length, radius in branches:
            end = (start[0] + side * length * np.cos(angle), start[1] + length * np.sin(angle))
            density = np.maximum(density, 0.1 * radius * _bulge(_capsule(x, y, start, end, radius), 1.2 * radius))
            if radius > 1.3:
                turns = angle + np.array([-0.35, 0.35]) + rng.uniform(-0.3, 0.3, 2)
                branches += [(end, float(turn), length * 0.78, radius * 0.6) for turn in turns]
    return density


def _spine(x: FloatArray, y: FloatArray) -> FloatArray:
    level = (y + 205.0) % 23.0
    disc = np.exp(-(((level - 11.5) / 2.6) ** 2))
    column = _bulge(np.abs(x) - 18.0 + 2.0 * disc, 10.0) * (0.5 - 0.2 * disc)
    pedicles = np.hypot(np.abs(x) - 11.0, level - 4.0) - 3.6
    process = np.hypot(x / 0.7, level - 9.0) - 4.0
    return column + 0.16 * _inside(pedicles, 2.0) + 0.13 * _inside(process, 2.0)


def _ribs(x: FloatArray, y: FloatArray) -> FloatArray:
    """Ten pairs, the back of each rib denser than its front, with a denser rim."""
    density = np.zeros((SIZE, SIZE))
    across = np.abs(x)
    for pair in range(10):
        reach = float(np.interp(pair, (0, 2, 5, 9), (58.0, 104.0, 132.0, 140.0)))
        start = -158.0 + 23.5 * pair
        u = across / reach
        droop = 16.0 + 6.0 * pair
        back = start - 14.0 * np.sin(np.pi * np.clip(u, 0.0, 1.0) ** 0.8) + droop * u**2.4
        front = start + droop + (12.0 + 62.0 * (1.0 - np.clip(u, 0.0, 1.0)) ** 0.8)
        for course, weight, inner in ((back, 1.0, 14.0), (front, 0.5 if pair < 6 else 0.0, 48.0)):
            distance = np.abs(y - course) - 5.2
            limits = np.maximum(across - reach, inner - across)
            distance = np.maximum(distance, limits)
            shell = _inside(distance, 2.0) * (0.22 + 0.16 * np.exp(-(((distance + 1.2) / 1.6) ** 2)))
            density += weight * shell
    return density


def _shoulders(x: FloatArray, y: FloatArray) -> FloatArray:
    """Clavicles, shoulder blades and the heads of the upper arms."""
    density = np.zeros((SIZE, SIZE))
    for side in _SIDES:
        points = ((14.0, -126.0), (60.0, -137.0), (108.0, -146.0), (164.0, -142.0))
        clavicle = np.full((SIZE, SIZE), np.inf)
        for start, end in pairwise(points):
            clavicle = np.minimum(clavicle, _capsule(x, y, (side * start[0], start[1]), (side * end[0], end[1]), 6.0))
        density += 0.6 * _bulge(clavicle, 4.0)
        arm = _ellipse(x, y, (side * 186.0, -128.0), (23.0, 25.0), 0.0)
        arm = np.minimum(arm, _capsule(x, y, (side * 192.0, -118.0), (side * 214.0, 0.0), 13.0))
        density += 0.85 * _bulge(arm, 9.0)
        blade = _ellipse(x, y, (side * 146.0, -78.0), (24.0, 66.0), side * 0.2)
        rim = np.exp(-(((blade + 2.0) / 2.2) ** 2))
        density += 0.14 * _inside(blade, 3.0) + 0.2 * rim
    return density
