"""A few dozen faults on every run; `make faults` does thousands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.disk import can_be_made
from tests.faults.rounds import run
from tests.programs import in_ci

ROUNDS = {"local+sqlite": 10, "s3+sqlite": 6, "s3+postgres": 8}


@pytest.mark.first
@pytest.mark.timeout(600)
@pytest.mark.parametrize("pair", ROUNDS)
def test_what_was_acknowledged_survives_whatever_happens_and_nobody_is_told_otherwise(
    tmp_path: Path, pair: str
) -> None:
    assert can_be_made() or not in_ci(), "CI leaves nothing out: a full disk needs root, mkfs.ext4 and loop devices"
    book, findings, _ = run(tmp_path, pair, ROUNDS[pair], seed=20261122)
    assert len(book.acknowledged) > 100
    assert findings.ok, findings
