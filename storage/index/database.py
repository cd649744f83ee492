"""What the relational index asks of its engine: statements with ``?`` for each value, and three things spelled apart.

A statement is written once, as ``Sql``. Where the engines differ (wildcards, lists of values, lists as a result) it
holds a piece that the engine's ``Dialect`` spells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

Found = tuple[Any, ...]
"""A row as the engine gives it: int, float, bool (or 0 and 1), str, bytes, None."""


@dataclass(frozen=True, slots=True)
class Text:
    """SQL with a ``?`` for each of its parameters."""

    text: str
    parameters: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Matching:
    """That a column matches a DICOM wildcard pattern (``*``, ``?``).

    ``of_study`` is given for a column of table study that has an index of its own: the rows may be looked for there.
    """

    alias: str
    column: str
    pattern: str
    of_study: bool = False


@dataclass(frozen=True, slots=True)
class Among:
    """That a column has one of many values, all of one type."""

    column: str
    values: Sequence[object]


@dataclass(frozen=True, slots=True)
class Listed:
    """The different values of an expression over a group, as a JSON array in a text."""

    expression: str


@dataclass(frozen=True, slots=True)
class Either:
    """That at least one of some conditions on a study ``s`` holds, each of which has an index of its own."""

    conditions: tuple[Sql, ...]


@dataclass(frozen=True, slots=True)
class OfPatient:
    """That a patient ``p`` has a study ``s`` that satisfies a condition."""

    condition: Sql


@dataclass(frozen=True, slots=True)
class Unordered:
    """A column whose index is not to decide in which order rows are read."""

    column: str


Special = Matching | Among | Listed | Either | OfPatient | Unordered
"""What the engines do not spell alike."""
Piece = Text | Special


class Dialect(Protocol):
    """How an engine spells what the engines do not spell alike."""

    def spell(self, piece: Special) -> Text:
        """A piece in the engine's SQL."""
        ...


@dataclass(slots=True)
class Sql:
    """A statement being written."""

    pieces: list[Piece] = field(default_factory=list)

    def add(self, text: str, *parameters: object) -> Sql:
        """Append text and the parameters of its placeholders."""
        self.pieces.append(Text(text, parameters))
        return self

    def put(self, piece: Piece) -> Sql:
        """Append a piece that the dialect spells."""
        self.pieces.append(piece)
        return self

    def extend(self, other: Sql) -> Sql:
        """Append another statement."""
        self.pieces.extend(other.pieces)
        return self

    def spelled(self, dialect: Dialect) -> Text:
        """The whole as an engine takes it."""
        texts = [piece if isinstance(piece, Text) else dialect.spell(piece) for piece in self.pieces]
        return Text(" ".join(each.text for each in texts), tuple(value for each in texts for value in each.parameters))


class Cursor(Protocol):
    """The rows of one statement."""

    def fetchone(self) -> Any:
        """The next row, None after the last."""
        ...

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        ...


class Database(Protocol):
    """One connection. Not safe to use from several threads at once."""

    def execute(self, text: str, parameters: Sequence[object] = ()) -> Cursor:
        """Run a statement that gives rows. The engine may wait with it until the rows are asked for."""
        ...

    def write(self, text: str, *rows: Sequence[object]) -> None:
        """Run a statement for each row of parameters; nothing comes back.

        The engine may wait with it until something is asked or the transaction ends, and a fault shows then.
        """
        ...

    def insert(self, table: str, values: Mapping[str, object]) -> None:
        """Insert a row.

        The engine may wait with it as with ``write``, and insert many rows at once, those first that others refer to.
        """
        ...

    def script(self, text: str) -> None:
        """Run several statements without parameters."""
        ...

    def has_table(self, name: str) -> bool:
        """Whether there is a table of a name."""
        ...

    def run(self, statement: Sql) -> list[Found]:
        """The rows of a statement."""
        ...

    def reading(self, timeout_s: float) -> AbstractContextManager[float]:
        """One state of the index for several statements, and an end to them; gives the time.monotonic() of that end.

        A statement that would pass the end raises SearchTooBroad.
        """
        ...


def rows_of(cursor: Cursor) -> Iterator[Found]:
    """The rows of a cursor, one after the other."""
    while (row := cursor.fetchone()) is not None:
        yield row
