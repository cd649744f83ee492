"""The change feed: rows written inside the transaction they tell of, so that their order is the commits' order."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import Condition
from storage.index import queries
from storage.index.base import Action, Change, Role, VersionState
from storage.index.conditions import Sql, level_of, sql

WINDOW = 10_000
"""Sequence numbers that one page looks at: a caller with a narrow scope must not make it read the whole feed."""

_WATERMARK = "complete_watermark"


@dataclass(frozen=True, slots=True)
class Place:
    """Rows that a change is about; only a study for one that is complete."""

    tenant: str
    study: int
    series: int | None = None
    instance: int | None = None
    version: str | None = None


def next_change(db: sqlite3.Connection) -> int:
    """The next change sequence number; the one writing transaction at a time makes it commit order."""
    (number,) = db.execute("UPDATE change_sequence SET last = last + 1 RETURNING last").fetchone()
    return int(number)


def record(db: sqlite3.Connection, sequence: int, action: Action, place: Place, detail: str = "") -> None:
    """Write a change under the sequence number it has."""
    db.execute(
        "INSERT INTO change (sequence, tenant, at, action, study, series, instance, version, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            sequence, place.tenant, time.time(), action.value, place.study, place.series, place.instance,
            place.version, detail,
        ),
    )  # fmt: skip


def page(tenant: str, scope: Condition, cursor: int, limit: int) -> Sql:
    """Changes of a window after a cursor, within a scope."""
    found = Sql().add(
        "SELECT c.sequence, c.at, c.action, s.study_uid, e.series_uid, i.sop_uid, i.sop_class_uid, c.version,"
        " v.role, v.deleted, c.detail FROM change c JOIN study s ON s.id = c.study"
        " LEFT JOIN series e ON e.id = c.series LEFT JOIN instance i ON i.id = c.instance"
        " LEFT JOIN version v ON v.version = c.version WHERE c.sequence > ? AND c.sequence <= ? AND c.tenant = ? AND",
        cursor, cursor + WINDOW, tenant,
    )  # fmt: skip
    if level_of(scope) <= Level.STUDY:
        found.extend(sql(scope))
    else:
        found.add("(c.series IS NOT NULL AND").extend(sql(scope)).add("OR c.series IS NULL AND")
        found.extend(queries.some_series(scope)).add(")")
    return found.add("ORDER BY c.sequence LIMIT ?", limit)


def change_of(found: Sequence[object]) -> Change:
    """A row of ``page`` as a value."""
    sequence, at, action, study, series, sop, sop_class, version, role, deleted, detail = found
    state = None
    if version is not None:
        current = role in (Role.CURRENT.value, Role.ALTERNATIVE.value)
        state = (
            VersionState.DELETED if deleted is not None else VersionState.CURRENT if current else VersionState.REPLACED
        )
    return Change(
        int(str(sequence)),
        float(str(at)),
        Action(str(action)),
        ids.StudyUid(str(study)),
        ids.SeriesUid(str(series)) if series is not None else None,
        ids.SopUid(str(sop)) if sop is not None else None,
        ids.SopClassUid(str(sop_class)) if sop_class is not None else None,
        ids.Version(str(version)) if version is not None else None,
        state,
        str(detail),
    )


def complete_quiet(db: sqlite3.Connection, quiet_s: float, now_s: float) -> int:
    """Complete every live study whose last change is older than the quiet time.

    A watermark keeps the look short: below it every study's last change has been seen to.
    """
    (watermark,) = db.execute(
        "SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?), 0)", (_WATERMARK,)
    ).fetchone()
    # SQLite takes bare columns from the row that holds the maximum: the study's last change.
    found = db.execute(
        "SELECT c.tenant, c.study, max(c.sequence), c.at, c.action, s.live FROM change c JOIN study s ON s.id = c.study"
        " WHERE c.sequence > ? GROUP BY c.study",
        (watermark,),
    ).fetchall()
    if not found:
        return 0
    done, completed, open_from = max(row[2] for row in found), 0, None
    for tenant, study, sequence, at, action, live in found:
        if action == Action.COMPLETED.value or not live:
            continue
        if at > now_s - quiet_s:
            open_from = sequence if open_from is None else min(open_from, sequence)
            continue
        done = next_change(db)
        record(db, done, Action.COMPLETED, Place(tenant, study), f"no change for {quiet_s:g} s")
        completed += 1
    watermark = done if open_from is None else open_from - 1
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_WATERMARK, str(watermark)))
    return completed


def complete(db: sqlite3.Connection, tenant: str, study_uids: Sequence[str], detail: str) -> None:
    """Complete live studies, unless that is the last that happened to them."""
    for study_uid in study_uids:
        found = db.execute(
            "SELECT s.id, (SELECT c.action FROM change c WHERE c.study = s.id ORDER BY c.sequence DESC LIMIT 1)"
            " FROM study s WHERE s.tenant = ? AND s.study_uid = ? AND s.live",
            (tenant, study_uid),
        ).fetchone()
        if found is not None and found[1] != Action.COMPLETED.value:
            record(db, next_change(db), Action.COMPLETED, Place(tenant, found[0]), detail)
