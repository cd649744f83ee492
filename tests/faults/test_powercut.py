"""Two power cuts on every run where this user may; `make faults` does ten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.powercut import run
from tests.programs import in_ci


def _may() -> bool:
    return os.geteuid() == 0 and Path("/usr/sbin/mkfs.ext4").exists() and Path("/dev/loop-control").exists()


@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    if not _may():
        assert not in_ci(), "CI leaves nothing out: power cuts need root, mkfs.ext4 and loop devices"
        pytest.skip("needs root, mkfs.ext4 (Debian package e2fsprogs) and loop devices")
    book, findings = run(tmp_path, cuts=2, seed=20261122)
    assert len(book.acknowledged) > 20
    assert findings.ok, findings
