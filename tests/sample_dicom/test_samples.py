"""The sample studies are what the generator writes, and what their README promises."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from sample_dicom.generate import STUDIES
from tests.programs import need_program

SERIES = {
    "head_ct/scout": ("CT", ExplicitVRLittleEndian),
    "head_ct/axial": ("CT", JPEG2000Lossless),
    "head_ct/lesion_seg": ("SEG", ExplicitVRLittleEndian),
    "head_ct/report_sr": ("SR", ExplicitVRLittleEndian),
    "head_mr/t1_axial": ("MR", JPEGLSLossless),
    "echo/four_chamber": ("US", JPEGBaseline8Bit),
    "chest/pa": ("CR", RLELossless),
}
FILES = sorted(STUDIES.rglob("*.dcm"))


def files_of(series: str) -> list[FileDataset]:
    return [pydicom.dcmread(path) for path in sorted((STUDIES / series).glob("*.dcm"))]


def name_of(path: Path) -> str:
    return path.relative_to(STUDIES).as_posix()


def references(dataset: pydicom.Dataset) -> Iterator[tuple[str, str]]:
    for element in dataset.iterall():
        if element.keyword in {"ReferencedSOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"}:
            yield element.keyword.removeprefix("Referenced"), element.value


def content(dataset: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from content(item)


ENCODED = (JPEG2000Lossless, JPEGLSLossless, JPEGBaseline8Bit)


def lossless_pixels(dataset: FileDataset) -> np.ndarray:
    if dataset.file_meta.TransferSyntaxUID == JPEGLSLossless:
        (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
        return imagecodecs.jpegls_decode(frame)
    return dataset.pixel_array


def test_generator_writes_these_very_bytes(tmp_path: Path) -> None:
    root = STUDIES.parent.parent
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-W", "error", "-m", "sample_dicom.generate", str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    written = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.dcm")}
    assert written.keys() == {name_of(path) for path in FILES}
    changed = [name for name in sorted(written) if written[name] != (STUDIES / name).read_bytes()]
    # Another release of an encoder may write other bytes for the same pixels; nothing else may differ.
    for name in changed:
        ours, committed = pydicom.dcmread(tmp_path / name), pydicom.dcmread(STUDIES / name)
        assert ours.file_meta.TransferSyntaxUID in ENCODED, name
        assert np.array_equal(lossless_pixels(ours), lossless_pixels(committed)), name
        del ours.PixelData, committed.PixelData
        assert ours == committed, name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_is_as_promised_and_decodes(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    modality, syntax = SERIES[path.parent.relative_to(STUDIES).as_posix()]
    assert dataset.Modality == modality
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert str(dataset)
    assert dataset.PatientID.startswith("SAMPLE-")
    assert dataset.InstitutionName == "Sample Hospital (synthetic)"
    if modality == "SR":
        return
    pixels = lossless_pixels(dataset)
    shape = [dataset.get("NumberOfFrames", 1), dataset.Rows, dataset.Columns, dataset.SamplesPerPixel]
    assert list(pixels.shape) == [n for n in shape if n != 1]
    assert pixels.min() < pixels.max() < 2**dataset.BitsStored


@need_program("dciodvfy", "dicom3tools")
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_keeps_to_its_iod(path: Path) -> None:
    found = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False, errors="replace")
    report = (found.stdout + found.stderr).splitlines()
    assert [line for line in report if line.startswith("Error")] == []
    assert found.returncode == 0


def test_set_is_whole_and_small() -> None:
    assert {path.parent.relative_to(STUDIES).as_posix() for path in FILES} == set(SERIES)
    assert sum(path.stat().st_size for path in FILES) <= 6_000_000
    assert len({pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in FILES}) == len(FILES)


def test_names_survive_their_character_sets() -> None:
    names = {(d.PatientID, str(d.PatientName)) for d in map(pydicom.dcmread, FILES)}
    assert names == {
        ("SAMPLE-0001", "Müller^Zoë"),
        ("SAMPLE-0002", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("SAMPLE-0003", "Łukasiewicz^Ünal"),
    }


@pytest.mark.parametrize(("series", "least"), [("head_ct/axial", 48), ("head_mr/t1_axial", 24)])
def test_slices_form_an_even_stack(series: str, least: int) -> None:
    slices = files_of(series)
    assert len(slices) >= least
    positions = np.array([d.ImagePositionPatient for d in slices], dtype=float)
    assert {tuple(d.ImageOrientationPatient) for d in slices} == {(1, 0, 0, 0, 1, 0)}
    assert np.allclose(np.diff(positions, axis=0), [0, 0, float(slices[0].SpacingBetweenSlices)])
    assert [d.InstanceNumber for d in slices] == list(range(1, len(slices) + 1))


def test_ct_is_in_hounsfield_units() -> None:
    volume = np.stack([d.pixel_array + float(d.RescaleIntercept) for d in files_of("head_ct/axial")])
    assert abs(float(np.median(volume[:, :8, :8])) + 1000) < 10
    assert volume.max() > 1200


def test_ct_and_mr_share_a_frame_of_reference() -> None:
    frames = {d.FrameOfReferenceUID for series in ("head_ct/axial", "head_mr/t1_axial") for d in files_of(series)}
    assert len(frames) == 1


@pytest.mark.parametrize("series", ["head_ct/lesion_seg", "head_ct/report_sr"])
def test_references_exist(series: str) -> None:
    known = {
        (keyword, dataset[keyword].value)
        for dataset in map(pydicom.dcmread, FILES)
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    (dataset,) = files_of(series)
    found = set(references(dataset))
    assert found <= known
    ct_slices = {("SOPInstanceUID", d.SOPInstanceUID) for d in files_of("head_ct/axial")}
    assert found & ct_slices


def test_seg_lies_on_the_slices_it_was_drawn_on() -> None:
    (seg,) = files_of("head_ct/lesion_seg")
    positions = {d.SOPInstanceUID: d.ImagePositionPatient for d in files_of("head_ct/axial")}
    frames = seg.PerFrameFunctionalGroupsSequence
    assert len(frames) == seg.NumberOfFrames
    for frame in frames:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert frame.PlanePositionSequence[0].ImagePositionPatient == positions[source]
    assert seg.pixel_array.any(axis=(1, 2)).all()


def test_report_gives_the_volume_of_the_segmentation() -> None:
    (seg,), (report,) = files_of("head_ct/lesion_seg"), files_of("head_ct/report_sr")
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    spacing = [float(mm) for mm in (*measures.PixelSpacing, measures.SpacingBetweenSlices)]
    numbers = {
        item.ConceptNameCodeSequence[0].CodeMeaning: float(item.MeasuredValueSequence[0].NumericValue)
        for item in content(report)
        if item.ValueType == "NUM"
    }
    assert numbers["Volume"] == pytest.approx(seg.pixel_array.sum() * np.prod(spacing) / 1000, abs=0.06)
    assert 20 < numbers["Long Axis"] < 40
