"""The index on SQLite: one host, any number of processes, writers in turn."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from storage.dicom import json_model
from storage.errors import SearchTooBroad, StorageFull, StorageUnavailable
from storage.index import migrations, searching
from storage.index.connections import Connections
from storage.index.database import Among, Either, Found, Listed, Matching, OfPatient, Special, Sql, Text, Unordered
from storage.index.lookups import Lookups
from storage.index.relational import Change, RelationalIndex
from storage.index.sqlite_log import WriteAheadLog
from storage.index.transaction import LAST, Transaction
from storage.index.turnstile import Turnstile
from storage.index.writing import Writer

_IDLE_READERS = 16
_MAX_READERS = 256
_OPERATIONS_BETWEEN_LOOKS = 20_000


# One look into an index for each tenant, however many studies it has.
_TENANTS = (
    "WITH RECURSIVE found (tenant) AS (SELECT min(tenant) FROM study UNION ALL"
    " SELECT (SELECT min(s.tenant) FROM study s WHERE s.tenant > f.tenant) FROM found f WHERE f.tenant IS NOT NULL)"
    " SELECT tenant FROM found WHERE tenant IS NOT NULL"
)


class SqliteDialect:
    """SQLite's way to say it.

    Its planner does not know how many rows satisfy a condition, so that is looked at before a statement is spelled.
    """

    def __init__(self, db: SqliteDatabase, lookups: Lookups) -> None:
        self._db = db
        self._lookups = lookups

    def spell(self, piece: Special) -> Text:
        """See Dialect."""
        if isinstance(piece, Either):
            parts = [condition.spelled(self) for condition in piece.conditions]
            either = " OR ".join(part.text for part in parts)
            return Text(f"({either})", tuple(value for part in parts for value in part.parameters))
        if isinstance(piece, Among):
            listed = json_model.dumps(list(piece.values)).decode()
            return Text(f"{piece.column} IN (SELECT value FROM json_each(?))", (listed,))
        if isinstance(piece, Listed):
            return Text(f"json_group_array(DISTINCT {piece.expression})")
        if isinstance(piece, Unordered):
            return Text(f"+{piece.column}")
        if isinstance(piece, OfPatient):
            return self._of_patient(piece)
        return self._matching(piece)

    def _of_patient(self, piece: OfPatient) -> Text:
        condition = piece.condition.spelled(self)
        patients = Text(f"SELECT DISTINCT +s.patient FROM study s WHERE {condition.text}", condition.parameters)
        found = self._lookups.few(patients)
        if found is not None:
            return self.spell(Among("p.id", found))
        return Text(f"EXISTS (SELECT 1 FROM study s WHERE s.patient = p.id AND {condition.text})", condition.parameters)

    def _matching(self, piece: Matching) -> Text:
        column = f"{piece.alias}.{piece.column}"
        if not piece.of_study:
            return _matches(column, piece.pattern)
        # Every tenant's, within the column's own index: a statement's other conditions choose among them.
        match = _matches(f"n.{piece.column}", piece.pattern)
        where = f"n.tenant = ? AND n.{piece.column} IS NOT NULL AND {match.text}"
        tenants = self._db.execute(_TENANTS).fetchall()
        statements = [Text(f"SELECT n.id FROM study n WHERE {where}", (each, *match.parameters)) for (each,) in tenants]
        found = self._lookups.few(*statements)
        if found is not None:
            return self.spell(Among("s.id", found))
        # By the sign the column's index is left alone: it is not in the order that is asked for.
        return _matches(f"+{column}", piece.pattern)


def _matches(expression: str, pattern: str) -> Text:
    inside = pattern[1:-1]
    if len(pattern) > 2 and pattern[0] == pattern[-1] == "*" and "*" not in inside and "?" not in inside:
        # A little quicker than a pattern.
        return Text(f"instr({expression}, ?)", (inside,))
    # GLOB means the same by * and ?; [ has to be quoted.
    return Text(f"{expression} GLOB ?", (pattern.replace("[", "[[]"),))


class SqliteDatabase:
    """A connection to an SQLite file as a Database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._lookups = Lookups(lambda text, parameters: connection.execute(text, parameters).fetchall())
        self._dialect = SqliteDialect(self, self._lookups)

    def execute(self, text: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """See Database."""
        return self.connection.execute(text, parameters)

    def write(self, text: str, *rows: Sequence[object]) -> None:
        """See Database."""
        self.connection.executemany(text, rows)

    def insert(self, table: str, values: Mapping[str, object]) -> None:
        """See Database."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self.connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))

    def script(self, text: str) -> None:
        """See Database. Not by executescript, which would commit."""
        statement = ""
        for line in text.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self.connection.execute(statement)
                statement = ""

    def has_table(self, name: str) -> bool:
        """See Database."""
        return self.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone() is not None

    def run(self, statement: Sql) -> list[Found]:
        """See Database."""
        spelled = self.spelled(statement)
        return self.connection.execute(spelled.text, spelled.parameters).fetchall()

    def spelled(self, statement: Sql) -> Text:
        """A statement as SQLite takes it."""
        return statement.spelled(self._dialect)

    @contextmanager
    def reading(self, timeout_s: float) -> Iterator[float]:
        """See Database."""
        deadline_s = time.monotonic() + timeout_s
        self.connection.execute("BEGIN")
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline_s, _OPERATIONS_BETWEEN_LOOKS)
        try:
            with self._lookups.remembered():
                yield deadline_s
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise SearchTooBroad(searching.too_long(timeout_s)) from error
            raise
        finally:
            self.connection.set_progress_handler(None, 0)
            self.connection.execute("ROLLBACK")


def schema_version(path: Path) -> int:
    """The schema of an index, 0 where there is none; nothing is made or changed. Raises StorageUnavailable."""
    if not path.exists():
        return 0
    with translated(), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return migrations.version(SqliteDatabase(connection))


class SqliteIndex(RelationalIndex):
    """The index in one file.

    Parameters
    ----------
    path
        The database file; made, with its folder, when absent.
    max_age_s, timeout_s
        See RelationalIndex.
    fsync
        False gives up durability; for benchmarks only.
    """

    def __init__(self, path: Path, *, max_age_s: float = 43_200.0, fsync: bool = True, timeout_s: float = 30.0) -> None:
        super().__init__(max_age_s=max_age_s, timeout_s=timeout_s)
        self._path = path
        self._synchronous = "FULL" if fsync else "OFF"
        self._timeout_s = timeout_s
        self._closed = False
        self._readers: Connections[SqliteDatabase] = Connections(
            self._connect_reader,
            lambda db: db.connection.close(),
            at_most=_MAX_READERS,
            kept=_IDLE_READERS,
            timeout_s=timeout_s,
        )
        self._writing: SqliteDatabase | None = None
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._turnstile = Turnstile(path)
        self._log = WriteAheadLog(path, lambda: self._connect().connection)
        with self._turnstile.turn(), translated(), closing(self._connect().connection) as connection:
            connection.execute("BEGIN IMMEDIATE")
            migrations.migrate(SqliteDatabase(connection), "sqlite")
            connection.execute("COMMIT")
            if fsync:
                sync_folder(path.parent)

    def _connect(self) -> SqliteDatabase:
        connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False)
        # First: making a new file one with a write-ahead log is a transaction of its own.
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA mmap_size = 268435456")
        return SqliteDatabase(connection)

    def _connect_reader(self) -> SqliteDatabase:
        db = self._connect()
        db.connection.execute("PRAGMA query_only = ON")
        return db

    @contextmanager
    def _reader(self) -> Iterator[SqliteDatabase]:
        with translated(), self._readers.one() as db:
            yield db

    def _transact(self, changes: Sequence[Change]) -> Sequence[object]:
        with self._turnstile.turn():
            return self._transacted(changes)

    def _transact_at_once(self, changes: Sequence[Change]) -> Sequence[object] | None:
        with self._turnstile.turn_at_once() as is_ours:
            return self._transacted(changes) if is_ours else None

    def _transacted(self, changes: Sequence[Change]) -> Sequence[object]:
        with translated():
            if self._writing is None:
                self._writing = self._connect()
            connection = self._writing.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                transaction = Transaction(self._writing, connection.execute(LAST).fetchone()[0])
                writer = Writer(transaction)
                results = [self._apply(connection, writer, change) for change in changes]
                transaction.finish()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._log.committed(connection)
            return results

    def _apply(self, connection: sqlite3.Connection, writer: Writer, change: Change) -> object:
        """One change in a savepoint: a defect in one arrival must not take the group along."""
        connection.execute("SAVEPOINT change")
        usage = dict(writer.transaction.usage)
        try:
            result = change(writer)
        except sqlite3.OperationalError:
            raise
        except Exception as error:
            connection.execute("ROLLBACK TO change")
            writer.transaction.usage = usage
            result = error
        connection.execute("RELEASE change")
        return result

    def copy(self, path: Path) -> None:
        """Write a consistent copy into a new file, beside readers and writers, by SQLite's online backup."""
        with self._reader() as db, closing(sqlite3.connect(path)) as target:
            db.connection.backup(target, pages=4096)
            target.execute("PRAGMA journal_mode = DELETE")

    def close(self) -> None:
        """See Index."""
        self._group.close()
        self._readers.close()
        if not self._closed:
            self._closed = True
            self._log.close()
            if self._writing is not None:
                self._writing.connection.close()
            self._turnstile.close()


@contextmanager
def translated() -> Iterator[None]:
    """Raise SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            raise StorageFull("the index has no room") from error
        raise StorageUnavailable(f"the index does not answer: {error.sqlite_errorname}") from error
    except sqlite3.DatabaseError as error:
        raise StorageUnavailable(f"the index cannot be used: {type(error).__name__}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
