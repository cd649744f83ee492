"""The control state in four tables, alike in SQLite and PostgreSQL."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import orjson

from storage.control.base import MAX_BODY_BYTES, MAX_FAILURES, Body, Document, Entry, Failures, now_s
from storage.index.database import Database, Found

SCHEMA = """
CREATE TABLE IF NOT EXISTS document (
    kind         TEXT NOT NULL,
    key          TEXT NOT NULL,
    revision     BIGINT NOT NULL,
    expires_at_s DOUBLE PRECISION,
    body         TEXT NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX IF NOT EXISTS document_expires ON document (expires_at_s) WHERE expires_at_s IS NOT NULL;
CREATE TABLE IF NOT EXISTS control_state (
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    revision       BIGINT NOT NULL,
    schema_version INTEGER NOT NULL
);
INSERT INTO control_state (one, revision, schema_version) VALUES (1, 0, 1) ON CONFLICT DO NOTHING;
"""

# Of schema version 1 too: an earlier release neither sees nor misses it.
FAILURES = """
CREATE TABLE IF NOT EXISTS failure (
    name         TEXT PRIMARY KEY,
    count        BIGINT NOT NULL,
    last_s       DOUBLE PRECISION NOT NULL,
    expires_at_s DOUBLE PRECISION NOT NULL
);
CREATE INDEX IF NOT EXISTS failure_expires ON failure (expires_at_s);
"""

# Of schema version 1 too, for the same reason.
LOGGED = """
CREATE TABLE IF NOT EXISTS logged (
    log  TEXT NOT NULL,
    at_s DOUBLE PRECISION NOT NULL,
    key  TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (log, at_s, key)
);
"""

# Whoever changes anything takes its number first: on PostgreSQL the row's lock lets one in after the other.
_NEXT = "UPDATE control_state SET revision = revision + 1 RETURNING revision"
_THERE = "(expires_at_s IS NULL OR expires_at_s > ?)"


class RelationalControl:
    """A ControlStore (``storage.control.base``) on an engine that gives it connections."""

    @abstractmethod
    def reader(self) -> AbstractContextManager[Database]:
        """A connection to read on."""

    @abstractmethod
    def writer(self) -> AbstractContextManager[Database]:
        """A connection in a transaction, which is committed at the end of the block."""

    @abstractmethod
    def close(self) -> None:
        """See ControlStore."""

    def get(self, kind: str, key: str) -> Document | None:
        """See ControlStore."""
        with self.reader() as db:
            row = db.execute(
                f"SELECT key, body, revision, expires_at_s FROM document WHERE kind = ? AND key = ? AND {_THERE}",
                (kind, key, now_s()),
            ).fetchone()
        return None if row is None else _document(kind, row)

    def list(self, kind: str, after: str = "", limit: int = 1000) -> Sequence[Document]:
        """See ControlStore."""
        with self.reader() as db:
            rows = db.execute(
                "SELECT key, body, revision, expires_at_s FROM document"
                f" WHERE kind = ? AND key > ? AND {_THERE} ORDER BY key LIMIT ?",
                (kind, after, now_s(), limit),
            ).fetchall()
        return [_document(kind, row) for row in rows]

    def put(
        self, kind: str, key: str, body: Body, *, expected: int | None, expires_at_s: float | None = None
    ) -> int | None:
        """See ControlStore. ValueError for a body beyond the bound."""
        text = orjson.dumps(body).decode()
        if len(text) > MAX_BODY_BYTES:
            raise ValueError(f"a document of kind {kind} has {len(text)} bytes, more than {MAX_BODY_BYTES}")
        with self.writer() as db:
            (revision,) = db.execute(_NEXT).fetchone()
            if expected is None:
                cursor = db.execute(
                    "INSERT INTO document (kind, key, revision, expires_at_s, body) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (kind, key) DO UPDATE SET revision = excluded.revision,"
                    " expires_at_s = excluded.expires_at_s, body = excluded.body"
                    " WHERE document.expires_at_s <= ? RETURNING revision",
                    (kind, key, revision, expires_at_s, text, now_s()),
                )
            else:
                cursor = db.execute(
                    "UPDATE document SET revision = ?, expires_at_s = ?, body = ?"
                    f" WHERE kind = ? AND key = ? AND revision = ? AND {_THERE} RETURNING revision",
                    (revision, expires_at_s, text, kind, key, expected, now_s()),
                )
            return revision if cursor.fetchone() is not None else None

    def delete(self, kind: str, key: str) -> bool:
        """See ControlStore."""
        with self.writer() as db:
            db.execute(_NEXT).fetchone()
            statement = "DELETE FROM document WHERE kind = ? AND key = ? RETURNING expires_at_s"
            row = db.execute(statement, (kind, key)).fetchone()
        return row is not None and (row[0] is None or row[0] > now_s())

    def extend(self, kind: str, key: str, expires_at_s: float) -> bool:
        """See ControlStore."""
        with self.writer() as db:
            row = db.execute(
                f"UPDATE document SET expires_at_s = ? WHERE kind = ? AND key = ? AND {_THERE} RETURNING key",
                (expires_at_s, kind, key, now_s()),
            ).fetchone()
        return row is not None

    def revision(self) -> int:
        """See ControlStore."""
        with self.reader() as db:
            return int(db.execute("SELECT revision FROM control_state").fetchone()[0])

    def failures(self, names: Sequence[str], at_s: float) -> Mapping[str, Failures]:
        """See ControlStore."""
        marks = ", ".join("?" for _ in names)
        with self.reader() as db:
            rows = db.execute(
                f"SELECT name, count, last_s FROM failure WHERE name IN ({marks}) AND expires_at_s > ?",
                (*names, at_s),
            ).fetchall()
        return {name: Failures(count, last_s) for name, count, last_s in rows}

    def count_failure(self, names: Sequence[str], at_s: float, kept_s: float) -> Mapping[str, Failures]:
        """See ControlStore."""
        found: dict[str, Failures] = {}
        with self.writer() as db:
            # In one order for everybody: on PostgreSQL two who count for the same names must not wait for each other.
            for name in sorted(set(names)):
                (count,) = db.execute(
                    "INSERT INTO failure (name, count, last_s, expires_at_s) VALUES (?, 1, ?, ?)"
                    " ON CONFLICT (name) DO UPDATE SET"
                    " count = CASE WHEN failure.expires_at_s > excluded.last_s THEN failure.count + 1 ELSE 1 END,"
                    " last_s = excluded.last_s, expires_at_s = excluded.expires_at_s RETURNING count",
                    (name, at_s, at_s + kept_s),
                ).fetchone()
                found[name] = Failures(count, at_s)
        return found

    def log(self, name: str, entries: Sequence[Entry], kept: int) -> None:
        """See ControlStore."""
        # The oldest first, in one order for everybody: two who write never wait for each other.
        rows = [
            (name, each.at_s, each.key, orjson.dumps(each.body).decode())
            for each in sorted(entries, key=lambda each: (each.at_s, each.key))
        ]
        with self.writer() as db:
            for row in rows:
                db.execute("INSERT INTO logged (log, at_s, key, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
            db.execute(
                "DELETE FROM logged WHERE log = ? AND (at_s, key) <= (SELECT at_s, key FROM logged WHERE log = ?"
                " ORDER BY at_s DESC, key DESC LIMIT 1 OFFSET ?)",
                (name, name, kept),
            )

    def logged(self, name: str, limit: int) -> Sequence[Entry]:
        """See ControlStore."""
        with self.reader() as db:
            rows = db.execute(
                "SELECT at_s, key, body FROM logged WHERE log = ? ORDER BY at_s DESC, key DESC LIMIT ?", (name, limit)
            ).fetchall()
        return [Entry(at_s, key, orjson.loads(body)) for at_s, key, body in rows]

    def sweep(self) -> int:
        """See ControlStore."""
        with self.writer() as db:
            expired = db.execute("DELETE FROM document WHERE expires_at_s <= ? RETURNING key", (now_s(),)).fetchall()
            forgotten = db.execute(
                "DELETE FROM failure WHERE expires_at_s <= ? OR expires_at_s <"
                " (SELECT expires_at_s FROM failure ORDER BY expires_at_s DESC LIMIT 1 OFFSET ?) RETURNING name",
                (now_s(), MAX_FAILURES - 1),
            ).fetchall()
            return len(expired) + len(forgotten)

    def ping(self) -> None:
        """See ControlStore."""
        self.revision()


def _document(kind: str, row: Found) -> Document:
    key, body, revision, expires_at_s = row
    return Document(kind, key, orjson.loads(body), revision, expires_at_s)
