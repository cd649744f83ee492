"""Conditions on attributes: one small tree for searches and for policy scopes.

A condition has two evaluators that must agree: ``matches`` here, over the normal forms of an instance's
attributes, and the SQL that an index makes of it. Normal forms (``storage.dicom.normal``) are what the index's
columns hold. Conditions are made of the texts of requests in ``storage.dicom.keys``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from storage.dicom import names
from storage.dicom.attributes import BY_KEYWORD, Attribute
from storage.dicom.normal import Normal
from storage.errors import InvalidCondition

Record = Mapping[str, Normal | Sequence[Mapping[str, Normal]]]
"""Columns and their normal values; under the names of tables of items (``Attribute.items``) mappings, one an item."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """The attribute has one of these normal values; for names, in any of its component groups."""

    keyword: str
    values: tuple[str | int | float, ...]


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
class Fuzzy:
    """The name has, for each of some words, one of its keys (``storage.dicom.names``), in whatever component."""

    keyword: str
    words: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """The attribute is not there or has no value (PS3.4 C.2.2.2.7 "Empty Value Matching")."""

    keyword: str


@dataclass(frozen=True, slots=True)
class InItem:
    """One and the same item of a sequence, or one of several values, satisfies a condition (PS3.4 C.2.2.2.6, C.2.2.3).

    All attributes of the condition are of the same items.
    """

    condition: Condition


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


Leaf = OneOf | Wildcard | Range | Fuzzy | Absent
Condition = Leaf | InItem | AllOf | AnyOf | Not

EVERYTHING = AllOf(())
NOTHING = AnyOf(())


def attribute_of(keyword: str) -> Attribute:
    """The registered attribute that a condition may name; raises InvalidCondition."""
    attribute = BY_KEYWORD.get(keyword)
    if attribute is None or not attribute.column:
        raise InvalidCondition(f"{keyword} has no column to be matched in")
    return attribute


@lru_cache(maxsize=1024)
def items_of(condition: Condition) -> str:
    """The table of items that a condition within one item is about; "" when it names no attribute of any."""
    if isinstance(condition, AllOf | AnyOf):
        return next((found for part in condition.conditions if (found := items_of(part))), "")
    if isinstance(condition, Not | InItem):
        return items_of(condition.condition)
    return attribute_of(condition.keyword).items


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    first, *rest = ["".join("." if c == "?" else re.escape(c) for c in part) for part in pattern.split("*")]
    if not rest:
        return re.compile(first, re.DOTALL)
    # Each piece where it is found first, for good: a pattern of many stars must not be tried in every combination.
    *pieces, last = rest
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in pieces) + ".*" + last, re.DOTALL)


def matches(condition: Condition, record: Record) -> bool:
    """Evaluate a condition over columns and their normal values, as SQL would.

    An absent value satisfies no OneOf, Wildcard, Range or Fuzzy; a wildcard other than ``*`` alone needs a value.
    """
    if isinstance(condition, AllOf):
        return all(matches(part, record) for part in condition.conditions)
    if isinstance(condition, AnyOf):
        return any(matches(part, record) for part in condition.conditions)
    if isinstance(condition, Not):
        return not matches(condition.condition, record)
    if isinstance(condition, InItem):
        return any(matches(condition.condition, item) for item in _items(record, items_of(condition)))
    attribute = attribute_of(condition.keyword)
    if attribute.items in record:
        if not isinstance(condition, Fuzzy):
            return matches(InItem(condition), record)
        every = [item.get(column) for item in _items(record, attribute.items) for column in attribute.columns]
        return satisfied(condition, [value for value in every if isinstance(value, str)])
    values = (record.get(column) for column in attribute.columns)
    return satisfied(condition, [value for value in values if isinstance(value, str | int | float)])


def _items(record: Record, name: str) -> Iterator[Mapping[str, Normal]]:
    items = record.get(name, ())
    assert isinstance(items, Sequence)
    return (item for item in items if isinstance(item, Mapping))


def satisfied(leaf: Leaf, present: Iterable[str | int | float]) -> bool:
    """Whether the normal values of an attribute, all that it has, satisfy a condition on it."""
    if isinstance(leaf, Absent):
        return not any(True for _ in present)
    if isinstance(leaf, OneOf):
        return any(value in leaf.values for value in present)
    if isinstance(leaf, Wildcard):
        return any(_regex(leaf.pattern).fullmatch(str(value)) is not None for value in present)
    if isinstance(leaf, Fuzzy):
        return _sounds_like(leaf.words, names.keys(str(value) for value in present))
    low, high = leaf.low, leaf.high
    return any((low is None or str(v) >= low) and (high is None or str(v) <= high) for v in present)


def _sounds_like(words: tuple[tuple[str, ...], ...], keys: frozenset[str]) -> bool:
    return all(
        any(key in keys if not key.endswith("*") else any(k.startswith(key[:-1]) for k in keys) for key in word)
        for word in words
    )
