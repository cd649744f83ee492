"""``gateway migrate`` from DCMTK's archive into a running gateway, by C-GET and by C-MOVE."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests

from tests.ports import free_port
from tests.programs import need_program
from tests.serving import Gateway

pytestmark = [
    need_program("dcmqrscp", "dcmtk"),
    need_program("dcmsend", "dcmtk"),
    pytest.mark.dealt("s3+postgres"),
]

HEAD_MR = Path(__file__).parents[2] / "sample_dicom" / "studies" / "head_mr"
CONFIGURATION = """
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
ours = (GATEWAY, 127.0.0.1, {gateway_port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
OLD {directory} RW (200, 1024mb) ANY
AETable END
"""


@pytest.fixture(scope="module")
def old(running: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DCMTK's archive with one study, which knows the gateway by its AE title."""
    directory = tmp_path_factory.mktemp("old")
    (directory / "kept").mkdir()
    port = free_port()
    text = CONFIGURATION.format(port=port, gateway_port=running.dimse_port, directory=directory / "kept")
    (directory / "dcmqrscp.cfg").write_text(text)
    process = subprocess.Popen(
        ["dcmqrscp", "--prefer-jls-lossless", "--propose-jls-lossless", "-c", str(directory / "dcmqrscp.cfg")],
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port)
        subprocess.run(
            ["dcmsend", "-aec", "OLD", "+sd", "+r", "-dn", "127.0.0.1", str(port), str(HEAD_MR)],
            check=True,
            timeout=60,
        )
        yield f"OLD@127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _await(port: int) -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise AssertionError("dcmqrscp does not listen")


def migrate(running: Gateway, old: str, *more: str) -> dict[str, Any]:
    environment = {**os.environ, **running.engines.environment(), "GATEWAY_STORAGE__DIRECTORY": str(running.directory)}
    command = [sys.executable, "-m", "gateway.cli", "migrate", "--json", "--from", old, *more]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("by", ["get", "move"])
def test_what_an_old_archive_has_is_in_ours_as_it_was(running: Gateway, old: str, by: str, tmp_path: Path) -> None:
    sent = {each.SOPInstanceUID: each for each in map(pydicom.dcmread, sorted(HEAD_MR.rglob("*.dcm")))}
    study_uid = next(iter(sent.values())).StudyInstanceUID
    requests.delete(f"{running.web}/studies/{study_uid}", timeout=60)
    found = migrate(running, old, f"--by={by}", "--anew")
    assert found["studies"] == {"listed": 1, "instances_told": 0, "done_before": 0, "done": 1, "failed": 0}
    assert (found["instances"]["here"], found["instances"]["missing"]) == (len(sent), 0)
    for uid, each in sent.items():
        url = f"{running.web}/studies/{study_uid}/series/{each.SeriesInstanceUID}/instances/{uid}"
        answer = requests.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=60)
        assert answer.status_code == 200
        file = tmp_path / f"{uid}.dcm"
        file.write_bytes(answer.content)
        stored = pydicom.dcmread(file)
        assert stored == each
        assert stored.file_meta.TransferSyntaxUID == each.file_meta.TransferSyntaxUID
    # It tells no numbers of instances, so it is looked at again, and nothing is fetched.
    found = migrate(running, old, f"--by={by}")
    assert found["studies"] == {"listed": 1, "instances_told": 0, "done_before": 0, "done": 1, "failed": 0}
    assert (found["instances"], found["bytes"]) == ({"here": len(sent), "missing": 0}, 0)
