"""Query: what QIDO-RS and C-FIND ask, answered from the index under the caller's scope."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gateway.access.door import Decision, Door
from gateway.access.policy import Action
from gateway.context import Caller
from gateway.errors import InvalidQuery
from storage.dicom import json_model, matching
from storage.dicom.attributes import ATTRIBUTES, BY_PATH, Attribute, Computed, Level, describe
from storage.dicom.matching import EVERYTHING, Condition
from storage.errors import InvalidCondition
from storage.index.base import Index, Row, Search

_UID_SEPARATORS = re.compile(r"[\\,]")
MAX_KEYS = 64
MAX_VALUES = 1000


@dataclass(frozen=True, slots=True)
class Query:
    """A question in protocol-free form.

    ``keys`` are pairs of an attribute's path (``storage.dicom.attributes.path_of``) and the text to match; an
    empty text matches everything. ``include`` are paths to return beyond the defaults; ``include_all`` every
    registered attribute of the level and above. ``only`` returns just ``include``, as C-FIND does.
    """

    level: Level
    keys: tuple[tuple[str, str], ...] = ()
    include: frozenset[str] = frozenset()
    include_all: bool = False
    only: bool = False
    limit: int = 1000
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The results: data sets in the DICOM JSON Model, their RetrieveURLs relative to the service root.

    ``remaining`` counts the rows after this page; ``unmatched`` describes keys that could not be matched.
    """

    results: tuple[json_model.JsonDataSet, ...]
    remaining: int
    unmatched: tuple[str, ...]


class QueryService:
    """Searches the index."""

    def __init__(self, index: Index, door: Door) -> None:
        self._index = index
        self._door = door

    def enter(self, caller: Caller, query: Query) -> Decision:
        """Ask to search; one decision serves all pages of a question. Raises Forbidden, AuditUnavailable."""
        subject = tuple(text for path, text in query.keys if path in ("0020000D", "0020000E") and len(text) <= 64)
        return self._door.enter(caller, Action.SEARCH, (query.level.name, *subject))

    def search(self, decision: Decision, query: Query) -> Answer:
        """Answer a question, or a page of one.

        Raises
        ------
        InvalidQuery
            A key's value is not of its attribute's form, or there are too many.
        storage.errors.StorageUnavailable
        """
        conditions, modalities, unmatched = _conditions(query)
        wanted = _wanted(query)
        search = Search(
            tenant=decision.tenant,
            level=query.level,
            conditions=tuple(conditions),
            modalities_in_study=modalities,
            scope=decision.scope,
            limit=query.limit,
            offset=query.offset,
            computed=frozenset(a.computed for a in wanted) - _MADE_HERE,
        )
        rows = self._index.search(search)
        if rows and len(rows) < query.limit:
            remaining = 0
        elif rows or query.offset:
            remaining = max(0, self._index.count(search) - query.offset - len(rows))
        else:
            remaining = 0
        tags = frozenset(attribute.tag for attribute in wanted)
        results = tuple(_result(row, query.level, wanted, tags) for row in rows)
        return Answer(results, remaining, tuple(unmatched))


_MADE_HERE = frozenset((Computed.NO, Computed.RETRIEVE_URL, Computed.AVAILABILITY))


def _conditions(query: Query) -> tuple[list[Condition], tuple[str, ...], list[str]]:
    if len(query.keys) > MAX_KEYS:
        raise InvalidQuery(f"more than {MAX_KEYS} attributes to match")
    conditions: list[Condition] = []
    modalities: tuple[str, ...] = ()
    unmatched: list[str] = []
    for path, text in query.keys:
        attribute = BY_PATH.get(path)
        if not text.strip(" *"):
            continue
        if attribute is not None and attribute.computed is Computed.MODALITIES_IN_STUDY:
            modalities = _values(text)
        elif attribute is None or not attribute.column:
            unmatched.append(describe(path))
        else:
            conditions.append(condition(attribute, text))
    return conditions, modalities, unmatched


def _values(text: str) -> tuple[str, ...]:
    values = tuple(value.strip() for value in _UID_SEPARATORS.split(text) if value.strip())
    if len(values) > MAX_VALUES:
        raise InvalidQuery(f"more than {MAX_VALUES} values in a list")
    return values


def condition(attribute: Attribute, text: str) -> Condition:
    """The condition of one key, by its VR (PS3.4 C.2.2.2 "Attribute Matching"). Raises InvalidQuery."""
    try:
        if attribute.vr == "UI":
            return matching.any_of(attribute.keyword, _values(text))
        if attribute.vr in matching.RANGE_VRS:
            return matching.between(attribute.keyword, text)
        if attribute.vr == "PN" and "=" in text:
            groups = [group for group in text.split("=") if group.strip(" *")]
            parts = tuple(matching.wildcard(attribute.keyword, group) for group in groups)
            return matching.AllOf(parts) if parts else EVERYTHING
        return matching.wildcard(attribute.keyword, text)
    except InvalidCondition as error:
        raise InvalidQuery(str(error)) from error


def _wanted(query: Query) -> list[Attribute]:
    """Attributes to return: of the level and those above it."""
    found = []
    for attribute in ATTRIBUTES:
        if attribute.level > query.level:
            continue
        if query.level > Level.STUDY and attribute.computed is Computed.AVAILABILITY:
            found.append(attribute)
        elif query.only:
            if attribute.tag in query.include:
                found.append(attribute)
        elif attribute.returned or query.include_all or attribute.tag in query.include:
            found.append(attribute)
    return found


def _result(row: Row, level: Level, wanted: list[Attribute], tags: frozenset[str]) -> json_model.JsonDataSet:
    found: dict[str, Any] = {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}
    for text in row.attributes:
        found.update((tag, element) for tag, element in json_model.loads(text).items() if tag in tags)
    path = f"studies/{row.study_uid}"
    if level > Level.PATIENT:
        found["0020000D"] = {"vr": "UI", "Value": [row.study_uid]}
    if row.series_uid is not None:
        found["0020000E"] = {"vr": "UI", "Value": [row.series_uid]}
        path += f"/series/{row.series_uid}"
    if row.sop_uid is not None:
        found["00080018"] = {"vr": "UI", "Value": [row.sop_uid]}
        path += f"/instances/{row.sop_uid}"
    for attribute in wanted:
        if attribute.computed is Computed.RETRIEVE_URL:
            found[attribute.tag] = {"vr": attribute.vr, "Value": [path]}
        elif attribute.computed is Computed.AVAILABILITY:
            found[attribute.tag] = {"vr": attribute.vr, "Value": ["ONLINE"]}
        elif attribute.computed:
            value = row.computed[attribute.computed]
            found[attribute.tag] = {"vr": attribute.vr, "Value": list(value) if isinstance(value, tuple) else [value]}
    return dict(sorted(found.items()))
