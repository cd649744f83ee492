"""Normal forms: what is the same value is the same text or number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom import normal


@pytest.mark.parametrize(
    ("vr", "same"),
    [
        ("IS", ("7", "007", "+7", " 7 ")),
        ("DS", ("1.5", "1.50", "+1.5", "15e-1")),
        ("DS", ("120", "120.0", "1.2E2")),
        ("DA", ("20260131", "2026.01.31")),
        ("TM", ("2230", "223000", "22:30", "223000.0")),
        ("DT", ("20260131103000", "20260131103000.000", "20260131113000+0100", "20260131053000-0500")),
        ("PN", ("Müller^Zoë", "MULLER^ZOE ", "muller^zoe^^")),
    ],
)
def test_one_meaning_has_one_form(vr: str, same: tuple[str, ...]) -> None:
    assert len({normal.normalise(vr, text) for text in same}) == 1
    assert normal.normalise(vr, same[0]) is not None


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("IS", "seven"), ("IS", "1_000"), ("DS", "1,5"), ("DS", "nan"), ("DS", "1e999"), ("IS", "9" * 30),
        ("DA", "2026"), ("TM", "half past"), ("DT", "202613"), ("DT", "20260230"), ("DT", "20260101+9900"),
        ("LO", "  "), ("US", "١"),
    ],
)  # fmt: skip
def test_what_is_no_value_has_none(vr: str, text: str) -> None:
    assert normal.normalise(vr, text) is None


def test_a_leap_second_is_kept() -> None:
    assert normal.in_utc("20161231", "235960.000000", "+0000") == "20161231235959.000000"


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-12 * 60, 14 * 60))
def test_moments_are_the_same_from_every_offset(moment: datetime, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    local = moment.replace(tzinfo=UTC).astimezone(zone)
    sign = "-" if minutes < 0 else "+"
    offset = f"{sign}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    text = f"{local.year:04}{local:%m%d%H%M%S}.{local.microsecond:06}"
    expected = f"{moment.year:04}{moment:%m%d%H%M%S}.{moment.microsecond:06}"
    assert normal.instant_bound(text + offset, high=False) == expected
    assert normal.instant_bound(text, high=False, offset=offset) == expected
    assert normal.in_utc(text[:8], text[8:], offset) == expected


@given(st.text(max_size=30), st.sampled_from(["DA", "TM", "DT", "IS", "DS", "PN", "LO", "UI"]))
def test_no_text_is_too_odd(text: str, vr: str) -> None:
    found = normal.normalise(vr, text)
    assert found is None or isinstance(found, str | int | float)
