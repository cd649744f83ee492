"""A connection to PostgreSQL as a Database, and the SQL that it is spoken to in."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

import psycopg
from psycopg import errors

from storage.errors import SearchTooBroad
from storage.index import searching
from storage.index.database import Among, Either, Found, Listed, Matching, Sql, Text
from storage.index.postgres_inserts import Inserts


class PostgresDialect:
    """PostgreSQL's way to say it."""

    _LIKE = str.maketrans({"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": "\\\\"})

    def spell(self, piece: Matching | Among | Listed | Either) -> Text:
        """See Dialect."""
        if isinstance(piece, Either):
            # Across an OR the planner would not look into subqueries by their indexes, but read every study.
            parts = [condition.spelled(self) for condition in piece.conditions]
            union = " UNION ALL ".join(f"SELECT s.id FROM study s WHERE {part.text}" for part in parts)
            return Text(f"s.id IN ({union})", tuple(value for part in parts for value in part.parameters))
        if isinstance(piece, Among):
            return Text(f"{piece.column} = ANY(?)", (list(piece.values),))
        if isinstance(piece, Listed):
            return Text(f"coalesce(json_agg(DISTINCT {piece.expression}), '[]')::text")
        # The planner itself chooses between the index of trigrams and the order of the studies.
        return Text(f"{piece.alias}.{piece.column} LIKE ?", (piece.pattern.translate(self._LIKE),))


@lru_cache(maxsize=2048)
def _marked(text: str) -> str:
    """A statement with psycopg's placeholders."""
    return text.replace("%", "%%").replace("?", "%s")


class PostgresDatabase:
    """A connection to PostgreSQL as a Database."""

    def __init__(self, connection: psycopg.Connection[Found]) -> None:
        self.connection = connection
        self._dialect = PostgresDialect()
        self._inserts = Inserts(connection)

    def execute(self, text: str, parameters: Sequence[object] = ()) -> psycopg.Cursor[Found]:
        """See Database. Inside a pipeline it is sent when rows are asked for."""
        self.send()
        return self.connection.execute(_marked(text), parameters, binary=True)

    def write(self, text: str, *rows: Sequence[object]) -> None:
        """See Database."""
        self.send()
        for row in rows:
            self.connection.execute(_marked(text), row)

    def insert(self, table: str, values: Mapping[str, object]) -> None:
        """See Database. Rows wait for the next statement of another kind, or for ``send``."""
        self._inserts.add(table, values)

    def send(self) -> None:
        """Send the rows that wait."""
        self._inserts.send()

    def forget(self) -> None:
        """Forget the rows that wait: their transaction is not to be."""
        self._inserts.clear()

    def script(self, text: str) -> None:
        """See Database."""
        self.send()
        self.connection.execute(text)

    def has_table(self, name: str) -> bool:
        """See Database."""
        found = self.execute("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?", (name,))
        return found.fetchone() is not None

    def run(self, statement: Sql) -> list[Found]:
        """See Database."""
        spelled = statement.spelled(self._dialect)
        self.send()
        # How many values a list has decides how to look them up: a plan that is kept for any number of them may have
        # been made while the table was empty.
        listed = any(isinstance(piece, Among) for piece in statement.pieces)
        text, kept = _marked(spelled.text), False if listed else None
        return self.connection.execute(text, spelled.parameters, prepare=kept, binary=True).fetchall()

    @contextmanager
    def reading(self, timeout_s: float) -> Iterator[float]:
        """See Database. The bound holds for each statement."""
        self.script(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
            f"SET LOCAL statement_timeout = {max(1, int(timeout_s * 1000))}"
        )
        try:
            yield time.monotonic() + timeout_s
        except errors.QueryCanceled as error:
            raise SearchTooBroad(searching.too_long(timeout_s)) from error
        finally:
            if not self.connection.broken:
                self.script("ROLLBACK")
