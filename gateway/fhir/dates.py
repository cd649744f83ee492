"""Dates of searches: spans of time, and what they ask of a date of a data set (FHIR R4 Search, 3.1.1.4.7)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.access import scopes
from gateway.errors import InvalidParameter
from storage.dicom import keys
from storage.dicom.attributes import MOMENTS
from storage.dicom.keys import Options
from storage.dicom.matching import NOTHING, Absent, AllOf, AnyOf, Condition, Not, Range
from storage.dicom.normal import offset_minutes
from storage.index.questions import Changed

PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")
"""What is understood; ``ap`` is not."""

_DATE = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(\d{4}(?:-\d\d(?:-\d\d(?:T.+)?)?)?)", re.ASCII)
_TIME = re.compile(r"T\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_FRACTION = datetime.timedelta(microseconds=1)
_AROUND = datetime.timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Dated:
    """A date with its prefix: the span from ``begin`` to before ``end``. Without ``has_time`` it is of whole days."""

    prefix: str
    begin: datetime.datetime
    end: datetime.datetime
    has_time: bool


def parsed(name: str, text: str) -> Dated:
    """A date, or date and time, as precise as it is written. Raises InvalidParameter."""
    fault = InvalidParameter(f"{name}: such as ge2026-01-31, or 2026-01-31T08:00:00Z")
    # A plus that was not escaped has become a space.
    found = _DATE.fullmatch(text.replace(" ", "+"))
    if found is None:
        raise fault
    prefix, moment = found[1] or "eq", found[2]
    if prefix not in PREFIXES:
        raise InvalidParameter(f"{name}: with {', '.join(PREFIXES)}")
    try:
        if "T" not in moment:
            begin, length = _of_days(moment)
            return Dated(prefix, begin, begin + length, has_time=False)
        parts = _TIME.fullmatch(moment[moment.index("T") :])
        if parts is None:
            raise fault
        begin = datetime.datetime.fromisoformat(moment)
        step = datetime.timedelta(milliseconds=1) if parts[2] else datetime.timedelta(seconds=1 if parts[1] else 60)
        return Dated(prefix, begin, begin + step, has_time=True)
    except (ValueError, OverflowError) as error:
        raise fault from error


def _of_days(text: str) -> tuple[datetime.datetime, datetime.timedelta]:
    year, month, day = (*map(int, text.split("-")), 0, 0)[:3]
    begin = datetime.datetime(year, month or 1, day or 1)
    if day:
        return begin, datetime.timedelta(days=1)
    following = (year + 1, 1) if not month or month == 12 else (year, month + 1)
    return begin, datetime.datetime(*following, 1) - begin


def condition(keyword: str, dated: Dated) -> Condition:
    """What a date asks of an attribute, and a time of that and its time. Raises InvalidParameter.

    Times are compared in UTC where the data set says its offset from it, and otherwise as they stand.
    """
    if dated.prefix == "ne":
        equal = condition(keyword, Dated("eq", dated.begin, dated.end, dated.has_time))
        return AllOf((Not(equal), Not(Absent(keyword))))
    step = _FRACTION if dated.has_time else datetime.timedelta(days=1)
    try:
        low, high = {
            "eq": (dated.begin, dated.end - step),
            "ge": (dated.begin, None),
            "gt": (dated.end, None),
            "sa": (dated.end, None),
            "le": (None, dated.end - step),
            "lt": (None, dated.begin - step),
            "eb": (None, dated.begin - step),
        }[dated.prefix]
    except OverflowError:
        return NOTHING
    if not dated.has_time:
        return Range(keyword, _day(low), _day(high))
    moment = next(each for each in MOMENTS if each.date.keyword == keyword)
    dates, times = f"{_day(low) or ''}-{_day(high) or ''}", f"{_time(low)}-{_time(high)}"
    options = Options(combined=True, offset=_offset(dated.begin))
    found = keys.combined(moment, dates, times, options)
    assert found is not None  # both are ranges of the same form
    # Wherever on Earth it was, the day was one of these: by days an index is entered.
    return AllOf((Range(keyword, _day(_moved(low, -_AROUND)), _day(_moved(high, _AROUND))), found))


def span(dated: Sequence[Dated]) -> Changed:
    """The times that satisfy all of some dates; those without an offset are in UTC. Raises InvalidParameter."""
    since, before = [], []
    for each in dated:
        begin, end = (_in_utc(moment).timestamp() for moment in (each.begin, each.end))
        if each.prefix == "ne":
            raise InvalidParameter("a time of change: with eq, gt, lt, ge, le, sa or eb")
        if each.prefix in ("eq", "ge", "gt", "sa"):
            since.append(begin if each.prefix in ("eq", "ge") else end)
        if each.prefix in ("eq", "le", "lt", "eb"):
            before.append(end if each.prefix in ("eq", "le") else begin)
    return Changed(max(since, default=None), min(before, default=None))


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)


def any_of(keyword: str, dated: Sequence[Dated]) -> Condition:
    """What several dates ask, of which one suffices. Raises InvalidParameter."""
    conditions = [condition(keyword, each) for each in dated]
    ranges = [each for each in conditions if isinstance(each, Range)]
    if len(conditions) == 1 or len(ranges) < len(conditions):
        return scopes.any_of(conditions)
    lows, highs = [each.low or "" for each in ranges], [each.high or "" for each in ranges]
    whole = Range(keyword, min(lows) or None, None if "" in highs else max(highs))
    return AllOf((whole, AnyOf(tuple(conditions))))


def _moved(moment: datetime.datetime | None, by: datetime.timedelta) -> datetime.datetime | None:
    try:
        return None if moment is None else moment + by
    except OverflowError:
        return None


def _day(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else f"{moment.year:04}{moment.month:02}{moment.day:02}"


def _time(moment: datetime.datetime | None) -> str:
    return "" if moment is None else f"{moment:%H%M%S.%f}"


def _offset(moment: datetime.datetime) -> str:
    """The offset from UTC as a data set has it; "" where none was given."""
    offset = moment.utcoffset()
    if offset is None:
        return ""
    minutes = int(offset.total_seconds() // 60)
    text = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    if offset_minutes(text) is None:
        raise InvalidParameter("a time's offset from UTC is between -12:00 and +14:00")
    return text
