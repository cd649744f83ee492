"""Procedure steps in one table of the control state, alike in SQLite and PostgreSQL."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import orjson

from storage.control.base import now_s
from storage.control.steps import (
    MAX_BODY_BYTES,
    MAX_KEY_LENGTH,
    MAX_SCHEDULED_BYTES,
    Kept,
    Kind,
    Listed,
    Sought,
    Step,
    filed,
)
from storage.dicom.identifiers import Tenant
from storage.errors import StepTooLarge
from storage.index.database import Database, Found

# Of schema version 1 of the control state too: an earlier release neither sees nor misses it.
STEPS = """
CREATE TABLE IF NOT EXISTS procedure_step (
    tenant           TEXT NOT NULL,
    kind             TEXT NOT NULL,
    uid              TEXT NOT NULL,
    state            TEXT NOT NULL,
    revision         BIGINT NOT NULL,
    changed_at_s     DOUBLE PRECISION NOT NULL,
    patient_id       TEXT NOT NULL,
    issuer           TEXT NOT NULL,
    accession_number TEXT NOT NULL,
    study_uid        TEXT NOT NULL,
    starts           TEXT NOT NULL,
    body             TEXT NOT NULL,
    PRIMARY KEY (tenant, kind, uid)
);
CREATE INDEX IF NOT EXISTS procedure_step_starts ON procedure_step (tenant, kind, starts, uid);
CREATE INDEX IF NOT EXISTS procedure_step_patient ON procedure_step (tenant, kind, patient_id, starts, uid);
CREATE INDEX IF NOT EXISTS procedure_step_accession ON procedure_step (tenant, kind, accession_number, starts, uid);
CREATE INDEX IF NOT EXISTS procedure_step_study ON procedure_step (tenant, kind, study_uid, starts, uid);
CREATE INDEX IF NOT EXISTS procedure_step_changed ON procedure_step (changed_at_s);
"""

_PAGE = 20
_SWEPT = 500
_READ = "uid, state, revision, changed_at_s, body"


class Engine(Protocol):
    """What gives connections to the control state's tables."""

    def reader(self) -> AbstractContextManager[Database]:
        """A connection to read on."""
        ...

    def writer(self) -> AbstractContextManager[Database]:
        """A connection in a transaction, which is committed at the end of the block."""
        ...


class _Taken(Exception):
    """Somebody else has changed a step first."""


