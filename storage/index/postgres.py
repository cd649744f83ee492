"""The index on PostgreSQL 15 or newer: any number of hosts and processes, writers in turn.

Writing transactions queue at the one row of ``change_sequence``, so everything that is true of one SQLite writer is
true here: rows are looked at and written without a race, and sequence numbers follow the order of commits. What makes
that fast enough is that a process commits what waits together, and that statements travel in a pipeline: an arrival
waits for the network once or twice, whatever it writes.
"""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from storage.errors import SchemaMismatch, StorageError, StorageFull, StorageUnavailable
from storage.index import migrations
from storage.index.connections import Connections
from storage.index.database import Found
from storage.index.postgres_database import PostgresDatabase
from storage.index.relational import Change, RelationalIndex
from storage.index.transaction import LAST, Transaction
from storage.index.writing import Writer

_log = logging.getLogger("storage.index")

_OLDEST_SERVER = 150_000
_IDLE_READERS = 8
_MIGRATION_LOCK = 0x6761_7465_7761_79  # "gateway": one process at a time makes or changes tables


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """Where the database is.

    ``conninfo`` is a libpq connection string or URL; several hosts and ``target_session_attrs=read-write`` follow a
    failover. ``password_file`` is read at each connection, so that a password can be changed under way. All tables are
    in ``schema``, which is made when absent. ``max_readers`` bounds the connections of one process beside its one for
    writing. ``fsync`` False lets commits return before they are durable: for benchmarks, and what can be done again.
    """

    conninfo: str = field(repr=False)
    password_file: Path | None = None
    schema: str = "gateway"
    max_readers: int = 16
    connect_timeout_s: int = 5
    statement_timeout_s: float = 30.0
    fsync: bool = True

    def __post_init__(self) -> None:
        try:
            conninfo_to_dict(self.conninfo)
        except psycopg.Error:
            # Its own message quotes what it could not read, which may be the password.
            raise ValueError("neither a PostgreSQL URL nor a connection string") from None


def connect(settings: PostgresSettings, session: Mapping[str, object]) -> psycopg.Connection[Found]:
    """Connect to where the index is, every table in sight; ``session`` are settings of the session."""
    conninfo = make_conninfo(
        settings.conninfo,
        **_password(settings.password_file),
        application_name=application_name(settings.schema),
        connect_timeout=settings.connect_timeout_s,
        # A server that is gone without a word is noticed within seconds, also under what is being sent.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=15_000,
    )
    connection: psycopg.Connection[Found] = psycopg.connect(conninfo, autocommit=True)
    try:
        if connection.info.server_version < _OLDEST_SERVER:
            raise SchemaMismatch("the index needs PostgreSQL 15 or newer")
        if connection.info.parameter_status("server_encoding") != "UTF8":
            raise SchemaMismatch("the index needs a database with the encoding UTF8")
        path = sql.SQL("SET search_path = {}, public").format(sql.Identifier(settings.schema))
        statements = [path.as_string(connection), "SET jit = off"]
        statements += [f"SET {name} = {value}" for name, value in session.items()]
        connection.execute(";".join(statements))
    except BaseException:
        connection.close()
        raise
    return connection


def confirm(connection: psycopg.Connection[Found]) -> None:
    """Let commits return only when they are durable, whatever the server's default; one that asks for more holds.

    What is durable then is everything that was committed before, also by sessions that did not wait.
    """
    (confirmed,) = connection.execute("SHOW synchronous_commit").fetchone() or ("",)
    if confirmed == "off":
        connection.execute("SET synchronous_commit = on")


def application_name(schema: str) -> str:
    """By what the server's administrator, and a reindex, know the sessions of an index."""
    return f"gateway {schema}"


