"""Two power cuts on every run where this user may; `make faults` does ten, and ten with PostgreSQL on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.disk import can_be_made
from tests.faults.powercut import run
from tests.programs import in_ci


@pytest.mark.first
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    if not can_be_made():
        assert not in_ci(), "CI leaves nothing out: power cuts need root, mkfs.ext4 and loop devices"
        pytest.skip("needs root, mkfs.ext4 (Debian package e2fsprogs) and loop devices")
    book, findings = run(tmp_path, cuts=2, seed=20261122)
    assert len(book.acknowledged) > 20
    assert findings.ok, findings
