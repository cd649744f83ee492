"""The worklist and what is performed of it, by DCMTK and pynetdicom, against a gateway as it is deployed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE

from tests import instances, steps
from tests.programs import need_program
from tests.serving import Gateway

pytestmark = [
    pytest.mark.dealt("s3+postgres"),
    need_program("findscu", "dcmtk"),
    pytest.mark.xdist_group("worklist"),
]

STEP = "1.2.840.10008.3.1.2.3.3"
ORDER = """(0008,0005) CS ISO_IR 100
(0008,0050) SH A-4711
(0010,0010) PN M\u00fcller^J\u00f6rg
(0010,0020) LO P-17
(0032,1060) LO CT head
(0040,0100) SQ
  (fffe,e000) na
    (0008,0060) CS CT
    (0040,0001) AE CT1
    (0040,0002) DA 20261201
    (0040,0003) TM 0900
  (fffe,e00d) na
(fffe,e0dd) na
"""


def command(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    """What a command of the same settings reports."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "worklist", *arguments, "--json"],
        env=gateway.environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def findscu(gateway: Gateway, folder: Path, *keys: str) -> list[str]:
    """The answers of findscu, as dcmdump shows them."""
    folder.mkdir()
    arguments = [each for key in keys for each in ("-k", key)]
    subprocess.run(
        ["findscu", "-W", "-X", "-od", folder, "-aet", "CT1", "-aec", "GATEWAY", "127.0.0.1", str(gateway.dimse_port),
         *arguments],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    files = sorted(folder.iterdir())
    return [subprocess.run(["dcmdump", "+U8", each], check=True, capture_output=True).stdout.decode() for each in files]


def test_a_day_of_a_modality(running: Gateway, tmp_path: Path) -> None:
    (tmp_path / "order.dump").write_bytes(ORDER.encode("latin-1"))
    subprocess.run(["dump2dcm", tmp_path / "order.dump", tmp_path / "order.wl"], check=True, capture_output=True)
    assert len(command(running, "import", str(tmp_path / "order.wl"))["scheduled"]) == 1

    keys = ["0008,0005=ISO_IR 100", "0010,0010=m*", "0010,0020", "0020,000D", "0040,1001", "0008,0050"]
    step = ["0040,0100[0].0040,0001=CT1", "0040,0100[0].0040,0002=20261201", "0040,0100[0].0040,0009"]
    [told] = findscu(running, tmp_path / "first", *keys, *step)
    assert "Müller^Jörg" in told
    assert "[P-17]" in told
    assert findscu(running, tmp_path / "other", *keys, "0040,0100[0].0040,0001=CT2") == []

    [listed] = command(running, "list")["steps"]
    order = steps.scheduled(PatientID="P-17", PatientName="Müller^Jörg", AccessionNumber="A-4711")
    order.StudyInstanceUID = listed["dataSet"]["0020000D"]["Value"][0]
    assert order.StudyInstanceUID in told
    order.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID = listed["step"].split(" ")[1]
    scu, uid = AE(ae_title="CT1"), instances.uid()
    scu.add_requested_context(STEP)
    association = scu.associate("127.0.0.1", running.dimse_port, ae_title="GATEWAY")
    assert association.send_n_create(steps.performed(order), STEP, uid)[0].Status == 0x0000
    assert [each["state"] for each in command(running, "list")["steps"]] == ["STARTED"]
    association.release()

    # Every process has it, and so has whoever comes after them.
    running.kill_all()
    running.start()
    [told] = findscu(running, tmp_path / "second", *keys, *step, "0040,0100[0].0040,0020")
    assert "[STARTED]" in told
    association = scu.associate("127.0.0.1", running.dimse_port, ae_title="GATEWAY")
    assert association.send_n_set(steps.ended(), STEP, uid)[0].Status == 0x0000
    association.release()
    assert findscu(running, tmp_path / "third", *keys, *step) == []
    assert [each["state"] for each in command(running, "list", "--all")["steps"]] == ["COMPLETED"]
