"""The PostgreSQL index: the contract, and what only it does."""

from __future__ import annotations

import dataclasses
import signal
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydicom.uid import JPEGBaseline8Bit

from storage.dicom import identifiers as ids
from storage.dicom import keys, matching
from storage.dicom.attributes import Computed, Level
from storage.dicom.keys import Options
from storage.dicom.matching import EVERYTHING
from storage.errors import SchemaMismatch, SearchTooBroad, StorageUnavailable
from storage.index.arrivals import Arrival, Outcome
from storage.index.base import Index
from storage.index.postgres import PostgresIndex, PostgresSettings
from storage.index.questions import Search, Target
from storage.index.sqlite import SqliteIndex
from tests.instances import data_set, encapsulated, encode, extract, identity
from tests.postgres import Postgres, new_schema
from tests.programs import running
from tests.storage.index.conformance import MAIN, SAMPLES, IndexContract, arrival, put

COMPUTED = {
    Level.STUDY: frozenset((Computed.MODALITIES_IN_STUDY, Computed.STUDY_SERIES, Computed.STUDY_INSTANCES)),
    Level.SERIES: frozenset((Computed.SERIES_INSTANCES,)),
    Level.INSTANCE: frozenset((Computed.TRANSFER_SYNTAXES,)),
}


class TestPostgresIndex(IndexContract):
    """The contract."""

    @pytest.fixture
    def index(self, postgres_schema: PostgresSettings) -> Iterator[Index]:
        index = PostgresIndex(postgres_schema)
        yield index
        index.close()

    def dump(self, index: Index) -> str:
        assert isinstance(index, PostgresIndex)
        settings, found = index._settings, []
        with psycopg.connect(settings.conninfo) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (settings.schema,))
            for (table,) in tables.fetchall():
                rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(settings.schema, table)))
                for value in (value for row in rows for value in row):
                    text = zlib.decompress(value) if isinstance(value, bytes) and value[:1] == b"x" else value
                    found.append(text.decode("latin-1") if isinstance(text, bytes) else str(text))
        return "\n".join(found)


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of the test's own, to be ended and started at will."""
    server = Postgres()
    yield server
    server.stop()


def _columns(settings: PostgresSettings, table: str) -> set[str]:
    with psycopg.connect(settings.conninfo) as connection:
        found = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
            (settings.schema, table),
        )
        return {name for (name,) in found}


def test_the_tables_have_the_columns_that_sqlite_has(postgres_schema: PostgresSettings, tmp_path: Path) -> None:
    index = PostgresIndex(postgres_schema)
    index.ping()
    index.close()
    SqliteIndex(tmp_path / "index.sqlite").close()
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in (name for name in tables if not name.startswith("sqlite_")):
            there = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
            assert _columns(postgres_schema, table) == there, table


def test_both_engines_answer_alike(postgres_schema: PostgresSettings, tmp_path: Path) -> None:
    index = PostgresIndex(postgres_schema)
    lite = SqliteIndex(tmp_path / "index.sqlite")
    for values in SAMPLES:
        one = arrival(extract(encode(data_set(SpecificCharacterSet="ISO_IR 192", **values))))
        assert index.commit(one) == lite.commit(one)
    conditions = [
        matching.EVERYTHING,
        keys.of_keyword("PatientName", "*e*"),
        keys.of_keyword("PatientName", "Meyer", Options(fuzzy=True)),
        keys.of_keyword("StudyDate", "20200101-20301231"),
        keys.of_keyword("Modality", "CT"),
    ]
    for level in Level:
        for condition in conditions:
            search = Search(MAIN, level, (condition,), computed=COMPUTED.get(level, frozenset()))
            assert index.search(search) == lite.search(search)
    index.close()
    lite.close()


