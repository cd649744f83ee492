"""Content items (PS3.15 E.3.4 "Clean Structured Content Option", Table E.3.4-1): by concept name and value type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pydicom import Dataset

from gateway.deid.dates import MAX_AGE_YEARS
from gateway.deid.explain import Done
from gateway.deid.profile import Rule
from gateway.deid.table import Action, ContentItemKey, Option
from gateway.deid.values import element_of, items, made, texts
from storage.dicom import charsets

if TYPE_CHECKING:
    from gateway.deid.places import Place
    from gateway.deid.walking import Walk

CONTENT_SEQUENCE = 0x0040A730
REFERENCED_ITEM = 0x0040DB73
_VALUE_TYPE, _CONCEPT_NAME = 0x0040A040, 0x0040A043
_CODES, _SCHEME = (0x00080100, 0x00080119, 0x00080120), 0x00080102
_MEASURED_VALUE, _NUMERIC_VALUE = 0x0040A300, 0x0040A30A
_SUBJECT_AGE = ContentItemKey("DCM", "121033", "NUM")

# Where a value type has its value, if that is one attribute (PS3.3 Table C.17.3-5).
_VALUES: Mapping[str, tuple[int, str]] = {
    "TEXT": (0x0040A160, "UT"),
    "PNAME": (0x0040A123, "PN"),
    "DATE": (0x0040A121, "DA"),
    "TIME": (0x0040A122, "TM"),
    "DATETIME": (0x0040A120, "DT"),
    "UIDREF": (0x0040A124, "UI"),
}
_UNLISTED_TEXT = Rule(Action.C, Option.CLEAN_STRUCTURED_CONTENT, Action.D, "UT")


def content(
    walk: Walk,
    found: list[Dataset],
    inside: Place,
    position: tuple[tuple[int, ...], tuple[int, ...]] | None,
) -> list[Dataset]:
    """The content items that stay; ``position`` is where the item around them is, in the old tree and in the new."""
    kept: list[Dataset] = []
    in_tree = position is not None and inside.path[-1] == CONTENT_SEQUENCE
    for number, item in enumerate(found, start=1):
        key = _key(item, inside.codecs)
        rule = None if key is None else walk.profile.content_item(key)
        if rule is not None and rule.action is Action.X:
            walk.log.record(inside.path, CONTENT_SEQUENCE, Action.X, Done.REMOVED, f"content item: {rule.why}")
            continue
        here = replace(inside, overrides=_overrides(key, rule))
        if in_tree:
            assert position is not None
            here.position = (*position[0], number), (*position[1], len(kept) + 1)
            walk.positions[here.position[0]] = here.position[1]
        cleaned = walk.dataset(item, here)
        if key == _SUBJECT_AGE:
            _cap_age(cleaned)
        kept.append(cleaned)
    return kept


def _key(item: Dataset, codecs: charsets.Encodings) -> ContentItemKey | None:
    value_type = _text(item, _VALUE_TYPE, codecs)
    concept = element_of(item, _CONCEPT_NAME)
    names = [] if concept is None else items(concept, item) or []
    if not names:
        return None
    code = next((text for tag in _CODES if (text := _text(names[0], tag, codecs))), "")
    return ContentItemKey(_text(names[0], _SCHEME, codecs), code, value_type)


def _text(item: Dataset, tag: int, codecs: charsets.Encodings) -> str:
    element = element_of(item, tag)
    values = [] if element is None else texts(element, "SH", codecs)
    return values[0] if values else ""


def _overrides(key: ContentItemKey | None, rule: Rule | None) -> Mapping[int, Rule]:
    """What the concept says of the item's value, instead of what Table E.1-1 says of that attribute.

    References (IMAGE, COMPOSITE, WAVEFORM) get other UIDs whether they are to be dummies or not. X/D is D: a template
    may ask for the item, and a dummy is right either way.
    """
    if key is None or key.value_type not in _VALUES:
        return {}
    tag, vr = _VALUES[key.value_type]
    if rule is None:
        return {tag: _UNLISTED_TEXT} if key.value_type == "TEXT" else {}
    action = Action.D if rule.action is Action.XD else rule.action
    if vr == "UI" and action is Action.D:
        action = Action.U
    return {tag: Rule(action, rule.why, Action.D, vr)}


def _cap_age(item: Dataset) -> None:
    """Subject Age, kept, at 90 years at most; in another unit than years it is not looked at but removed."""
    element = element_of(item, _MEASURED_VALUE)
    for value in [] if element is None else items(element, item) or []:
        number = element_of(value, _NUMERIC_VALUE)
        found = [] if number is None else texts(number, "DS", charsets.DEFAULT)
        try:
            years = float(found[0])
        except (IndexError, ValueError):
            continue
        units = element_of(value, 0x004008EA)
        unit = next(iter(items(units, value) or []), None) if units is not None else None
        if unit is None or _text(unit, _CODES[0], charsets.DEFAULT) != "a":
            continue
        if years > MAX_AGE_YEARS:
            value.add(made(_NUMERIC_VALUE, "DS", str(MAX_AGE_YEARS)))


def renumber(dataset: Dataset, positions: Mapping[tuple[int, ...], tuple[int, ...]]) -> None:
    """Make references by position (PS3.3 C.17.3.2.5) point to where their targets are now.

    One whose target was removed points to the nearest item above it that is still there.
    """
    element = element_of(dataset, CONTENT_SEQUENCE)
    for item in [] if element is None else items(element, dataset) or []:
        reference = element_of(item, REFERENCED_ITEM)
        if reference is not None:
            old = _position(item)
            while old and old not in positions:
                old = old[:-1]
            item.add(made(REFERENCED_ITEM, "UL", list(positions.get(old, (1,)))))
        renumber(item, positions)


def _position(item: Dataset) -> tuple[int, ...]:
    element = element_of(item, REFERENCED_ITEM)
    value = None if element is None else element.value
    if isinstance(value, bytes):
        order = "little" if item.original_encoding[1] is not False else "big"
        return tuple(int.from_bytes(value[at : at + 4], order) for at in range(0, len(value) // 4 * 4, 4))  # type: ignore[arg-type]
    if value is None:
        return ()
    return tuple(int(each) for each in (value if isinstance(value, list) else [value]))
