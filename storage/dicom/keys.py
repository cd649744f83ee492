"""From the texts of requests to conditions, by VR (PS3.4 C.2.2.2 "Attribute Matching")."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from storage.dicom import names
from storage.dicom.attributes import Attribute, Moment
from storage.dicom.matching import (
    EVERYTHING,
    NOTHING,
    Absent,
    AllOf,
    AnyOf,
    Condition,
    Fuzzy,
    InItem,
    Not,
    OneOf,
    Range,
    Wildcard,
    attribute_of,
)
from storage.dicom.normal import in_utc, instant_bound, next_day, normalise, time_bound
from storage.errors import InvalidCondition

EMPTY = '""'
"""What stands for an empty value in a key (PS3.4 C.2.2.2.7)."""

RANGE_VRS = frozenset(("DA", "DT", "TM"))
WILDCARD_VRS = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
MULTIPLE_VRS = frozenset(("AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"))
"""Where several values in a key have to be there all (PS3.4 C.2.2.2.8 "Multiple Value Matching")."""


MAX_TOGETHER = 64
"""Most values of a key that have to be there all, or are wildcards in a list."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """Kinds of matching that a request asks for; ``offset`` is that of its dates and times from UTC, "" for none."""

    fuzzy: bool = False
    empty_values: bool = False
    multiple_values: bool = False
    combined: bool = False
    offset: str = ""


PLAIN = Options()


def condition(attribute: Attribute, text: str, options: Options = PLAIN) -> Condition:
    """The condition of one key; raises InvalidCondition when the text is none of the attribute's VR."""
    if options.empty_values and text.strip(" ") == EMPTY:
        absent = Absent(attribute.keyword)
        return Not(InItem(Not(absent))) if attribute.items else absent
    # A NUL is padding, which the index does not keep either.
    text = text.replace("\0", "")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidCondition(f"{attribute.keyword}: not a text in Unicode")
    if attribute.vr == "UI":
        return any_of(attribute, re.split(r"[\\,]", text))
    if options.multiple_values and attribute.vr in MULTIPLE_VRS and "\\" in text:
        parts = [part for part in text.split("\\") if part.strip(" ")]
        if len(parts) > MAX_TOGETHER:
            raise InvalidCondition(f"{attribute.keyword}: more than {MAX_TOGETHER} values at once")
        if any(character in part for part in parts for character in "*?"):
            raise InvalidCondition(f"{attribute.keyword}: no wildcards in a list of values")
        return AllOf(tuple(condition(attribute, part, options) for part in parts))
    if attribute.vr in RANGE_VRS:
        return between(attribute, text, options.offset)
    if attribute.vr == "PN":
        return _name(attribute, text, options)
    return wildcard(attribute, text)


def _name(attribute: Attribute, text: str, options: Options) -> Condition:
    """A name's groups, each to be found in any group; with fuzzy matching also by its words and their sounds."""
    groups = [group for group in text.split("=") if group.strip(" *")]
    if len(groups) > 3:
        raise InvalidCondition(f"{attribute.keyword}: a name has at most three component groups")
    if not groups:
        return EVERYTHING
    literal = of_one_name(attribute, [wildcard(attribute, group) for group in groups])
    words = names.fuzzy(" ".join(groups)) if options.fuzzy else ()
    return AnyOf((literal, Fuzzy(attribute.keyword, words))) if words else literal


def of_one_name(attribute: Attribute, groups: Sequence[Condition]) -> Condition:
    """That one name satisfies conditions on its component groups: where there are several names, not each another."""
    if len(groups) == 1:
        return groups[0]
    return InItem(AllOf(tuple(groups))) if attribute.items else AllOf(tuple(groups))


def single(attribute: Attribute, text: str) -> Condition:
    """Single value matching; raises InvalidCondition when the text is no value of the attribute."""
    if attribute.vr == "PN" and "=" in text:
        raise InvalidCondition(f"{attribute.keyword}: give one component group of the name, without '='")
    value = normalise(attribute.vr, text)
    if value is None:
        raise InvalidCondition(f"{attribute.keyword}: not a value of VR {attribute.vr}")
    return OneOf(attribute.keyword, (value,))


def wildcard(attribute: Attribute, pattern: str) -> Condition:
    """Wildcard matching where the VR has it, single value matching otherwise; raises InvalidCondition."""
    if attribute.vr not in WILDCARD_VRS:
        return single(attribute, pattern)
    folded = names.fold(pattern) if attribute.vr == "PN" else pattern.strip(" ")
    folded = re.sub(r"\*+", "*", folded)
    if "*" not in folded and "?" not in folded:
        return single(attribute, pattern)
    return EVERYTHING if folded == "*" else Wildcard(attribute.keyword, folded)


