"""Dates: moved by whole days with every interval kept, or not at all."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.deid import dates

DAYS = st.integers(-20_000, 20_000).filter(bool)
SOME_DATE = st.dates(date(1900, 1, 1), date(2100, 1, 1))


@given(SOME_DATE, SOME_DATE, DAYS)
def test_the_interval_between_two_dates_stays(one: date, other: date, days: int) -> None:
    moved = [dates.shifted_date(f"{each:%Y%m%d}", days) for each in (one, other)]
    found = [datetime.strptime(each, "%Y%m%d").date() for each in moved if each]
    assert found == [one + timedelta(days=days), other + timedelta(days=days)]


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), st.timedeltas(timedelta(0), timedelta(hours=30)), DAYS)
def test_an_acquisition_over_midnight_lasts_as_long_as_before(start: datetime, lasts: timedelta, days: int) -> None:
    moved = [dates.shifted_datetime(f"{each:%Y%m%d%H%M%S.%f}", days) for each in (start, start + lasts)]
    found = [datetime.strptime(each, "%Y%m%d%H%M%S.%f") for each in moved if each]
    assert found[1] - found[0] == lasts
    assert found[0].time() == start.time()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("20240301", "20240229"),
        ("2024", "2023"),
        ("202401", "202312"),
        ("20240101", "20231231"),
        ("20240101235959.999999+0100", "20231231235959.999999+0100"),
        ("202401010030-0500", "202312310030-0500"),
        ("2024010100", "2023123100"),
    ],
)
def test_a_date_time_keeps_its_precision_and_offset(before: str, after: str) -> None:
    assert dates.shifted_datetime(before, -1) == after


def test_the_dates_of_old_files_are_read() -> None:
    assert dates.shifted_date("1997.04.24", 1) == "19970425"


@pytest.mark.parametrize("text", ["20240230", "2024-01-01", "JOHN DOE", "2024.0101", "00000101", "20240101^"])
def test_what_is_no_date_is_not_moved(text: str) -> None:
    assert dates.shifted_date(text, 1) is None


@pytest.mark.parametrize("text", ["20240101 DOE", "20241301", "20240101250000", "20240101+9900", "202401011"])
def test_what_is_no_date_time_is_not_moved(text: str) -> None:
    assert dates.shifted_datetime(text, 1) is None


@pytest.mark.parametrize("text", ["DOE", "25", "1", "12:3", "120000.1234567"])
def test_what_is_no_time_does_not_stay(text: str) -> None:
    assert dates.shifted_time(text) is None


@pytest.mark.parametrize("text", ["12", "1230", "123059", "123059.123456", "12:30:59.1", "235960"])
def test_a_time_of_day_stays(text: str) -> None:
    assert dates.shifted_time(text) == text


def test_a_date_beyond_the_calendar_is_not_moved() -> None:
    assert dates.shifted_date("00010101", -1) is None
    assert dates.shifted_date("99991231", 1) is None


def test_years_before_1000_keep_four_digits() -> None:
    assert dates.shifted_date("09991231", -1) == "09991230"


@pytest.mark.parametrize(
    ("before", "after"),
    [("089Y", "089Y"), ("090Y", "090Y"), ("091Y", "090Y"), ("999M", "999M"), ("120Y", "090Y"), ("003D", "003D")],
)
def test_ages_above_90_are_90(before: str, after: str) -> None:
    assert dates.capped_age(before) == after


@pytest.mark.parametrize("text", ["91", "91Y", "0091Y", "DOE"])
def test_what_is_no_age_does_not_stay(text: str) -> None:
    assert dates.capped_age(text) is None
