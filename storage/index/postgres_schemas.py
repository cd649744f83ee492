"""Schemas of a PostgreSQL database as whole indexes: whether one is there, is in use, takes the place of another."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType

from psycopg import Connection, sql

from storage.index.database import Found
from storage.index.postgres import PostgresSettings, application_name, confirm, connect, translated

_REBUILD_LOCK = 0x7265_696E_6465_78  # "reindex": one at a time


class Schemas:
    """A connection on which whole schemas are looked at and renamed; a context.

    Raises
    ------
    StorageUnavailable
        From every method, when the database does not answer or does not allow it.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._held = ExitStack()
        self._connection: Connection[Found]

    def __enter__(self) -> Schemas:
        with translated():
            self._connection = connect(self._settings, {})
            # Not to be taken for a session of the gateway's.
            self._connection.execute("SET application_name = 'gateway schemas'")
            confirm(self._connection)
        self._held.callback(self._connection.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def exists(self, schema: str) -> bool:
        """Whether there is an index in a schema."""
        return self._is("SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'meta'", schema)

    def version(self, schema: str) -> int:
        """The schema version of an index; 0 where there is none."""
        if not self.exists(schema):
            return 0
        query = sql.SQL("SELECT value FROM {}.meta WHERE key = 'schema_version'").format(sql.Identifier(schema))
        with translated():
            found = self._connection.execute(query).fetchone()
        return int(str(found[0])) if found is not None else 0

    def take(self, schema: str) -> bool:
        """Keep others from rebuilding a schema, as long as the connection stands; False when somebody does."""
        with translated():
            found = self._connection.execute(
                "SELECT pg_try_advisory_lock(hashtext(%s), hashtext(%s))", (str(_REBUILD_LOCK), schema)
            ).fetchone()
        return found == (True,)

    def in_use(self, schema: str) -> bool:
        """Whether a gateway has a session on a schema."""
        return self._is(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
            application_name(schema),
        )

    def drop(self, schema: str) -> None:
        """Remove a schema and everything in it, if it is there."""
        with translated():
            self._connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))

    def replace(self, schema: str, fresh: str) -> str | None:
        """Let a schema take the place of another, in one transaction; by what name that one is kept, if there was one.

        A session that is in the middle of something on the old one is waited for. When it returns everything that was
        committed to the fresh one is durable as well.
        """
        aside = f"{schema}_{time.strftime('%Y%m%dt%H%M%S')}"
        while self._has(aside):
            aside += "_"
        rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
        there = self._has(schema)
        with translated(), self._connection.transaction():
            if there:
                self._connection.execute(rename.format(sql.Identifier(schema), sql.Identifier(aside)))
            self._connection.execute(rename.format(sql.Identifier(fresh), sql.Identifier(schema)))
        return aside if there else None

    def _has(self, schema: str) -> bool:
        return self._is("SELECT 1 FROM pg_namespace WHERE nspname = %s", schema)

    def _is(self, query: str, value: str) -> bool:
        with translated():
            return self._connection.execute(query.encode(), (value,)).fetchone() is not None
