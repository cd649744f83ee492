"""Normal forms of values: what the index's columns hold and what conditions compare (PS3.4 C.2.2.2)."""

from __future__ import annotations

import calendar
import math
import re
from datetime import datetime, timedelta

from storage.dicom import names

Normal = str | int | float | None
"""A value: text, a number for IS, DS and the binary number VRs, None when the attribute is absent or empty."""

NUMBERS = frozenset(("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"))
_DATE = re.compile(r"\d{8}", re.ASCII)
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATE_TIME = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)
_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)", re.ASCII)
_INSTANT = "%Y%m%d%H%M%S.%f"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def normalise(vr: str, text: str) -> Normal:
    """The normal form of one value; None when empty or not of the VR.

    Dates are YYYYMMDD, times HHMMSS.FFFFFF, date-times YYYYMMDDHHMMSS.FFFFFF in UTC, names as ``names.fold`` (a
    single group).
    """
    # A NUL within a value is padding gone astray; PostgreSQL keeps none in a text.
    stripped = text.replace("\0", "").strip(" ")
    if not stripped:
        return None
    if vr == "PN":
        return names.fold(stripped) or None
    if vr == "DA":
        return date(stripped)
    if vr == "TM":
        return time_bound(stripped, high=False)
    if vr == "DT":
        return instant_bound(stripped, high=False)
    if vr in NUMBERS:
        found = number(stripped)
        return None if vr == "IS" and isinstance(found, float) else found
    return stripped


def number(text: str) -> Normal:
    """A number: whole where it is, so that "007", "7" and "7.0" are one; None when it is none or too large."""
    if not _NUMBER.fullmatch(text):
        return None
    found = float(text)
    if not math.isfinite(found):
        return None
    whole = int(text) if text.lstrip("+-").isdigit() else int(found)
    if whole != found and not text.lstrip("+-").isdigit():
        return found
    return whole if abs(whole) < 1 << 63 else None


def date(text: str) -> str | None:
    """A DA value as YYYYMMDD, the form of ACR-NEMA (with dots) too."""
    bare = text.replace(".", "") if len(text) == 10 else text
    return bare if _DATE.fullmatch(bare) else None


def time_bound(text: str, *, high: bool) -> str | None:
    """A TM value as HHMMSS.FFFFFF; what it leaves out is filled to its first or last moment. None when no time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hours, minutes, seconds, fraction = found.groups()
    fill = "59" if high else "00"
    fraction = (fraction or "").ljust(6, "9" if high else "0")
    return f"{hours}{minutes or fill}{seconds or fill}.{fraction}"


def instant_bound(text: str, *, high: bool, offset: str = "") -> str | None:
    """A DT value as YYYYMMDDHHMMSS.FFFFFF in UTC, filled as ``time_bound``; None when it is none.

    ``offset`` (``+0100``) stands in for an offset that the value lacks; without either the value is taken as UTC.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hours, minutes, seconds, fraction, own = found.groups()
    month = month or ("12" if high else "01")
    try:
        last = calendar.monthrange(int(year), int(month))[1]
    except (ValueError, calendar.IllegalMonthError):
        return None
    day = day or (f"{last:02}" if high else "01")
    time = time_bound(f"{hours or ('23' if high else '00')}{minutes or ''}{seconds or ''}", high=high)
    assert time is not None
    if fraction is not None:
        time = f"{time[:6]}.{fraction.ljust(6, '9' if high else '0')}"
    return in_utc(f"{year}{month}{day}", time, own or offset or "+0000")


def in_utc(day: str, time: str, offset: str) -> str | None:
    """A date and time (in their normal forms) with their offset as an instant; None when there is no such one."""
    minutes = offset_minutes(offset)
    if minutes is None:
        return None
    try:
        # A leap second is kept in the minute that it ends.
        local = datetime.strptime(day + time.replace("60.", "59.") if time[4:6] == "60" else day + time, _INSTANT)
        return (local - timedelta(minutes=minutes)).strftime(_INSTANT).rjust(21, "0")
    except (ValueError, OverflowError):
        return None


def offset_minutes(text: str) -> int | None:
    """Timezone Offset From UTC (0008,0201) in minutes; None when it is none."""
    found = _OFFSET.fullmatch(text.strip(" \0"))
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return -minutes if found[1] == "-" else minutes


def next_day(day: str, days: int = 1) -> str | None:
    """The day after a date in its normal form, or some days after (before); None when the calendar has none."""
    try:
        return (datetime.strptime(day, "%Y%m%d") + timedelta(days=days)).strftime("%Y%m%d").rjust(8, "0")
    except (ValueError, OverflowError):
        return None