class RelationalSteps:
    """``Steps`` (``storage.control.steps``) where the control state is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, tenant: Tenant, kind: Kind, uid: str) -> Kept | None:
        """See Steps."""
        with self._engine.reader() as db:
            row = db.execute(
                f"SELECT {_READ} FROM procedure_step WHERE tenant = ? AND kind = ? AND uid = ?", (tenant, kind, uid)
            ).fetchone()
        return None if row is None else _kept(tenant, kind, row)

    def put(self, *changes: tuple[Step, int | None]) -> bool:
        """See Steps."""
        # In one order for everybody: on PostgreSQL two who change the same steps must not wait for each other.
        rows = sorted(((_row(step), expected) for step, expected in changes), key=lambda each: each[0][:3])
        try:
            with self._engine.writer() as db:
                for row, expected in rows:
                    _write(db, row, expected, now_s())
        except _Taken:
            return False
        return True

    def find(self, sought: Sought) -> Sequence[Listed]:
        """See Steps."""
        wheres: list[tuple[str, Any]] = [("tenant = ?", sought.tenant), ("kind = ?", sought.kind)]
        for name in ("patient_id", "accession_number", "study_uid"):
            if value := getattr(sought, name):
                wheres.append((f"{name} = ?", value))
        # The later of both bounds: SQLite enters its index at this one, and skips from there to where the page begins.
        first = max(sought.first, sought.after[0])
        for bound, value in (("starts >= ?", first), ("starts <= ?", sought.last)):
            if value:
                wheres.append((bound, value))
        parameters: list[Any] = [value for _, value in wheres]
        texts = [text for text, _ in wheres]
        if sought.states:
            texts.append(f"state IN ({', '.join('?' for _ in sought.states)})")
            parameters += sorted(sought.states)
        texts.append("(starts, uid) > (?, ?)")
        parameters += [*sought.after, sought.limit]
        with self._engine.reader() as db:
            rows = db.execute(
                f"SELECT {_READ}, starts FROM procedure_step WHERE {' AND '.join(texts)} ORDER BY starts, uid LIMIT ?",
                tuple(parameters),
            ).fetchall()
        return [Listed(_kept(sought.tenant, sought.kind, row[:-1]), row[-1]) for row in rows]

    def every(self) -> Iterator[Step]:
        """See Steps."""
        place: tuple[str, ...] = ("", "", "")
        while True:
            with self._engine.reader() as db:
                rows = db.execute(
                    f"SELECT tenant, kind, {_READ} FROM procedure_step WHERE (tenant, kind, uid) > (?, ?, ?)"
                    " ORDER BY tenant, kind, uid LIMIT ?",
                    (*place, _PAGE),
                ).fetchall()
            for tenant, kind, *row in rows:
                yield _kept(Tenant(tenant), Kind(kind), tuple(row)).step
            if len(rows) < _PAGE:
                return
            place = rows[-1][:3]

    def sweep(self, before_s: float) -> int:
        """See Steps."""
        day = datetime.datetime.fromtimestamp(before_s, datetime.UTC).strftime("%Y%m%d").rjust(8, "0")
        removed = 0
        while True:
            # Some at a time: whoever logs in meanwhile writes into the same file.
            with self._engine.writer() as db:
                gone = db.execute(
                    "DELETE FROM procedure_step WHERE (tenant, kind, uid) IN (SELECT tenant, kind, uid"
                    " FROM procedure_step WHERE changed_at_s < ? AND starts < ? LIMIT ?) RETURNING uid",
                    (before_s, day, _SWEPT),
                ).fetchall()
            removed += len(gone)
            if len(gone) < _SWEPT:
                return removed

    def erase(
        self, tenant: Tenant, studies: Sequence[str], patient: tuple[str, str] | None = None, *, rehearse: bool = False
    ) -> int:
        """See Steps."""
        wheres: list[tuple[str, tuple[str, ...]]] = [("study_uid = ?", (uid,)) for uid in studies if uid]
        if patient is not None:
            wheres.append(("patient_id = ? AND issuer = ?", patient))
        found: set[tuple[Kind, str]] = set()
        with self._engine.reader() if rehearse else self._engine.writer() as db:
            for text, values in wheres:
                for kind in Kind:
                    within = f"FROM procedure_step WHERE tenant = ? AND kind = ? AND {text}"
                    statement = f"SELECT uid {within}" if rehearse else f"DELETE {within} RETURNING uid"
                    found.update((kind, uid) for (uid,) in db.execute(statement, (tenant, kind, *values)).fetchall())
        return len(found)


def _row(step: Step) -> tuple[str, ...]:
    encoded, most = orjson.dumps(step.body), MAX_SCHEDULED_BYTES if step.kind is Kind.SCHEDULED else MAX_BODY_BYTES
    if len(encoded) > most:
        raise StepTooLarge(f"a step of {len(encoded)} bytes, more than {most}")
    found = filed(step)
    keys = (found.patient_id, found.issuer, found.accession_number, found.study_uid, found.starts)
    if any(len(key) > MAX_KEY_LENGTH or "\0" in key for key in keys) or len(step.uid) > 2 * MAX_KEY_LENGTH + 1:
        raise StepTooLarge(f"an identifier of more than {MAX_KEY_LENGTH} characters, or with a NUL")
    return (step.tenant, step.kind.value, step.uid, step.state, *keys, encoded.decode())


def _write(db: Database, row: tuple[str, ...], expected: int | None, at_s: float) -> None:
    tenant, kind, uid, *rest = row
    if expected is None:
        cursor = db.execute(
            "INSERT INTO procedure_step (revision, changed_at_s, tenant, kind, uid,"
            " state, patient_id, issuer, accession_number, study_uid, starts, body)"
            " VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING uid",
            (at_s, *row),
        )
    else:
        cursor = db.execute(
            "UPDATE procedure_step SET revision = revision + 1, changed_at_s = ?,"
            " state = ?, patient_id = ?, issuer = ?, accession_number = ?, study_uid = ?, starts = ?, body = ?"
            " WHERE tenant = ? AND kind = ? AND uid = ? AND revision = ? RETURNING uid",
            (at_s, *rest, tenant, kind, uid, expected),
        )
    if cursor.fetchone() is None:
        raise _Taken


def _kept(tenant: Tenant, kind: Kind, row: Found) -> Kept:
    uid, state, revision, changed_at_s, body = row
    return Kept(Step(tenant, kind, uid, state, orjson.loads(body)), revision, changed_at_s)
