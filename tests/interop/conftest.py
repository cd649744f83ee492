"""A gateway as it is deployed: a supervisor and its worker processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines import Engines
from tests.serving import Gateway


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
