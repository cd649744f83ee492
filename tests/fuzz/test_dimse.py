"""A short run of the DIMSE fuzzer; `make fuzz-dimse` is the long one."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.fuzz import dimse
from tests.programs import in_ci

SECONDS = float(os.environ.get("FUZZ_SECONDS", "60" if in_ci() else "8"))


@pytest.mark.first
def test_broken_sessions_are_answered_or_closed_and_leave_nothing(tmp_path: Path) -> None:
    report = dimse.run(tmp_path, random.SystemRandom().randrange(1 << 31), 0, 1 << 31, SECONDS)
    assert report.cases > 20
    assert report.ends["aborted"] > 0


def test_a_case_is_made_of_its_seed_and_number_alone() -> None:
    known = dimse.sessions()
    assert dimse.case(1, 7, known) == dimse.case(1, 7, known)
    assert dimse.case(1, 7, known) != dimse.case(1, 8, known)


def test_what_is_no_pdu_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimse, "ANSWERS", frozenset())
    with pytest.raises(dimse.Broken, match="what is no PDU"):
        dimse.run(tmp_path, 1, 0, 100, 60)
