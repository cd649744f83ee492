"""Where the demo puts what it stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import demo


def test_the_environment_counts_but_not_for_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__DIRECTORY", str(tmp_path / "archive"))
    monkeypatch.setenv("GATEWAY_STORAGE__MIN_FREE_BYTES", "0")
    monkeypatch.setenv("GATEWAY_HTTP__WORKERS", "1")
    found = demo._settings(tmp_path / "demo")
    assert found.storage.directory == tmp_path / "demo"
    assert (found.storage.min_free_bytes, found.http.workers, found.log.level) == (0, 1, "warning")
    assert found.metrics.port
