"""pynetdicom's programs against a running gateway: echoscu, storescu, findscu, getscu, movescu."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from tests import instances
from tests.ports import free_port
from tests.serving import Gateway

pytestmark = pytest.mark.dealt("local+sqlite")


@pytest.fixture(scope="module")
def port() -> int:
    """Where movescu takes what is moved."""
    return free_port()


@pytest.fixture(scope="module")
def face_workers(face_workers: dict[str, str], port: int) -> dict[str, str]:
    """With a destination."""
    destinations = {"MOVED": {"host": "127.0.0.1", "port": port}}
    return {**face_workers, "GATEWAY_DIMSE__DESTINATIONS": json.dumps(destinations)}


def run(program: str, running: Gateway, *more: str, cwd: Path | None = None) -> str:
    """What it says, in which a response has its status."""
    command = [
        *(sys.executable, "-m", "pynetdicom", program, "127.0.0.1", str(running.dimse_port)),
        *("-aec", "GATEWAY", "-v", *more),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_every_program(running: Gateway, port: int, tmp_path: Path) -> None:
    sent = [instances.data_set(StudyInstanceUID="1.2.826.7.1", SeriesInstanceUID="1.2.826.7.1.1") for _ in range(3)]
    (tmp_path / "sent").mkdir()
    for number, each in enumerate(sent):
        (tmp_path / "sent" / f"{number}.dcm").write_bytes(instances.part10_file(each))
    study = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.826.7.1")

    assert "Status: 0x0000 - Success" in run("echoscu", running)
    stored = run("storescu", running, str(tmp_path / "sent"))
    assert stored.count("Status: 0x0000 - Success") == 3
    found = run("findscu", running, "-S", *study, "-k", "NumberOfStudyRelatedInstances=")
    assert "(0020,1208) IS [3]" in found

    for program, more in (
        ("getscu", ()),
        ("movescu", ("-aem", "MOVED", "--store", "--store-port", str(port), "--store-aet", "MOVED")),
    ):
        folder = tmp_path / program
        folder.mkdir()
        answer = run(program, running, "-S", *study, *more, "-od", str(folder), cwd=folder)
        assert "Result: 0x0000 (Success)" in answer, answer
        came = [pydicom.dcmread(path) for path in folder.iterdir()]
        assert {each.SOPInstanceUID: each.PixelData for each in came} == {
            each.SOPInstanceUID: each.PixelData for each in sent
        }
