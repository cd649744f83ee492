"""``gateway import`` beside a running gateway: both take their turns, and what comes in is found at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests import programs
from tests.instances import data_set, part10_file
from tests.serving import Gateway

pytestmark = pytest.mark.dealt("local+sqlite", "s3+postgres")

COUNT = 120


def test_an_import_and_what_modalities_send_meanwhile_are_both_found(running: Gateway, tmp_path: Path) -> None:
    for number in range(COUNT):
        body = part10_file(data_set(StudyInstanceUID="1.2.826.1.1", SeriesInstanceUID="1.2.826.1.1.1"))
        (tmp_path / str(number)).write_bytes(body)
    environment = {**os.environ, **running.engines.environment(), "GATEWAY_STORAGE__DIRECTORY": str(running.directory)}
    command = [sys.executable, "-m", "gateway.cli", "import", "--workers=2", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    sent = 0
    with programs.running(command, env=environment, text=True, **pipes) as process:
        while process.poll() is None or not sent:
            answer = requests.post(
                f"{running.web}/studies/1.2.826.1.2",
                data=b"--x\r\nContent-Type: application/dicom\r\n\r\n"
                + part10_file(data_set(StudyInstanceUID="1.2.826.1.2", SeriesInstanceUID="1.2.826.1.2.1"))
                + b"\r\n--x--",
                headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'},
                timeout=60,
            )
            assert answer.status_code == 200, answer.text
            sent += 1
        told, errors = process.communicate()
    assert process.returncode == 0, errors
    assert told.startswith(f"{COUNT} files, {COUNT} stored; ")
    for study, number in (("1.2.826.1.1", COUNT), ("1.2.826.1.2", sent)):
        found = requests.get(
            f"{running.web}/studies?StudyInstanceUID={study}&includefield=NumberOfStudyRelatedInstances", timeout=60
        ).json()
        assert found[0]["00201208"]["Value"] == [number]
