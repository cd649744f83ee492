"""Conditions as JSON: a scope that is kept holds as it was made, whatever becomes of the policy it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from storage.dicom.matching import Absent, AllOf, AnyOf, Condition, Fuzzy, InItem, Not, OneOf, Range, Wildcard

_Json = dict[str, Any]


def dump(condition: Condition) -> _Json:
    """A condition as JSON has it; ``load`` gives an equal one back."""
    kind = {"is": type(condition).__name__}
    if isinstance(condition, AllOf | AnyOf):
        return {**kind, "conditions": [dump(each) for each in condition.conditions]}
    if isinstance(condition, Not | InItem):
        return {**kind, "condition": dump(condition.condition)}
    of = {**kind, "keyword": condition.keyword}
    if isinstance(condition, OneOf):
        return {**of, "values": list(condition.values)}
    if isinstance(condition, Wildcard):
        return {**of, "pattern": condition.pattern}
    if isinstance(condition, Range):
        return {**of, "low": condition.low, "high": condition.high}
    if isinstance(condition, Fuzzy):
        return {**of, "words": [list(each) for each in condition.words]}
    return of


def load(kept: _Json) -> Condition:
    """The condition that was kept. Raises KeyError for what is none: nobody is let in by half of a condition."""
    return _LOADED[kept["is"]](kept)


def _parts(kept: _Json) -> tuple[Condition, ...]:
    return tuple(load(each) for each in kept["conditions"])


_LOADED: Mapping[str, Callable[[_Json], Condition]] = {
    "AllOf": lambda kept: AllOf(_parts(kept)),
    "AnyOf": lambda kept: AnyOf(_parts(kept)),
    "Not": lambda kept: Not(load(kept["condition"])),
    "InItem": lambda kept: InItem(load(kept["condition"])),
    "OneOf": lambda kept: OneOf(kept["keyword"], tuple(kept["values"])),
    "Wildcard": lambda kept: Wildcard(kept["keyword"], kept["pattern"]),
    "Range": lambda kept: Range(kept["keyword"], kept["low"], kept["high"]),
    "Fuzzy": lambda kept: Fuzzy(kept["keyword"], tuple(tuple(each) for each in kept["words"])),
    "Absent": lambda kept: Absent(kept["keyword"]),
}