def test_a_database_of_a_newer_incompatible_release_is_refused(postgres_schema: PostgresSettings) -> None:
    index = PostgresIndex(postgres_schema)
    index.ping()
    index.close()
    with psycopg.connect(postgres_schema.conninfo) as connection:
        meta = sql.Identifier(postgres_schema.schema, "meta")
        connection.execute(
            sql.SQL("UPDATE {} SET value = '99' WHERE key IN ('schema_version', 'oldest_compatible')").format(meta)
        )
    index = PostgresIndex(postgres_schema)
    with pytest.raises(SchemaMismatch, match="upgrade"):
        index.ping()
    index.close()


_WRITER = """
import sys
from storage.index.postgres import PostgresIndex, PostgresSettings
from tests.storage.index.conformance import put
index = PostgresIndex(PostgresSettings(sys.argv[1], schema=sys.argv[2]))
for _ in range(40):
    put(index, StudyInstanceUID=sys.argv[3], SeriesInstanceUID=sys.argv[3] + ".1")
index.close()
"""


def test_processes_that_start_at_once_on_nothing_make_one_schema_and_lose_nothing(
    postgres_schema: PostgresSettings,
) -> None:
    address = (postgres_schema.conninfo, postgres_schema.schema)
    processes = [
        subprocess.Popen([sys.executable, "-c", _WRITER, *address, study_uid], cwd=Path(__file__).parents[3])
        for study_uid in ("1.1", "1.1", "1.2", "1.2")
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0, 0]
    index = PostgresIndex(postgres_schema)
    assert index.count(Search(MAIN, Level.INSTANCE)) == 160
    sequence = [change.sequence for change in index.changes(MAIN, matching.EVERYTHING, 0, 1000).rows]
    assert sequence == list(range(1, 161))
    index.close()


def test_one_bad_arrival_does_not_take_its_group_along(postgres_schema: PostgresSettings) -> None:
    index = PostgresIndex(postgres_schema)
    good, bad = arrival(extract(encode(data_set()))), arrival(extract(encode(data_set())))
    index.commit(good)
    twice = arrival(bad.extract, good.version)  # the version is taken: a constraint fails
    others = [arrival(extract(encode(data_set()))) for _ in range(6)]
    with ThreadPoolExecutor(7) as pool:
        results = list(pool.map(lambda one: _outcome(index, one), [twice, *others]))
    assert results.count("stored") == 6
    assert results[0].startswith("the index does not answer: UniqueViolation")
    assert good.version not in results[0]
    assert index.count(Search(MAIN, Level.INSTANCE)) == 7
    index.close()


def test_rows_that_go_in_many_at_once_are_all_there_and_of_a_batch_that_fails_none(
    postgres_schema: PostgresSettings,
) -> None:
    index = PostgresIndex(postgres_schema)
    # In number no power of two, of one series and of several, with chunks of frames and without.
    framed = [identity(f"1.2.{number}") + encapsulated(b"ab", b"c") for number in range(75)]
    batch = [arrival(extract(body, JPEGBaseline8Bit)) for body in framed]
    batch += [
        arrival(extract(encode(data_set(StudyInstanceUID="1.1", SeriesInstanceUID=f"1.1.{number % 3}"))))
        for number in range(38)
    ]
    with pytest.raises(StorageUnavailable, match="UniqueViolation"):
        index.commit_all([*batch, arrival(extract(encode(data_set())), batch[0].version)])
    assert index.count(Search(MAIN, Level.INSTANCE)) == 0
    assert {each.outcome for each in index.commit_all(batch)} == {Outcome.STORED}
    assert index.count(Search(MAIN, Level.INSTANCE)) == len(batch)
    located = index.locate(Target(MAIN, ids.study_uid("1.2.3")), EVERYTHING)
    assert len(located) == len(framed)
    assert all(len(list(index.fragments(each.version_id, [1]))) == 1 for each in located)
    rows = index.search(Search(MAIN, Level.STUDY, computed=COMPUTED[Level.STUDY]))
    assert sorted(str(row.computed[Computed.STUDY_SERIES]) for row in rows) == ["1", "3"]
    index.close()


def _outcome(index: Index, one: Arrival) -> str:
    try:
        return index.commit(one).outcome.value
    except StorageUnavailable as error:
        return str(error)


