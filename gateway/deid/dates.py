"""Dates and date-times moved by whole days (PS3.15 E.3.6 "... with Modified Dates Option"), and ages capped.

A shift by whole days leaves times of day, intervals to the second and offsets from UTC as they are, on both sides of
midnight too; so TM needs no change at all. What cannot be read is not moved: None, and the caller removes it.
"""

from __future__ import annotations

import re
from datetime import date, timedelta

# PS3.5 6.2: DA is YYYYMMDD; ACR-NEMA 2.0 had dots between, and readers have to take them.
_DA = re.compile(r"(\d{4})(\.?)(\d\d)\2(\d\d)", re.ASCII)
_TM = re.compile(r"([01]\d|2[0-3])(:?)(?:([0-5]\d)(?:\2([0-5]\d|60)(?:\.\d{1,6})?)?)?", re.ASCII)
_DT = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)((?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?)?)?)?"
    r"([+-](?:0\d|1[0-4])[0-5]\d)?",
    re.ASCII,
)
_OFFSET = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d", re.ASCII)
_AS = re.compile(r"(\d{3})([DWMY])", re.ASCII)
_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}

MAX_AGE_YEARS = 90


def shifted_date(text: str, days: int) -> str | None:
    """A DA value so many days later."""
    match = _DA.fullmatch(text.strip())
    if match is None:
        return None
    moved = _moved(int(match[1]), int(match[3]), int(match[4]), days)
    return None if moved is None else f"{moved:%Y%m%d}".rjust(8, "0")


def shifted_time(text: str) -> str | None:
    """A TM value: itself, if it is one."""
    text = text.strip()
    return text if _TM.fullmatch(text) else None


def shifted_datetime(text: str, days: int) -> str | None:
    """A DT value so many days later, in the precision it has and with its offset from UTC.

    A value without its day or month is moved from the first one, so to the precision that it has.
    """
    match = _DT.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, time, offset = match.groups()
    moved = _moved(int(year), int(month or 1), int(day or 1), days)
    if moved is None:
        return None
    length = 8 if day else 6 if month else 4
    return f"{moved:%Y%m%d}".rjust(8, "0")[:length] + (time or "") + (offset or "")


def valid_offset(text: str) -> str | None:
    """A value of Timezone Offset From UTC (0008,0201): itself, if it is one."""
    text = text.strip()
    return text if _OFFSET.fullmatch(text) else None


def shifted(vr: str, text: str, days: int) -> str | None:
    """A value of VR DA, TM or DT, moved; None if it is none."""
    if vr == "DA":
        return shifted_date(text, days)
    if vr == "DT":
        return shifted_datetime(text, days)
    return shifted_time(text)


def _moved(year: int, month: int, day: int, days: int) -> date | None:
    try:
        return date(year, month, day) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None


def capped_age(text: str) -> str | None:
    """An AS value, with 90 years for every age above (45 CFR 164.514(b)(2)(i)(C)); None if it is none."""
    match = _AS.fullmatch(text.strip())
    if match is None:
        return None
    years = int(match[1]) * _DAYS[match[2]] / _DAYS["Y"]
    return f"{MAX_AGE_YEARS:03}Y" if years > MAX_AGE_YEARS else text.strip()
