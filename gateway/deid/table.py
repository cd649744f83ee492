"""PS3.15 Table E.1-1, Table E.3.4-1 and PS3.16 CID 7050 as data: ``tables/profile.json``, edition 2026d.

``python -m docs.deidentification_tables`` writes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, NamedTuple


class Action(StrEnum):
    """PS3.15 Table E.1-1a "De-identification Action Codes"."""

    D = "D"  # a dummy, not empty
    Z = "Z"  # empty, or a dummy
    X = "X"  # removed
    K = "K"  # kept; of a sequence, the items are gone through
    C = "C"  # cleaned
    U = "U"  # another UID, the same for the same one
    XZ = "X/Z"
    XD = "X/D"
    ZD = "Z/D"
    XZD = "X/Z/D"
    XZU = "X/Z/U*"


class Option(StrEnum):
    """The options of PS3.15 E.3, by the names of their columns in ``tables/profile.json``.

    Clean Recognizable Visual Features (E.3.2) is missing: nothing here finds a face in a volume.
    """

    RETAIN_SAFE_PRIVATE = "retain_safe_private"
    RETAIN_UIDS = "retain_uids"
    RETAIN_DEVICE_IDENTITY = "retain_device_identity"
    RETAIN_INSTITUTION_IDENTITY = "retain_institution_identity"
    RETAIN_PATIENT_CHARACTERISTICS = "retain_patient_characteristics"
    RETAIN_FULL_DATES = "retain_longitudinal_full_dates"
    RETAIN_MODIFIED_DATES = "retain_longitudinal_modified_dates"
    CLEAN_DESCRIPTORS = "clean_descriptors"
    CLEAN_STRUCTURED_CONTENT = "clean_structured_content"
    CLEAN_GRAPHICS = "clean_graphics"
    CLEAN_PIXEL_DATA = "clean_pixel_data"


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of one attribute or content item: the basic action, and those of the options."""

    name: str
    vr: str
    basic: Action
    options: Mapping[Option, Action]


class ContentItemKey(NamedTuple):
    """What names a content item: its concept name, and its value type."""

    scheme: str
    code: str
    value_type: str


@dataclass(frozen=True, slots=True)
class Table:
    """The tables of one edition.

    ``groups`` has the patterns of the repeating groups: (group & FF00, element or None for all of them).
    """

    edition: str
    attributes: Mapping[int, Row]
    groups: Mapping[tuple[int, int | None], Row]
    private: Row
    content_items: Mapping[ContentItemKey, Row]
    methods: Mapping[str, tuple[str, str]]


@cache
def table() -> Table:
    """The tables, read once."""
    found = json.loads(_text("profile.json"))
    attributes: dict[int, Row] = {}
    groups: dict[tuple[int, int | None], Row] = {}
    for tag, (name, vr, *actions) in found["attributes"].items():
        row = _row(name, "OW" if vr == "OB or OW" else vr, actions)
        if "x" in tag:
            groups[int(tag[:2], 16) << 8, None if tag[4:] == "xxxx" else int(tag[4:], 16)] = row
        else:
            attributes[int(tag, 16)] = row
    return Table(
        edition=found["edition"],
        attributes=attributes,
        groups=groups,
        private=_row("Private Attributes", "UN", found["private_attributes"]),
        content_items={
            ContentItemKey(scheme, code, value_type): _row(name, "", actions)
            for scheme, code, value_type, name, *actions in found["content_items"]
        },
        methods={key: (code, meaning) for key, (code, meaning) in found["methods"].items()},
    )


def _row(name: str, vr: str, actions: list[Any]) -> Row:
    basic, options = actions
    return Row(name, vr, Action(basic), {Option(option): Action(action) for option, action in options.items()})


@cache
def attribute_types() -> Mapping[str, Mapping[tuple[int, ...], str]]:
    """Of each SOP class, the type ("1", "2", "3") of the attributes whose action depends on it, by path (PS3.3)."""
    found = json.loads(_text("attribute_types.json"))
    modules = {
        name: {tuple(int(tag, 16) for tag in path.split(".")): kind for path, kind in types.items()}
        for name, types in found["modules"].items()
    }
    classes: dict[str, dict[tuple[int, ...], str]] = {}
    for uid, names in found["sop_classes"].items():
        merged: dict[tuple[int, ...], str] = {}
        for name in names:
            for path, kind in modules[name].items():
                # Whichever module asks for more decides: what is there satisfies the others too.
                merged[path] = min(merged.get(path, "3"), kind)
        classes[uid] = merged
    return classes


def digest_source() -> str:
    """The text that both tables consist of; part of what decides an outcome."""
    return _text("profile.json") + _text("attribute_types.json")


def _text(name: str) -> str:
    return (resources.files("gateway.deid") / "tables" / name).read_text(encoding="utf-8")
