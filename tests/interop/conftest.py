"""A gateway as it is deployed: a supervisor and its worker processes; and a provider that others made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests import programs
from tests.engines import Engines
from tests.programs import in_ci
from tests.serving import Gateway

PROGRAM = Path(__file__).parent / "javascript" / "issuer.cjs"
MODULES = Path(sys.prefix) / "node_modules"


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, engines: Engines, face_workers: dict[str, str]
) -> Iterator[Gateway]:
    """A running gateway of this module's own."""
    folder = tmp_path_factory.mktemp("gateway")
    gateway = Gateway(folder / "data", folder / "gateway.log", engines, **face_workers)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, gateway.log


@pytest.fixture(scope="module")
def javascript_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, IO[str], IO[str]]]:
    """Where oauth2-mock-server is, its standard input and output."""
    if not (MODULES / "oauth2-mock-server").is_dir():
        (pytest.fail if in_ci() else pytest.skip)(
            f"needs what package.json names in {MODULES}: make test puts it there"
        )
    folder = tmp_path_factory.mktemp("issuer")
    (folder / PROGRAM.name).write_text(PROGRAM.read_text())
    (folder / "node_modules").symlink_to(MODULES)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with programs.running(["node", PROGRAM.name], cwd=folder, text=True, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.stdin, process.stdout
