"""From rows to results: which attributes come back, and where they come from (PS3.18 10.6.3.3, 8.3.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gateway.services.question import Query, steps_of
from storage.dicom import json_model, metadata
from storage.dicom.attributes import ATTRIBUTES, STORED_TAGS, Attribute, Computed, Level
from storage.dicom.metadata import Step
from storage.index.questions import Row

MAX_ATTRIBUTE_BYTES = 16_384
"""A longer value does not stand in a search's answer; the instance's metadata have it."""

_MADE_HERE = frozenset((Computed.NO, Computed.RETRIEVE_URL, Computed.AVAILABILITY))
_CHARACTER_SET = {"vr": "CS", "Value": ["ISO_IR 192"]}
_REGISTERED = frozenset(attribute.tag for attribute in ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a question wants back: registered attributes, pieces of sequences, and what only the metadata have."""

    attributes: tuple[Attribute, ...]
    tags: frozenset[str]
    pieces: tuple[tuple[Step, ...], ...]
    stored: tuple[tuple[Step, ...], ...]
    everything: bool

    @property
    def needs_metadata(self) -> bool:
        """Whether the rows alone do not hold it all."""
        return bool(self.stored) or self.everything

    @property
    def computed(self) -> frozenset[Computed]:
        """What the index has to compute."""
        return frozenset(attribute.computed for attribute in self.attributes) - _MADE_HERE


def wanted(query: Query) -> Wanted:
    """What a question wants back, of its level and those above; raises InvalidQuery for a private one without creator.

    Attributes of a lower level are left out (PS3.18 10.6.1.2.3). One that is not registered comes from the instance
    that speaks for the row.
    """
    whole = {path for path in query.include if "." not in path}
    attributes = tuple(each for each in ATTRIBUTES if _is_wanted(each, query, whole))
    tags = frozenset(attribute.tag for attribute in attributes)
    here = frozenset().union(*(STORED_TAGS[level] for level in Level if level <= query.level))
    keys = dict(query.keys)
    pieces, stored = [], []
    for path in sorted(query.include):
        head, dot, _ = path.partition(".")
        if head in tags or (head in _REGISTERED and head not in here):
            continue
        steps = steps_of(path, keys, strict=not query.only)
        if steps is None:
            continue
        if head in here and dot:
            pieces.append(steps)
        elif head not in _REGISTERED:
            stored.append(steps)
    everything = query.include_all and query.level is Level.INSTANCE
    return Wanted(attributes, tags, tuple(pieces), tuple(stored), everything)


def _is_wanted(attribute: Attribute, query: Query, whole: set[str]) -> bool:
    if attribute.level > query.level:
        return False
    if query.level is Level.PATIENT and attribute.computed is Computed.RETRIEVE_URL:
        return False
    if query.level > Level.STUDY and attribute.computed is Computed.AVAILABILITY:
        return True
    if query.only:
        return attribute.tag in whole
    return attribute.returned or query.include_all or attribute.tag in whole


def result(row: Row, query: Query, wanted: Wanted, stored: Callable[[int | None], bytes]) -> json_model.JsonDataSet:
    """One result; ``stored`` gives the metadata of a version."""
    found: dict[str, Any] = {}
    if not query.only:
        found = {a.tag: {"vr": a.vr} for a in wanted.attributes if a.required}
    known: dict[str, Any] = {}
    for text in row.attributes:
        known.update(json_model.loads(text))
    found.update((tag, element) for tag, element in known.items() if tag in wanted.tags)
    for steps in wanted.pieces:
        metadata.merge(found, metadata.pick(known, steps))
    if wanted.needs_metadata:
        _add_stored(found, json_model.loads(stored(row.version_id)), wanted)
    found["00080005"] = _CHARACTER_SET
    _add_identity(found, row, query.level, wanted.attributes)
    return dict(sorted(found.items()))


def _add_stored(found: dict[str, Any], data_set: json_model.JsonDataSet, wanted: Wanted) -> None:
    picked: dict[str, Any] = {}
    for steps in wanted.stored:
        metadata.merge(picked, metadata.pick(data_set, steps))
    if wanted.everything:
        picked = {**data_set, **picked}
    for tag, element in picked.items():
        if tag not in found and "BulkDataURI" not in element and _is_short(element):
            found[tag] = element


def _is_short(element: Any) -> bool:
    return len(json_model.dumps(element)) <= MAX_ATTRIBUTE_BYTES


def _add_identity(found: dict[str, Any], row: Row, level: Level, attributes: Iterable[Attribute]) -> None:
    """The UIDs, and what is computed or made from them."""
    path = f"studies/{row.study_uid}"
    if level > Level.PATIENT:
        found["0020000D"] = {"vr": "UI", "Value": [row.study_uid]}
    if row.series_uid is not None:
        found["0020000E"] = {"vr": "UI", "Value": [row.series_uid]}
        path += f"/series/{row.series_uid}"
    if row.sop_uid is not None:
        found["00080018"] = {"vr": "UI", "Value": [row.sop_uid]}
        path += f"/instances/{row.sop_uid}"
    for attribute in attributes:
        if attribute.computed is Computed.RETRIEVE_URL:
            found[attribute.tag] = {"vr": attribute.vr, "Value": [path]}
        elif attribute.computed is Computed.AVAILABILITY:
            found[attribute.tag] = {"vr": attribute.vr, "Value": ["ONLINE"]}
        elif attribute.computed:
            value = row.computed[attribute.computed]
            found[attribute.tag] = {"vr": attribute.vr, "Value": list(value) if isinstance(value, tuple) else [value]}
