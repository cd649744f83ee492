"""Searches on SQLite: a page, its total and the state they are read from, within what a search may cost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from storage.dicom import identifiers as ids
from storage.dicom import json_model, metadata
from storage.dicom.attributes import Computed
from storage.errors import InvalidCondition, SearchTooBroad
from storage.index import queries, rows
from storage.index.base import Page, Row, Search, State
from storage.index.conditions import Sql

_OPERATIONS_BETWEEN_LOOKS = 20_000


def state(connection: sqlite3.Connection) -> State:
    """The state that a search would be answered from now."""
    epoch, change = connection.execute(
        "SELECT (SELECT value FROM meta WHERE key = 'epoch'), last FROM change_sequence"
    ).fetchone()
    return State(str(epoch), int(change))


def page(connection: sqlite3.Connection, search: Search, total: int | None) -> Page:
    """Rows and total of a search, read from one state. Raises InvalidCondition, SearchTooBroad."""
    with _reading(connection, search.cost.timeout_s) as deadline_s:
        seen = state(connection)
        among = _among(connection, search, deadline_s)
        computed = sorted(search.computed)
        found = tuple(_row(each, computed) for each in _all(connection, queries.page(search, among)))
        exact = True
        if total is None:
            total = _number(connection, queries.count(search, among, search.cost.max_counted))
            exact = total < search.cost.max_counted
        return Page(found, total, exact, seen)


def count(connection: sqlite3.Connection, search: Search) -> int:
    """The number of rows, however many. Raises InvalidCondition, SearchTooBroad."""
    with _reading(connection, search.cost.timeout_s) as deadline_s:
        return _number(connection, queries.count(search, _among(connection, search, deadline_s)))


def _among(connection: sqlite3.Connection, search: Search, deadline_s: float) -> list[int] | None:
    """The instances that satisfy the keys on metadata and all else; None when there are no such keys."""
    if not search.metadata:
        return None
    if search.snapshot is not None:
        raise InvalidCondition("snapshot: not together with attributes that have no column")
    candidates = _all(connection, queries.candidates(search))
    if len(candidates) > search.cost.max_inspected:
        raise SearchTooBroad(
            f"attributes that have no index would have to be looked for in more than {search.cost.max_inspected} "
            "instances; narrow the search by patient, study date, modality or UID"
        )
    marks = metadata.marks(search.metadata)
    found = []
    for instance, version in candidates:
        if time.monotonic() > deadline_s:
            raise SearchTooBroad(_too_long(search.cost.timeout_s))
        (body,) = connection.execute("SELECT metadata FROM document WHERE version = ?", (version,)).fetchone()
        text = rows.unpack(body)
        if not all(mark in text for mark in marks):
            continue
        data_set = json_model.loads(text)
        if all(metadata.matches(key, data_set) for key in search.metadata):
            found.append(int(str(instance)))
    return found


@contextmanager
def _reading(connection: sqlite3.Connection, timeout_s: float) -> Iterator[float]:
    """One state for several statements, and an end to them; gives the time when that is."""
    deadline_s = time.monotonic() + timeout_s
    connection.execute("BEGIN")
    connection.set_progress_handler(lambda: time.monotonic() > deadline_s, _OPERATIONS_BETWEEN_LOOKS)
    try:
        yield deadline_s
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise SearchTooBroad(_too_long(timeout_s)) from error
        raise
    finally:
        connection.set_progress_handler(None, 0)
        connection.execute("ROLLBACK")


def _too_long(timeout_s: float) -> str:
    return f"the search took longer than {timeout_s:g} s; narrow it by patient, study date, modality or UID"


def _all(connection: sqlite3.Connection, statement: Sql) -> list[tuple[object, ...]]:
    return connection.execute(statement.text, statement.parameters).fetchall()


def _number(connection: sqlite3.Connection, statement: Sql) -> int:
    return int(str(_all(connection, statement)[0][0]))


def _row(found: tuple[object, ...], computed: Sequence[Computed]) -> Row:
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
    )
