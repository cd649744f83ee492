"""The control state in a schema of its own of a PostgreSQL database: any number of hosts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from storage.control.relational import FAILURES, LOGGED, SCHEMA, RelationalControl
from storage.control.relational_steps import STEPS
from storage.index.connections import Connections
from storage.index.postgres import PostgresSettings, close, connect, translated, usable
from storage.index.postgres_database import PostgresDatabase

_CONNECTIONS = 4
_SCHEMA_LOCK = 0x636F_6E74_726F_6C  # "control": one process at a time makes tables


class PostgresControl(RelationalControl):
    """Documents in ``settings.schema``, which is made with the first connection when absent."""

    def __init__(self, settings: PostgresSettings, *, timeout_s: float = 10.0) -> None:
        self._settings = settings
        self._session = {"statement_timeout": int(timeout_s * 1000), "lock_timeout": int(timeout_s * 1000)}
        self._prepared = False
        self._preparing = threading.Lock()
        self._connections: Connections[PostgresDatabase] = Connections(
            self._connect, close, usable, at_most=_CONNECTIONS, kept=_CONNECTIONS, timeout_s=timeout_s
        )

    def _connect(self) -> PostgresDatabase:
        with self._preparing:
            if not self._prepared:
                self._prepare()
                self._prepared = True
        return PostgresDatabase(connect(self._settings, self._session))

    def _prepare(self) -> None:
        with connect(self._settings, self._session) as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._settings.schema)))
            # Even what makes nothing takes locks in another order than those who write.
            there = PostgresDatabase(connection).has_table
            for table, made in (
                ("control_state", SCHEMA),
                ("failure", FAILURES),
                ("logged", LOGGED),
                ("procedure_step", STEPS),
            ):
                if not there(table):
                    connection.execute(made.encode())

    @contextmanager
    def reader(self) -> Iterator[PostgresDatabase]:
        """See RelationalControl."""
        with translated(), self._connections.one() as db:
            yield db

    @contextmanager
    def writer(self) -> Iterator[PostgresDatabase]:
        """See RelationalControl."""
        with translated(), self._connections.one() as db, db.connection.transaction():
            yield db

    def close(self) -> None:
        """See ControlStore."""
        self._connections.close()
