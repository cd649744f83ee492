"""Conditions on attributes: one small tree for searches and for policy scopes.

A condition has two evaluators that must agree: ``matches`` here, over the normal forms of an instance's
attributes, and the SQL that an index makes of it. Normal forms (``normalise``) are what the index's columns hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from storage.dicom import names
from storage.dicom.attributes import BY_KEYWORD, Attribute
from storage.errors import InvalidCondition

Normal = str | int | None
"""A column's value: text, a whole number for IS, None when the attribute is absent or empty."""

_DATE = re.compile(r"\d{8}", re.ASCII)
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_WILDCARD_VRS = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
RANGE_VRS = frozenset(("DA", "TM"))


@dataclass(frozen=True, slots=True)
class OneOf:
    """The attribute has one of these normal values; for names, in any of its component groups."""

    keyword: str
    values: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """The attribute matches a pattern in which ``*`` is any text and ``?`` any one character (PS3.4 C.2.2.2.4)."""

    keyword: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """The attribute lies between two normal values, both included; None leaves a side open (PS3.4 C.2.2.2.5)."""

    keyword: str
    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every condition holds; of none, always."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one condition holds; of none, never."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold; an absent attribute satisfies the negation."""

    condition: Condition


Condition = OneOf | Wildcard | Range | AllOf | AnyOf | Not

EVERYTHING = AllOf(())
NOTHING = AnyOf(())


def attribute_of(keyword: str) -> Attribute:
    """The registered attribute that a condition may name; raises InvalidCondition."""
    attribute = BY_KEYWORD.get(keyword)
    if attribute is None or not attribute.column:
        raise InvalidCondition(f"{keyword} cannot be matched")
    return attribute


def normalise(attribute: Attribute, text: str) -> Normal:
    """The normal form of one value; None when empty or not of the attribute's VR.

    Dates are YYYYMMDD, times HHMMSS.FFFFFF, names as ``names.fold`` (a single group).
    """
    stripped = text.strip(" \0")
    if not stripped:
        return None
    if attribute.vr == "PN":
        return names.fold(stripped) or None
    if attribute.vr == "DA":
        date = stripped.replace(".", "") if len(stripped) == 10 else stripped
        return date if _DATE.fullmatch(date) else None
    if attribute.vr == "TM":
        return time_bound(stripped, high=False)
    if attribute.vr == "IS":
        try:
            number = int(stripped)
        except ValueError:
            return None
        return number if abs(number) < 1 << 63 else None
    return stripped


def time_bound(text: str, *, high: bool) -> str | None:
    """A TM value as HHMMSS.FFFFFF; what it leaves out is filled to its first or last moment. None when no time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hours, minutes, seconds, fraction = found.groups()
    fill = "59" if high else "00"
    fraction = (fraction or "").ljust(6, "9" if high else "0")
    return f"{hours}{minutes or fill}{seconds or fill}.{fraction}"


def single(keyword: str, text: str) -> Condition:
    """Single value matching; raises InvalidCondition when the text is no value of the attribute."""
    attribute = attribute_of(keyword)
    if attribute.vr == "PN" and "=" in text:
        raise InvalidCondition(f"{keyword}: give one component group of the name, without '='")
    value = normalise(attribute, text)
    if value is None:
        raise InvalidCondition(f"{keyword}: not a value of VR {attribute.vr}")
    return OneOf(keyword, (value,))


def wildcard(keyword: str, pattern: str) -> Condition:
    """Wildcard matching where the VR has it, single value matching otherwise; raises InvalidCondition."""
    attribute = attribute_of(keyword)
    if attribute.vr not in _WILDCARD_VRS:
        return single(keyword, pattern)
    folded = names.fold(pattern) if attribute.vr == "PN" else pattern.strip(" ")
    folded = re.sub(r"\*+", "*", folded)
    if "*" not in folded and "?" not in folded:
        return single(keyword, pattern)
    return EVERYTHING if folded == "*" else Wildcard(keyword, folded)


def between(keyword: str, text: str) -> Condition:
    """Range matching of ``low-high``, ``low-`` or ``-high``; raises InvalidCondition."""
    attribute = attribute_of(keyword)
    low_text, dash, high_text = text.partition("-")
    if attribute.vr not in RANGE_VRS or not dash:
        return single(keyword, text)
    bounds: list[str | None] = []
    for part, high in ((low_text.strip(), False), (high_text.strip(), True)):
        if not part:
            bounds.append(None)
            continue
        bound = time_bound(part, high=high) if attribute.vr == "TM" else normalise(attribute, part)
        if bound is None:
            raise InvalidCondition(f"{keyword}: not a range of VR {attribute.vr}")
        bounds.append(str(bound))
    if bounds == [None, None]:
        raise InvalidCondition(f"{keyword}: a range needs at least one end")
    return Range(keyword, bounds[0], bounds[1])


def any_of(keyword: str, texts: tuple[str, ...]) -> Condition:
    """List matching, as for UIDs (PS3.4 C.2.2.2.2); raises InvalidCondition."""
    attribute = attribute_of(keyword)
    values = tuple(value for value in (normalise(attribute, text) for text in texts) if value is not None)
    if not values:
        raise InvalidCondition(f"{keyword}: an empty list of values")
    return OneOf(keyword, values)


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.compile("".join(parts), re.DOTALL)


def matches(condition: Condition, row: Mapping[str, Normal]) -> bool:
    """Evaluate a condition over columns and their normal values, as SQL would.

    An absent value satisfies no OneOf, Wildcard or Range; a wildcard other than ``*`` alone needs a value.
    """
    if isinstance(condition, AllOf):
        return all(matches(part, row) for part in condition.conditions)
    if isinstance(condition, AnyOf):
        return any(matches(part, row) for part in condition.conditions)
    if isinstance(condition, Not):
        return not matches(condition.condition, row)
    values = [row.get(column) for column in attribute_of(condition.keyword).columns]
    present = [value for value in values if value is not None]
    if isinstance(condition, OneOf):
        return any(value in condition.values for value in present)
    if isinstance(condition, Wildcard):
        return any(_regex(condition.pattern).fullmatch(str(value)) is not None for value in present)
    low, high = condition.low, condition.high
    return any((low is None or str(v) >= low) and (high is None or str(v) <= high) for v in present)
