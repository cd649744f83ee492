"""Rows on their way to PostgreSQL, many in one statement: a statement for each costs ten times as much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import psycopg

_ORDER = (
    "study",
    "reading_physician",
    "series",
    "series_source",
    "request_item",
    "instance",
    "version",
    "document",
    "frame_chunk",
    "change",
)
"""The tables that rows wait for, each after those that it refers to."""
_MOST_ROWS = 32
"""In one statement. Powers of two up to this are used, so that few statements differ and the server knows them."""


class Inserts:
    """Rows that wait until they are sent; whoever sends anything else sends them first."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._cursor = psycopg.RawCursor(connection)
        self._waiting: dict[str, dict[tuple[str, ...], list[Sequence[object]]]] = {table: {} for table in _ORDER}
        self._count = 0

    def add(self, table: str, values: Mapping[str, object]) -> None:
        """Let a row wait."""
        self._waiting[table].setdefault(tuple(values), []).append(tuple(values.values()))
        self._count += 1

    def clear(self) -> None:
        """Forget the rows that wait."""
        self._count = 0
        for waiting in self._waiting.values():
            waiting.clear()

    def send(self) -> None:
        """Insert all rows that wait."""
        if not self._count:
            return
        for table, waiting in self._waiting.items():
            for names, rows in waiting.items():
                for some in _cut(rows):
                    self._cursor.execute(_statement(table, names, len(some)), list(chain.from_iterable(some)))
        self.clear()


def _cut(rows: Sequence[Sequence[object]]) -> Iterator[Sequence[Sequence[object]]]:
    start = 0
    while (left := len(rows) - start) > 0:
        size = min(_MOST_ROWS, 1 << left.bit_length() - 1)
        yield rows[start : start + size]
        start += size


@lru_cache(maxsize=256)
def _statement(table: str, names: tuple[str, ...], rows: int) -> bytes:
    width = len(names)
    marks = (", ".join(f"${row * width + column}" for column in range(1, width + 1)) for row in range(rows))
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join(f'({each})' for each in marks)}".encode()