class PostgresIndex(RelationalIndex):
    """The index in one schema of a PostgreSQL database.

    Made without asking the server for anything: what it needs (tables, or a newer schema) is made with the first
    connection, so a process that starts while the server is down becomes ready when it is there.

    Parameters
    ----------
    settings
        Where it is.
    max_age_s, timeout_s
        See RelationalIndex.
    """

    def __init__(self, settings: PostgresSettings, *, max_age_s: float = 43_200.0, timeout_s: float = 30.0) -> None:
        super().__init__(max_age_s=max_age_s, timeout_s=timeout_s)
        self._settings = settings
        self._timeout_s = timeout_s
        self._prepared = False
        self._preparing = threading.Lock()
        self._writing: PostgresDatabase | None = None
        self._readers: Connections[PostgresDatabase] = Connections(
            self._connect_reader,
            close,
            usable,
            at_most=settings.max_readers,
            kept=min(_IDLE_READERS, settings.max_readers),
            timeout_s=timeout_s,
        )

    # Connections

    def _connect(self, session: dict[str, object]) -> psycopg.Connection[Found]:
        return connect(self._settings, session)

    def _connect_reader(self) -> PostgresDatabase:
        self._prepare()
        milliseconds = int(self._settings.statement_timeout_s * 1000)
        return PostgresDatabase(
            self._connect(
                {
                    "default_transaction_read_only": "on",
                    "statement_timeout": milliseconds,
                    "idle_in_transaction_session_timeout": milliseconds,
                    # A pattern or a range decides which index is right; a plan made without it would not know.
                    "plan_cache_mode": "force_custom_plan",
                    # To start them takes longer than nearly any search.
                    "max_parallel_workers_per_gather": 0,
                }
            )
        )

    def _connect_writer(self) -> PostgresDatabase:
        self._prepare()
        milliseconds = int(self._timeout_s * 1000)
        connection = self._connect(
            {
                "statement_timeout": milliseconds,
                # So that there is time to try again before those who wait give up.
                "lock_timeout": milliseconds // 3,
            }
        )
        if self._settings.fsync:
            confirm(connection)
        else:
            connection.execute("SET synchronous_commit = off")
        return PostgresDatabase(connection)

    def _prepare(self) -> None:
        """Make or bring up to date what the schema holds; once in a process, by one process at a time."""
        with self._preparing:
            if self._prepared:
                return
            with self._connect({"lock_timeout": int(self._timeout_s * 1000)}) as connection, connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
                self._make_schema(connection)
                migrations.migrate(PostgresDatabase(connection), "postgres")
            self._prepared = True

    def _make_schema(self, connection: psycopg.Connection[Found]) -> None:
        schema = self._settings.schema
        if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        where = "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_trgm'"
        found = connection.execute(where).fetchone()
        if found is None:
            connection.execute("CREATE EXTENSION pg_trgm WITH SCHEMA public")
            found = ("public",)
        path = sql.SQL("SET LOCAL search_path = {}, {}, public")
        connection.execute(path.format(sql.Identifier(schema), sql.Identifier(found[0])))

    @contextmanager
    def _reader(self) -> Iterator[PostgresDatabase]:
        with translated(), self._readers.one() as db:
            yield db

    # Writing

    def _transact(self, changes: Sequence[Change]) -> Sequence[object]:
        try:
            return self._together(changes)
        except psycopg.Error as error:
            if len(changes) == 1 or _is_of_engine(error):
                raise _ours(error) from None
        except Exception:
            if len(changes) == 1:
                raise
        # One of them is at fault, and of a pipeline it cannot be told which: nobody else shall suffer from it.
        return [self._alone(change) for change in changes]

    def _alone(self, change: Change) -> object:
        try:
            (result,) = self._transact([change])
        except Exception as error:
            return error
        return result

    def _together(self, changes: Sequence[Change]) -> Sequence[object]:
        """Run changes in one transaction, all or none."""
        if self._writing is None or not usable(self._writing):
            self._let_go()
            self._writing = self._connect_writer()
        connection = self._writing.connection
        try:
            last = self._take_turn(connection)
            with connection.pipeline():
                transaction = Transaction(self._writing, last)
                writer = Writer(transaction)
                results = [change(writer) for change in changes]
                transaction.finish()
                self._writing.send()
                connection.execute("COMMIT")
        except BaseException:
            self._writing.forget()
            self._roll_back(connection)
            raise
        return results

    def _take_turn(self, connection: psycopg.Connection[Found]) -> int:
        """Begin the transaction that may write; the last sequence number."""
        for again in (True, False):
            connection.execute("BEGIN")
            try:
                (last,) = connection.execute(f"{LAST} FOR UPDATE").fetchone() or (0,)
            except errors.LockNotAvailable:
                connection.execute("ROLLBACK")
                if not again:
                    raise
                self._end_stuck(connection)
            else:
                return int(last)
        raise AssertionError("unreachable")

    def _end_stuck(self, connection: psycopg.Connection[Found]) -> None:
        """End the session of a process that has had its turn for too long: stopped, or cut off without a word.

        The server would not do it: in the middle of a pipeline no timeout of its own runs.
        """
        ended = connection.execute(
            "SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
            " WHERE l.relation = 'change_sequence'::regclass AND l.database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND a.usename = current_user AND a.pid <> pg_backend_pid() AND a.wait_event_type IS DISTINCT FROM 'Lock'"
            # Who is at work begins one statement after the other, however long all of them take.
            " AND greatest(a.query_start, a.state_change) < clock_timestamp() - make_interval(secs => %s)",
            (self._timeout_s / 3,),
        ).fetchall()
        if ended:
            _log.warning("ended %d sessions that kept every writer waiting", len(ended))

    def _roll_back(self, connection: psycopg.Connection[Found]) -> None:
        with suppress(psycopg.Error):  # it is gone, and the transaction with it
            if not connection.broken:
                connection.execute("ROLLBACK")
                return
        self._let_go()

    def _let_go(self) -> None:
        if self._writing is not None:
            close(self._writing)
            self._writing = None

    def close(self) -> None:
        """See Index."""
        self._group.close()
        self._readers.close()
        self._let_go()


