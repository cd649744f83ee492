"""Presentation states against DCMTK: states that it makes, and what it shows under states that pydicom makes."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from tests.gateway.dicomweb.pictures import path_of
from tests.gateway.dicomweb.states import item, state
from tests.instances import part10_file
from tests.programs import need_program
from tests.serving import Gateway

pytestmark = [
    pytest.mark.dealt("s3+sqlite"),
    need_program("dcmp2pgm", "dcmtk"),
    pytest.mark.xdist_group("dcmtk states"),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """pydicom's CT in a file that DCMTK reads."""
    wheel = get_testdata_file("CT_small.dcm")
    assert isinstance(wheel, str)
    found = pydicom.dcmread(wheel)
    path = tmp_path_factory.mktemp("image") / "image.dcm"
    path.write_bytes(part10_file(found))
    return path, found


def send(gateway: Gateway, body: bytes) -> None:
    headers = {"Content-Type": "application/dicom"}
    assert requests.post(gateway.web + "/studies", body, headers=headers, timeout=60).status_code == 200


def shown(gateway: Gateway, found: Dataset) -> np.ndarray:
    url = gateway.web.removesuffix("/dicomweb") + path_of(found) + "/rendered"
    answer = requests.get(url, headers={"Accept": "image/png"}, timeout=60)
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def by_dcmtk(image: Path, applied: Path, target: Path) -> np.ndarray:
    subprocess.run(
        ["dcmp2pgm", "-p", str(applied), str(image), str(target)], check=True, capture_output=True, timeout=60
    )
    return np.asarray(Image.open(target)).astype(int)


@need_program("dcmpsmk", "dcmtk")
def test_a_state_made_by_dcmtk_shows_the_image_as_dcmtk_does(
    running: Gateway, image: tuple[Path, Dataset], tmp_path: Path
) -> None:
    path, found = image
    applied = tmp_path / "state.dcm"
    subprocess.run(["dcmpsmk", str(path), str(applied)], check=True, capture_output=True, timeout=60)
    send(running, path.read_bytes())
    made = pydicom.dcmread(applied)
    made.PatientID, made.PatientName = found.PatientID, found.PatientName
    send(running, part10_file(made))
    theirs = by_dcmtk(path, applied, tmp_path / "theirs.pgm")
    assert np.abs(shown(running, made) - theirs).max() <= 1


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"PresentationLUTShape": "INVERSE"},
        {"SoftcopyVOILUTSequence": [item(WindowCenter=-50, WindowWidth=120)]},
        {"ImageRotation": 90, "ImageHorizontalFlip": "N"},
        {"ImageRotation": 270, "ImageHorizontalFlip": "Y"},
        {"ImageRotation": 180, "ImageHorizontalFlip": "N"},
        # dcmp2pgm draws neither shutters nor annotations: test_rendered_states.py says what they are.
    ],
    ids=lambda attributes: "-".join(attributes)[:30] or "plain",
)
def test_a_state_made_by_pydicom_is_shown_as_dcmtk_shows_it(
    running: Gateway, image: tuple[Path, Dataset], tmp_path: Path, attributes: dict[str, Any]
) -> None:
    path, found = image
    rescale = {"RescaleSlope": found.RescaleSlope, "RescaleIntercept": found.RescaleIntercept, "RescaleType": "HU"}
    window = {"SoftcopyVOILUTSequence": [item(WindowCenter=40, WindowWidth=800)]}
    made = state(found, PatientID=found.PatientID, PatientName=found.PatientName, **(rescale | window | attributes))
    _complete(made)
    applied = tmp_path / "state.dcm"
    applied.write_bytes(part10_file(made))
    send(running, path.read_bytes())
    send(running, applied.read_bytes())
    theirs = by_dcmtk(path, applied, tmp_path / "theirs.pgm")
    ours = shown(running, made)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1


def _complete(made: Dataset) -> None:
    """What DCMTK wants of a state beyond what is applied."""
    for keyword, value in (
        ("PatientBirthDate", ""),
        ("PatientSex", ""),
        ("StudyID", ""),
        ("ReferringPhysicianName", ""),
        ("AccessionNumber", ""),
        ("Manufacturer", ""),
        ("InstanceNumber", 1),
        ("ContentLabel", "TEST"),
        ("ContentDescription", ""),
        ("PresentationCreationDate", "20260101"),
        ("PresentationCreationTime", "120000"),
        ("ContentCreatorName", ""),
    ):
        setattr(made, keyword, value)
