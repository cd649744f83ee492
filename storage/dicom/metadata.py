"""Keys on stored metadata: attributes that have no column, in sequences, and private ones (PS3.18 8.3.4.1).

A data set here is one in the DICOM JSON Model.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from storage.dicom import keys
from storage.dicom.attributes import Attribute, Level
from storage.dicom.json_model import JsonDataSet, JsonElement
from storage.dicom.keys import Options
from storage.dicom.matching import AllOf, AnyOf, Condition, InItem, Leaf, Not, satisfied
from storage.dicom.normal import normalise
from storage.errors import InvalidCondition

_PRIVATE_BLOCKS = range(0x10, 0x100)
_UNREADABLE = frozenset(("OB", "OD", "OF", "OL", "OV", "OW"))


@dataclass(frozen=True, slots=True)
class Step:
    """One element of a path: its tag and, for a private one, the creator that reserved its block (PS3.5 7.8.1).

    The block's number in the tag of a private element is not looked at: it differs between data sets.
    """

    tag: str
    creator: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """An element's values satisfy a text, by their VR: the dictionary's, or for "" the one they are stored with."""

    step: Step
    vr: str
    text: str
    options: Options = keys.PLAIN


@dataclass(frozen=True, slots=True)
class Item:
    """One and the same item of a sequence satisfies all of some keys (PS3.4 C.2.2.2.6 "Sequence Matching")."""

    step: Step
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Reserved:
    """A creator has reserved a block in a group."""

    group: str
    creator: str


Key = Value | Item | Reserved


def is_private(tag: str) -> bool:
    """Whether a tag is that of a private data element."""
    return int(tag[:4], 16) % 2 == 1 and int(tag[4:], 16) >= 0x1000


def is_creator(tag: str) -> bool:
    """Whether a tag is that of a private creator element."""
    return int(tag[:4], 16) % 2 == 1 and int(tag[4:], 16) in _PRIVATE_BLOCKS


def creator_tag(tag: str) -> str:
    """The creator element of the block that a private tag names."""
    return f"{tag[:4]}00{tag[4:6]}"


def locate(data_set: Mapping[str, JsonElement], step: Step) -> str | None:
    """The tag under which a step stands in a data set; None when its creator has no block there."""
    if not step.creator:
        return step.tag
    for block in _PRIVATE_BLOCKS:
        element = data_set.get(f"{step.tag[:4]}00{block:02X}")
        if element is not None and element.get("Value", [None])[:1] == [step.creator]:
            return f"{step.tag[:4]}{block:02X}{step.tag[6:]}"
    return None


def matches(key: Key, data_set: JsonDataSet) -> bool:
    """Whether a data set satisfies a key."""
    if isinstance(key, Reserved):
        return locate(data_set, Step(f"{key.group}1000", key.creator)) is not None
    tag = locate(data_set, key.step)
    element = data_set.get(tag) if tag is not None else None
    if isinstance(key, Item):
        items = element.get("Value", []) if element is not None and element.get("vr") == "SQ" else []
        return any(all(matches(inner, item or {}) for inner in key.keys) for item in items)
    return _value_matches(key, element)


def _value_matches(key: Value, element: JsonElement | None) -> bool:
    vr = key.vr or (str(element["vr"]) if element is not None else "LO")
    if vr in ("UN", "SQ") or vr in _UNREADABLE:
        vr = "LO"
    try:
        wanted = condition(vr, key.text, key.options)
    except InvalidCondition:
        return False  # the element's own VR does not have such a value
    return _holds(wanted, list(_values(element, vr)))


@lru_cache(maxsize=1024)
def condition(vr: str, text: str, options: Options) -> Condition:
    """The condition of a text on values of a VR; raises InvalidCondition."""
    return keys.condition(Attribute("value", "00000000", vr, Level.INSTANCE), text, options)


def _holds(wanted: Condition, present: list[str | int | float]) -> bool:
    if isinstance(wanted, AllOf):
        return all(_holds(part, present) for part in wanted.conditions)
    if isinstance(wanted, AnyOf):
        return any(_holds(part, present) for part in wanted.conditions)
    if isinstance(wanted, Not):
        return not _holds(wanted.condition, present)
    assert not isinstance(wanted, InItem)
    leaf: Leaf = wanted
    return satisfied(leaf, present)


def _values(element: JsonElement | None, vr: str) -> Iterator[str | int | float]:
    """All normal values of an element (PS3.4 C.2.2.3: any of them may match); bulk values are not read."""
    if element is None:
        return
    if element.get("vr") == "SQ":
        yield from [len(element["Value"])] if element.get("Value") else []
        return
    for value in _texts(element):
        found = normalise(vr, value)
        if found is not None:
            yield found


def _texts(element: JsonElement) -> Iterator[str]:
    if "InlineBinary" in element:
        try:
            raw = base64.b64decode(element["InlineBinary"])
        except (binascii.Error, ValueError):
            return
        yield from raw.decode("utf-8", "replace").split("\\")
        return
    for value in element.get("Value", []):
        if isinstance(value, dict):
            yield from (str(group) for group in value.values() if isinstance(group, str))
        elif value is not None:
            yield str(value)


def marks(wanted: Iterable[Key]) -> tuple[bytes, ...]:
    """Bytes without which the JSON text of a data set cannot satisfy the keys; it need not be parsed then."""
    found = []
    for key in wanted:
        if isinstance(key, Reserved) or key.step.creator or _absent_only(key):
            continue
        found.append(f'"{key.step.tag}":'.encode())
    return tuple(found)


def _absent_only(key: Key) -> bool:
    """Whether a key is satisfied by what is not there."""
    return isinstance(key, Value) and key.options.empty_values and key.text.strip(" ") == keys.EMPTY


def pick(data_set: JsonDataSet, steps: tuple[Step, ...]) -> dict[str, JsonElement]:
    """What stands at a path, with the sequences and private creators that lead to it; empty when nothing does."""
    first, rest = steps[0], steps[1:]
    tag = locate(data_set, first)
    element = data_set.get(tag) if tag is not None else None
    if tag is None or element is None:
        return {}
    found: dict[str, JsonElement] = {}
    if rest:
        items = [pick(item or {}, rest) for item in element.get("Value", [])] if element.get("vr") == "SQ" else []
        found[tag] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    else:
        found[tag] = element
    if first.creator:
        creator = creator_tag(tag)
        found[creator] = data_set[creator]
    return found


def merge(into: dict[str, JsonElement], found: Mapping[str, JsonElement]) -> None:
    """Add picked elements; items of one sequence that were picked along several paths become one."""
    for tag, element in found.items():
        known = into.get(tag)
        if known is not None and known.get("vr") == element.get("vr") == "SQ":
            both = zip(known.get("Value", []), element.get("Value", []), strict=False)
            for mine, theirs in both:
                merge(mine, theirs)
        else:
            into[tag] = element
