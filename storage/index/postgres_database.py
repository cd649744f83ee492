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
from storage.index.database import Among, Either, Found, Listed, Matching, OfPatient, Special, Sql, Text, Unordered
from storage.index.lookups import Lookups
from storage.index.postgres_inserts import Inserts


class PostgresDialect:
    """PostgreSQL's way to say it.

    Its planner knows by statistics how many rows satisfy a condition, and chooses. But a pattern of one or two letters
    within a value is nothing to an index of trigrams, which is then read from end to end and tells every row: such
    values are looked for in the columns' own indexes, before the statement is spelled.
    """

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    _LIKE = str.maketrans({"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": "\\\\"})

    def spell(self, piece: Special) -> Text:
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
        if isinstance(piece, Unordered):
            return Text(piece.column)
        if isinstance(piece, OfPatient):
            condition = piece.condition.spelled(self)
            return Text(f"p.id IN (SELECT s.patient FROM study s WHERE {condition.text})", condition.parameters)
        return self._matching(piece)

    def _matching(self, piece: Matching) -> Text:
        pattern = piece.pattern.translate(self._LIKE)
        if not piece.of_study or not _is_without_trigrams(piece.pattern):
            # The planner itself chooses between the index of trigrams and the order of the studies.
            return Text(f"{piece.alias}.{piece.column} LIKE ?", (pattern,))
        # An expression has no trigrams, but its column is in the index by values.
        where = f"n.{piece.column} IS NOT NULL AND (n.{piece.column} || '') LIKE ?"
        found = self._lookups.few(Text(f"SELECT n.id FROM study n WHERE {where}", (pattern,)))
        if found is not None:
            return self.spell(Among("s.id", found))
        return Text(f"({piece.alias}.{piece.column} || '') LIKE ?", (pattern,))


def _is_without_trigrams(pattern: str) -> bool:
    """Whether a pattern asks for what stands within a value and has no three letters or digits in a row."""
    if not pattern.startswith(("*", "?")):
        return False
    words = "".join(character if character.isalnum() else " " for character in pattern).split()
    return all(len(word) < 3 for word in words)


@lru_cache(maxsize=2048)
def _marked(text: str) -> str:
    """A statement with psycopg's placeholders."""
    return text.replace("%", "%%").replace("?", "%s")


class PostgresDatabase:
    """A connection to PostgreSQL as a Database."""

    def __init__(self, connection: psycopg.Connection[Found]) -> None:
        self.connection = connection
        self._lookups = Lookups(lambda text, parameters: self.execute(text, parameters).fetchall())
        self._dialect = PostgresDialect(self._lookups)
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

    def spelled(self, statement: Sql) -> Text:
        """A statement as PostgreSQL takes it."""
        return statement.spelled(self._dialect)

    def run(self, statement: Sql) -> list[Found]:
        """See Database."""
        spelled = self.spelled(statement)
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
            with self._lookups.remembered():
                yield time.monotonic() + timeout_s
        except errors.QueryCanceled as error:
            raise SearchTooBroad(searching.too_long(timeout_s)) from error
        finally:
            if not self.connection.broken:
                self.script("ROLLBACK")