def _password(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        return {"password": file.read_text(encoding="utf-8").rstrip("\r\n")}
    except (OSError, UnicodeDecodeError) as error:
        raise StorageUnavailable(f"the password of the index cannot be read from {file}") from error


def close(db: PostgresDatabase) -> None:
    """Let go of a connection, whatever state it is in."""
    with suppress(psycopg.Error):
        db.connection.close()


def usable(db: PostgresDatabase) -> bool:
    """Whether a connection that nobody uses is idle and the server has not hung up, as far as is known here."""
    connection = db.connection
    if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
        return False
    # Not by select, which takes no descriptor beyond 1023: a face has one for each of its clients.
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(0):
        return True
    # A notice, or the end: the server says which.
    with suppress(psycopg.Error):
        connection.execute("SELECT 1")
        return True
    return False


def _is_of_engine(error: psycopg.Error) -> bool:
    """Whether the server or the way to it is at fault, and not one statement."""
    engine = isinstance(error, psycopg.OperationalError | psycopg.InternalError)
    return engine and not isinstance(error, errors.PipelineAborted)


_TOLD = ("08", "28", "3D", "3F", "42501", "53", "57P")
"""SQLSTATEs, or how they begin, of faults in connecting, rights or resources: their messages quote no values."""


def _ours(error: psycopg.Error) -> StorageError:
    """Our error for one of the engine's, without what the server quotes: values are patient data."""
    if isinstance(error, errors.DiskFull | errors.OutOfMemory):
        return StorageFull("the index has no room")
    if error.sqlstate is None:
        return StorageUnavailable(f"the index does not answer: {str(error).strip().partition(chr(10))[0]}")
    told = f": {error.diag.message_primary}" if error.sqlstate.startswith(_TOLD) else ""
    return StorageUnavailable(f"the index does not answer: {type(error).__name__} ({error.sqlstate}){told}")


@contextmanager
def translated() -> Iterator[None]:
    """Raise the engine's errors as ours."""
    try:
        yield
    except psycopg.Error as error:
        raise _ours(error) from None
