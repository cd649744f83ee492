"""dcmjs-dimse, DIMSE in JavaScript, against the DIMSE face: C-ECHO, C-STORE, C-FIND, C-GET, C-MOVE."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import assembly
from gateway.config.serving import DestinationSettings
from gateway.dimse.server import DimseServer
from tests.engines import Engines
from tests.interop.test_javascript_client import MODULES
from tests.ports import free_port
from tests.programs import in_ci, need_program

pytestmark = pytest.mark.dealt("s3+postgres")

PROGRAM = Path(__file__).parent / "javascript" / "dimse.cjs"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(tmp_path: Path, own_engines: Engines, port: int) -> Iterator[DimseServer]:
    settings = own_engines.settings(tmp_path / "data")
    dimse = settings.dimse.model_copy(
        update={"destinations": {"JSDEST": DestinationSettings(host="127.0.0.1", port=port)}}
    )
    core = assembly.build(settings.model_copy(update={"dimse": dimse}), "test")
    started = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
    started.start()
    yield started
    started.stop(2.0)
    core.close()


@need_program("node", "nodejs")
def test_every_operation_of_dcmjs_dimse(server: DimseServer, port: int, tmp_path: Path) -> None:
    if not (MODULES / "dcmjs-dimse").is_dir():
        (pytest.fail if in_ci() else pytest.skip)(
            f"needs what package.json names in {MODULES}: make test puts it there"
        )
    (tmp_path / "dimse.cjs").write_text(PROGRAM.read_text())
    (tmp_path / "node_modules").symlink_to(MODULES)
    done = subprocess.run(
        ["node", "dimse.cjs", str(server.address[1]), str(port)],
        check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["statuses"] == [[0], [0, 0, 0], [0], [0], [0]]
    assert found["found"] == [found["study"]]
    assert sorted(found["gotten"]) == sorted(found["images"])
    assert sorted(found["moved"]) == sorted(found["images"])
