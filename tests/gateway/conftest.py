"""A gateway's services on a directory of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.serving import DimseSettings, HttpSettings
from gateway.config.storing import StorageSettings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Local objects, SQLite, any free ports; without fsync, since no test here is about durability."""
    return Settings(
        http=HttpSettings(port=0),
        dimse=DimseSettings(port=0),
        storage=StorageSettings(directory=tmp_path / "data", fsync=False, max_instance_bytes=1 << 20),
    )


@pytest.fixture
def core(settings: Settings) -> Iterator[Core]:
    """Everything below the faces, built from ``settings``."""
    built = assembly.build(settings, "test")
    yield built
    built.close()
