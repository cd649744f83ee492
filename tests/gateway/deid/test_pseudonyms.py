"""Pseudonyms: the same everywhere for the same key, and nothing without it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from gateway.deid import DateShift, Pseudonyms

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def test_another_process_derives_the_same_pseudonyms() -> None:
    program = (
        "from gateway.deid import Pseudonyms; p = Pseudonyms(bytes(range(32)));"
        "print(p.uid('1.2.3.4'), p.patient('t', 'i', 'MRN1'), p.label('x', 'y'), sep='|')"
    )
    elsewhere = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    here = Pseudonyms(KEY)
    assert elsewhere.strip() == f"{here.uid('1.2.3.4')}|{here.patient('t', 'i', 'MRN1')}|{here.label('x', 'y')}"


@given(st.text(min_size=1, max_size=80))
def test_every_new_uid_is_a_valid_one_of_its_own(old: str) -> None:
    pseudonyms = Pseudonyms(KEY)
    new = pseudonyms.uid(old)
    if old.strip(" \0"):
        assert UID(new).is_valid
        assert new.startswith("2.25.")
        assert new != old
        assert new == pseudonyms.uid(f"{old}\0")
        assert new != Pseudonyms(OTHER).uid(old)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.4.1.1",  # a well-known frame of reference: Talairach
        "1.2.840.10008.2.16.4",  # the coding scheme DCM
    ],
)
def test_uids_of_the_registry_stay(uid: str) -> None:
    assert Pseudonyms(KEY).uid(uid) == uid


def test_a_patient_is_another_one_under_another_issuer_or_tenant() -> None:
    pseudonyms = Pseudonyms(KEY)
    one = pseudonyms.patient("clinic", "HOSP", "1")
    assert pseudonyms.patient("clinic", "HOSP", " 1 ") == one
    others = [
        pseudonyms.patient("clinic", "HOS", "P1"),
        pseudonyms.patient("clinic", "", "1"),
        pseudonyms.patient("other", "HOSP", "1"),
        pseudonyms.unidentified("clinic", "1"),
        Pseudonyms(OTHER).patient("clinic", "HOSP", "1"),
    ]
    assert len({patient.id for patient in [one, *others]}) == 6


def test_a_blank_patient_id_names_nobody() -> None:
    with pytest.raises(ValueError, match="study"):
        Pseudonyms(KEY).patient("clinic", "", "  ")


@pytest.mark.parametrize(("low", "high"), [(-3650, -31), (-2, 2), (0, 1), (5, 5), (-1, 0)])
def test_every_shift_in_the_bounds_is_taken_and_zero_is_not(low: int, high: int) -> None:
    shift = DateShift(low, high)
    found = {shift.of(number) for number in range(2 * (high - low + 1))}
    assert found == set(range(low, high + 1)) - {0}


def test_the_shift_of_a_patient_is_within_its_bounds() -> None:
    pseudonyms = Pseudonyms(KEY, DateShift(-3, 3))
    found = {pseudonyms.patient("clinic", "", str(number)).shift_days for number in range(200)}
    assert found == {-3, -2, -1, 1, 2, 3}


@pytest.mark.parametrize(("low", "high"), [(0, 0), (3, 2)])
def test_bounds_without_a_day_are_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="date shift"):
        DateShift(low, high)


def test_a_short_key_is_refused_and_a_key_is_not_shown() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Pseudonyms(b"short")
    assert "k" * 8 not in repr(Pseudonyms(b"k" * 32))