def test_an_index_made_while_the_server_is_down_answers_when_it_is_there(server: Postgres) -> None:
    server.halt()
    index = PostgresIndex(new_schema(server.url))
    for call in (index.ping, lambda: put(index)):
        with pytest.raises(StorageUnavailable, match=r"does not answer.*refused"):
            call()
    server.start()
    one = put(index)
    assert index.search(Search(MAIN, Level.STUDY))[0].study_uid == one.study_uid
    index.close()


def test_a_server_that_dies_is_unavailable_and_used_again_when_it_is_back(server: Postgres) -> None:
    index = PostgresIndex(new_schema(server.url))
    kept = [put(index) for _ in range(3)]
    for end in (server.kill, server.halt, lambda: server.halt(signal.SIGQUIT)):
        end()
        for call in (index.ping, lambda: put(index)):
            with pytest.raises(StorageUnavailable):
                call()
        server.start()
        kept.append(put(index))
        found = {row.study_uid for row in index.search(Search(MAIN, Level.STUDY))}
        assert found == {each.study_uid for each in kept}
    index.close()


def test_who_holds_the_turn_and_does_nothing_loses_it(postgres_schema: PostgresSettings) -> None:
    index = PostgresIndex(postgres_schema, timeout_s=6)
    put(index)
    script = _HOLDER.format(address=(postgres_schema.conninfo, postgres_schema.schema))
    root = Path(__file__).parents[3]
    with running([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as stuck:
        assert stuck.stdout is not None
        assert stuck.stdout.readline() == "held\n"
        stuck.send_signal(signal.SIGSTOP)
        put(index)  # waits for its turn, which comes when the other's session is ended
        stuck.send_signal(signal.SIGCONT)
        assert stuck.communicate(timeout=60)[0] == "StorageUnavailable\nstored\n"
    assert index.count(Search(MAIN, Level.INSTANCE)) == 3
    index.close()


_HOLDER = """
import sys, time
from storage.errors import StorageUnavailable
from storage.index.postgres import PostgresIndex, PostgresSettings
from tests.storage.index.conformance import put
address, schema = {address}
index = PostgresIndex(PostgresSettings(address, schema=schema))

def hold(writer):
    writer.transaction.update("study", 0, {{"live": False}})
    writer.db.has_table("study")
    print("held", flush=True)
    time.sleep(4)

try:
    index._write(hold)
except StorageUnavailable as error:
    print(type(error).__name__, flush=True)
put(index)
print("stored", flush=True)
index.close()
"""


def test_a_search_that_takes_too_long_is_ended_by_the_server(postgres_schema: PostgresSettings) -> None:
    index = PostgresIndex(postgres_schema)
    put(index)
    with pytest.raises(SearchTooBroad, match=r"longer than 0.2 s"), index._reader() as db, db.reading(0.2):
        db.execute("SELECT pg_sleep(30)").fetchall()
    put(index)
    index.close()


def test_a_process_keeps_to_its_number_of_connections(postgres_schema: PostgresSettings) -> None:
    settings = dataclasses.replace(postgres_schema, max_readers=3)
    index = PostgresIndex(settings, timeout_s=30)
    put(index)
    made: list[object] = []
    connect = index._readers._connect
    index._readers._connect = lambda: made.append(None) or connect()  # type: ignore[func-returns-value]

    def read(_: int) -> None:
        with index._reader() as db:
            db.execute("SELECT pg_sleep(0.01)").fetchall()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(read, range(60)))
    assert len(made) <= 3
    index.close()


def test_the_password_is_in_no_error_and_no_repr(postgres: str) -> None:
    settings = PostgresSettings(postgres.replace("gateway-tests-password", "wrong-secret-word"))
    assert "wrong-secret-word" not in repr(settings)
    index = PostgresIndex(settings)
    with pytest.raises(StorageUnavailable, match="password authentication failed") as caught:
        index.ping()
    assert "wrong-secret-word" not in str(caught.value)
    index.close()
