"""A few dozen kills on every run; `make faults` does hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kill import run


@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_kill_9_at_random_moments(tmp_path: Path) -> None:
    book, findings = run(tmp_path, rounds=30, seed=20261122)
    assert len(book.acknowledged) > 100
    assert findings.ok, findings