def any_of(attribute: Attribute, texts: list[str]) -> Condition:
    """List matching, as for UIDs (PS3.4 C.2.2.2.2); raises InvalidCondition."""
    values = tuple(value for value in (normalise(attribute.vr, text) for text in texts) if value is not None)
    if not values:
        raise InvalidCondition(f"{attribute.keyword}: an empty list of values")
    return OneOf(attribute.keyword, values)


def between(attribute: Attribute, text: str, offset: str = "") -> Condition:
    """Range matching of ``low-high``, ``low-`` or ``-high``, or single value matching; raises InvalidCondition."""
    if "-" not in text:
        if attribute.vr == "DT":
            return OneOf(attribute.keyword, (_bound(attribute, text.strip(" "), offset, high=False),))
        return single(attribute, text)
    if attribute.vr == "DT":
        return _instants(attribute, text, offset)
    low, high = bounds(attribute, text)
    return Range(attribute.keyword, low, high)


def bounds(attribute: Attribute, text: str) -> tuple[str | None, str | None]:
    """Both ends of a range of dates or times; raises InvalidCondition."""
    low, _, high = (part.strip() for part in text.partition("-"))
    if not low and not high:
        raise InvalidCondition(f"{attribute.keyword}: a range needs at least one end")
    return (
        _bound(attribute, low, "", high=False) if low else None,
        _bound(attribute, high, "", high=True) if high else None,
    )


def _bound(attribute: Attribute, text: str, offset: str, *, high: bool) -> str:
    if attribute.vr == "TM":
        found = time_bound(text, high=high)
    elif attribute.vr == "DT":
        found = instant_bound(text, high=high, offset=offset)
    else:
        found = str(normalise(attribute.vr, text) or "") or None
    if found is None:
        raise InvalidCondition(f"{attribute.keyword}: not a value or range of VR {attribute.vr}")
    return found


def _instants(attribute: Attribute, text: str, offset: str) -> Condition:
    """A range of date-times. A minus may also begin an offset: what is a range in its order is read as one."""
    for found in re.finditer("-", text):
        low, high = text[: found.start()].strip(), text[found.end() :].strip()
        start = instant_bound(low, high=False, offset=offset) if low else None
        end = instant_bound(high, high=True, offset=offset) if high else None
        if (low and start is None) or (high and end is None) or not (low or high):
            continue
        if start is None or end is None or start <= end:
            return Range(attribute.keyword, start, end)
    return OneOf(attribute.keyword, (_bound(attribute, text.strip(), offset, high=False),))


def combined(moment: Moment, dates: str, times: str, options: Options) -> Condition | None:
    """A range of dates and one of times as one range of moments; None when both are not of the same form.

    PS3.4 C.2.2.2.5.4: from the first date's first time to the last date's last. With an offset from UTC, moments that
    are known in UTC are compared as such; the others as they stand. Raises InvalidCondition.
    """
    ranged = "-" in dates
    if (times and ("-" in times) != ranged) or not (ranged or options.offset):
        return None
    if not ranged:
        dates, times = f"{dates}-{dates}", f"{times}-{times}" if times else ""
    first, last = bounds(moment.date, dates)
    start, end = bounds(moment.time, times) if times else (None, None)
    if times and ((first is None) != (start is None) or (last is None) != (end is None)):
        return None
    start, end = start or "000000.000000", end or "235959.999999"
    local = AllOf((*_after(moment, first, start), *_before(moment, last, end)))
    if not options.offset:
        return local
    low = in_utc(first, start, options.offset) if first else None
    high = in_utc(last, end, options.offset) if last else None
    unknown = Absent(moment.instant.keyword)
    return AnyOf((Range(moment.instant.keyword, low, high), AllOf((unknown, local))))


def _after(moment: Moment, first: str | None, start: str) -> tuple[Condition, ...]:
    if first is None:
        return ()
    date, time = moment.date.keyword, moment.time.keyword
    later = next_day(first)
    rest = Range(date, later, None) if later else NOTHING
    on_first = OneOf(date, (first,))
    # Without a time, a whole day counts; a bound at its very edge asks for none.
    at_time = on_first if start == "000000.000000" else AllOf((on_first, Range(time, start, None)))
    return (Range(date, first, None), AnyOf((rest, at_time)))


def _before(moment: Moment, last: str | None, end: str) -> tuple[Condition, ...]:
    if last is None:
        return ()
    date, time = moment.date.keyword, moment.time.keyword
    earlier = next_day(last, -1)
    rest = Range(date, None, earlier) if earlier else NOTHING
    on_last = OneOf(date, (last,))
    at_time = on_last if end == "235959.999999" else AllOf((on_last, Range(time, None, end)))
    return (Range(date, None, last), AnyOf((rest, at_time)))


def of_keyword(keyword: str, text: str, options: Options = PLAIN) -> Condition:
    """The condition of one key on a registered attribute with a column; raises InvalidCondition."""
    return condition(attribute_of(keyword), text, options)
