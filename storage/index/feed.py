"""The change feed: rows written inside the transaction they tell of, so that their order is the commits' order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import Condition
from storage.index import queries
from storage.index.arrivals import Role
from storage.index.changes import Action, Change, VersionState
from storage.index.conditions import level_of, sql
from storage.index.database import Sql
from storage.index.transaction import Transaction

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


def record(transaction: Transaction, sequence: int, action: Action, place: Place, detail: str = "") -> None:
    """Write a change under the sequence number it has."""
    transaction.insert(
        "change",
        {
            "sequence": sequence,
            "tenant": place.tenant,
            "at": time.time(),
            "action": action.value,
            "study": place.study,
            "series": place.series,
            "instance": place.instance,
            "version": place.version,
            "detail": detail,
        },
    )


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


def complete_quiet(transaction: Transaction, quiet_s: float, now_s: float) -> int:
    """Complete every live study whose last change is older than the quiet time.

    A watermark keeps the look short: below it every study's last change has been seen to.
    """
    db = transaction.db
    (watermark,) = db.execute(
        "SELECT coalesce((SELECT CAST(value AS BIGINT) FROM meta WHERE key = ?), 0)", (_WATERMARK,)
    ).fetchone()
    found = db.execute(
        "SELECT c.tenant, c.study, c.sequence, c.at, c.action, s.live FROM change c JOIN study s ON s.id = c.study"
        " WHERE c.sequence IN (SELECT max(l.sequence) FROM change l WHERE l.sequence > ? GROUP BY l.study)",
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
        done = transaction.next_change()
        record(transaction, done, Action.COMPLETED, Place(tenant, study), f"no change for {quiet_s:g} s")
        completed += 1
    watermark = done if open_from is None else open_from - 1
    db.write(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_WATERMARK, str(watermark)),
    )
    return completed


def complete(transaction: Transaction, tenant: str, study_uids: Sequence[str], detail: str) -> None:
    """Complete live studies, unless that is the last that happened to them."""
    for study_uid in study_uids:
        found = transaction.db.execute(
            "SELECT s.id, (SELECT c.action FROM change c WHERE c.study = s.id ORDER BY c.sequence DESC LIMIT 1)"
            " FROM study s WHERE s.tenant = ? AND s.study_uid = ? AND s.live",
            (tenant, study_uid),
        ).fetchone()
        if found is not None and found[1] != Action.COMPLETED.value:
            record(transaction, transaction.next_change(), Action.COMPLETED, Place(tenant, found[0]), detail)
