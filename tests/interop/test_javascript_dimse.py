"""dcmjs-dimse, DIMSE in JavaScript, against the DIMSE face: C-ECHO, C-STORE, C-FIND, C-GET, C-MOVE; over TLS too."""

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
from tests.gateway.http.conftest import Authority
from tests.interop.test_javascript_client import MODULES
from tests.ports import free_port
from tests.programs import in_ci, need_program

pytestmark = pytest.mark.dealt("s3+postgres")

PROGRAM = Path(__file__).parent / "javascript" / "dimse.cjs"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(params=["clear", "TLS"])
def secured(request: pytest.FixtureRequest, authority: Authority) -> dict[str, Any]:
    """Settings of the DIMSE face for mutual TLS; none in clear."""
    if request.param == "clear":
        return {}
    certificate, key = authority.issue("gateway")
    return {
        "tls_certificate_file": certificate,
        "tls_key_file": key,
        "tls_client_ca_file": authority.file,
        "tls_client_certificates": "required",
    }


@pytest.fixture
def server(
    tmp_path: Path, own_engines: Engines, port: int, secured: dict[str, Any], authority: Authority
) -> Iterator[DimseServer]:
    settings = own_engines.settings(tmp_path / "data")
    tls = {"tls": True, "tls_ca_file": authority.file} if secured else {}
    peer = DestinationSettings(host="localhost", port=port, **tls)
    dimse = settings.dimse.model_copy(update={"destinations": {"JSDEST": peer}, **secured})
    core = assembly.build(settings.model_copy(update={"dimse": dimse}), "test")
    started = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
    started.start()
    yield started
    started.stop(2.0)
    core.close()


@need_program("node", "nodejs")
def test_every_operation_of_dcmjs_dimse(
    server: DimseServer, port: int, tmp_path: Path, secured: dict[str, Any], authority: Authority
) -> None:
    if not (MODULES / "dcmjs-dimse").is_dir():
        (pytest.fail if in_ci() else pytest.skip)(
            f"needs what package.json names in {MODULES}: make test puts it there"
        )
    (tmp_path / "dimse.cjs").write_text(PROGRAM.read_text())
    (tmp_path / "node_modules").symlink_to(MODULES)
    certificate, key = authority.issue("client")
    files = [str(key), str(certificate), str(authority.file)] if secured else []
    done = subprocess.run(
        ["node", "dimse.cjs", str(server.address[1]), str(port), *files],
        check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["statuses"] == [[0], [0, 0, 0], [0], [0], [0]]
    assert found["found"] == [found["study"]]
    assert sorted(found["gotten"]) == sorted(found["images"])
    assert sorted(found["moved"]) == sorted(found["images"])
