"""Searches: a page, its total and the state they are read from, within what a search may cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from storage.dicom import identifiers as ids
from storage.dicom import json_model, metadata
from storage.dicom.attributes import Computed
from storage.errors import InvalidCondition, SearchTooBroad
from storage.index import queries, rows
from storage.index.database import Among, Database, Sql
from storage.index.questions import Page, Row, Search, State

_FETCHED_AT_ONCE = 16


def state(db: Database) -> State:
    """The state that a search would be answered from now."""
    epoch, change = db.execute(
        "SELECT (SELECT value FROM meta WHERE key = 'epoch'), last FROM change_sequence"
    ).fetchone()
    return State(str(epoch), int(change))


def page(db: Database, search: Search, total: int | None) -> Page:
    """Rows and total of a search, read from one state. Raises InvalidCondition, SearchTooBroad."""
    with db.reading(search.cost.timeout_s) as deadline_s:
        seen = state(db)
        among = _among(db, search, deadline_s)
        computed = sorted(search.computed)
        found = tuple(_row(each, computed, search) for each in db.run(queries.page(search, among)))
        exact = True
        if total is None and search.after is None and len(found) < search.limit and (found or not search.offset):
            total = search.offset + len(found)
        elif total is None:
            total = _number(db, queries.count(search, among, search.cost.max_counted))
            exact = total < search.cost.max_counted
        return Page(found, total, exact, seen)


def count(db: Database, search: Search) -> int:
    """The number of rows, however many. Raises InvalidCondition, SearchTooBroad."""
    with db.reading(search.cost.timeout_s) as deadline_s:
        return _number(db, queries.count(search, _among(db, search, deadline_s)))


def _among(db: Database, search: Search, deadline_s: float) -> list[int] | None:
    """The instances that satisfy the keys on metadata and all else; None when there are no such keys."""
    if not search.metadata:
        return None
    if search.snapshot is not None:
        raise InvalidCondition("snapshot: not together with attributes that have no column")
    candidates = db.run(queries.candidates(search))
    if len(candidates) > search.cost.max_inspected:
        raise SearchTooBroad(
            f"attributes that have no index would have to be looked for in more than {search.cost.max_inspected} "
            "instances; narrow the search by patient, study date, modality or UID"
        )
    marks = metadata.marks(search.metadata)
    found = []
    versions = {version: instance for instance, version in candidates}
    for chunk in in_chunks(list(versions)):
        if time.monotonic() > deadline_s:
            raise SearchTooBroad(too_long(search.cost.timeout_s))
        for version, body in documents(db, chunk):
            text = rows.unpack(body)
            if not all(mark in text for mark in marks):
                continue
            data_set = json_model.loads(text)
            if all(metadata.matches(key, data_set) for key in search.metadata):
                found.append(int(versions[version]))
    return found


def in_chunks(versions: Sequence[int]) -> Iterator[Sequence[int]]:
    """Versions, as many as documents are fetched at once."""
    for start in range(0, len(versions), _FETCHED_AT_ONCE):
        yield versions[start : start + _FETCHED_AT_ONCE]


def documents(db: Database, versions: Sequence[int]) -> list[tuple[int, bytes]]:
    """Versions and their metadata, still packed, in the order asked; what is purged by now is left out."""
    statement = Sql().add("SELECT version, metadata FROM document WHERE").put(Among("version", versions))
    bodies = {version: bytes(body) for version, body in db.run(statement)}
    return [(version, bodies[version]) for version in versions if version in bodies]


def too_long(timeout_s: float) -> str:
    """What a search that passed its end is told."""
    return f"the search took longer than {timeout_s:g} s; narrow it by patient, study date, modality or UID"


def _number(db: Database, statement: Sql) -> int:
    return int(db.run(statement)[0][0])


def _row(found: tuple[object, ...], computed: Sequence[Computed], search: Search) -> Row:
    changed_at_s = None
    if search.changes:
        *kept, changed = found
        found, changed_at_s = tuple(kept), changed if isinstance(changed, float) else None
    study, series, sop, *attributes = found[:6]
    position_end = 7 + queries.POSITION_COLUMNS
    values: dict[Computed, int | tuple[str, ...]] = {}
    for name, value in zip(computed, found[position_end:], strict=True):
        if name in queries.LISTS:
            values[name] = tuple(sorted(text for text in json_model.loads(str(value)) if text))
        else:
            values[name] = int(str(value))
    return Row(
        ids.StudyUid(str(study)),
        ids.SeriesUid(str(series)) if series is not None else None,
        ids.SopUid(str(sop)) if sop is not None else None,
        tuple(bytes(part) for part in attributes if isinstance(part, bytes)),
        values,
        found[6] if isinstance(found[6], int) else None,
        tuple(part for part in found[7:position_end] if isinstance(part, str | int)),
        changed_at_s,
    )
