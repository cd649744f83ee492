"""Transcoded instances, judged by dicom3tools: nothing is wrong with one that was not wrong before."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import requests

from gateway.imaging.encode import ENCODERS
from tests.programs import need_program
from tests.serving import Gateway

pytestmark = pytest.mark.dealt("s3+sqlite")

SAMPLES = Path(__file__).parents[2] / "sample_dicom" / "studies"
KNOWN = sorted(uid for uid in {*ENCODERS, "1.2.840.10008.1.2.1"} if ".4.20" not in uid)
"""Debian's dciodvfy is older than HTJ2K."""


def errors(path: Path) -> set[str]:
    judged = subprocess.run(["dciodvfy", path], check=False, capture_output=True, text=True)
    return {line for line in judged.stderr.splitlines() if line.startswith("Error")}


@need_program("dciodvfy", "dicom3tools")
@pytest.mark.parametrize(
    ("name", "refused"),
    [("head_ct/axial/001.dcm", {"1.2.840.10008.1.2.4.50"}), ("echo/four_chamber/001.dcm", set())],
)
def test_a_transcoded_instance_is_as_valid_as_the_stored_one(
    running: Gateway, name: str, refused: set[str], tmp_path: Path
) -> None:
    sent = SAMPLES / name
    headers = {"Content-Type": "application/dicom"}
    stored = requests.post(f"{running.web}/studies", sent.read_bytes(), headers=headers, timeout=60)
    url = stored.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    for syntax in KNOWN:
        accept = {"Accept": f"application/dicom; transfer-syntax={syntax}"}
        answer = requests.get(url, headers=accept, timeout=60)
        assert (answer.status_code == 406) == (syntax in refused), syntax
        if answer.ok:
            (tmp_path / "transcoded.dcm").write_bytes(answer.content)
            assert errors(tmp_path / "transcoded.dcm") <= errors(sent), syntax
