"""The SQLite index: the contract, and what only it does."""

from __future__ import annotations

import fcntl
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.dicom import keys, matching
from storage.dicom.attributes import COLUMNS, Level
from storage.dicom.keys import Options
from storage.errors import SchemaMismatch, StorageUnavailable
from storage.index import migrations
from storage.index.base import Index
from storage.index.questions import Search
from storage.index.sqlite import SqliteIndex
from storage.index.turnstile import Turnstile
from tests.instances import data_set, encode, extract
from tests.storage.index.conformance import MAIN, SAMPLES, IndexContract, arrival, put


class TestSqliteIndex(IndexContract):
    """The contract."""

    @pytest.fixture
    def index(self, tmp_path: Path) -> Iterator[Index]:
        index = SqliteIndex(tmp_path / "index.sqlite")
        yield index
        index.close()

    def dump(self, index: Index) -> str:
        assert isinstance(index, SqliteIndex)
        found = []
        with sqlite3.connect(index._path) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for value in (value for row in database.execute(f"SELECT * FROM {table}") for value in row):
                    text = zlib.decompress(value) if isinstance(value, bytes) and value[:1] == b"x" else value
                    found.append(text.decode("latin-1") if isinstance(text, bytes) else str(text))
        database.close()
        return "\n".join(found)


def test_the_schema_has_exactly_the_registrys_columns(tmp_path: Path) -> None:
    SqliteIndex(tmp_path / "index.sqlite").close()
    database = sqlite3.connect(tmp_path / "index.sqlite")
    for table, levels in (
        ("study", (Level.PATIENT, Level.STUDY)),
        ("series", (Level.SERIES,)),
        ("instance", (Level.INSTANCE,)),
    ):
        present = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        registered = {c for a in COLUMNS if a.level in levels and not a.items for c in a.columns}
        own = {
            "id", "tenant", "patient", "live", "source_version", "attributes", "rank", "appeared",
            "study", "series", "current_version", "change", "blank_patient",
        }  # fmt: skip
        assert present - own == registered
    database.close()


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")
    one = put(index)
    index.close()
    index = SqliteIndex(tmp_path / "index.sqlite")
    assert [row.study_uid for row in index.search(Search(MAIN, Level.STUDY))] == [one.study_uid]
    index.close()


@pytest.mark.parametrize("before", [1, 7])
def test_a_database_of_an_earlier_schema_is_filled_up_and_answers_alike(tmp_path: Path, before: int) -> None:
    index = SqliteIndex(tmp_path / "new.sqlite")
    for values in SAMPLES:
        put(index, SpecificCharacterSet="ISO_IR 192", AcquisitionNumber=3, **values)
    expected = _answers(index)
    index.close()
    old = sqlite3.connect(tmp_path / "old.sqlite")
    for number, script in migrations.scripts("sqlite").items():
        if number <= before:
            old.executescript(script)
    old.execute("ATTACH ? AS new", (str(tmp_path / "new.sqlite"),))
    for (table,) in old.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
        both = [{row[1] for row in old.execute(f"PRAGMA {schema}.table_info({table})")} for schema in ("main", "new")]
        columns = ", ".join(sorted(both[0] & both[1]))
        old.execute(f"DELETE FROM main.{table}")
        old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
    old.execute("UPDATE main.meta SET value = ? WHERE key != 'epoch'", (str(before),))
    if before > 1:
        old.execute("DELETE FROM main.name_key WHERE attribute = 'reading_physician_name'")
    old.commit()
    old.close()
    index = SqliteIndex(tmp_path / "old.sqlite")
    assert _answers(index) == expected
    assert [each.object_key for each in index.unsourced(99)] == sorted(
        (each.object_key for each in index.holdings("", 99)), key=lambda key: key[-30:]
    )
    change = index.state().change
    put(index)
    assert len(index.search(Search(MAIN, Level.STUDY, snapshot=change))) == len(SAMPLES)
    index.close()


def _answers(index: Index) -> list[object]:
    conditions = [
        matching.EVERYTHING,
        keys.of_keyword("PatientName", "Meyer", Options(fuzzy=True)),
        keys.of_keyword("NameOfPhysiciansReadingStudy", "A*=山田*"),
        keys.of_keyword("NameOfPhysiciansReadingStudy", "Zoe", Options(fuzzy=True)),
        keys.of_keyword("ScheduledProcedureStepID", "c"),
        keys.of_keyword("AcquisitionNumber", "3"),
        matching.Range("StudyDate+StudyTime", "2026", "2027"),
    ]
    found = [index.search(Search(MAIN, level, (each,))) for level in Level for each in conditions]
    assert all(found)
    return list(found)


def test_a_database_of_a_newer_incompatible_release_is_refused(tmp_path: Path) -> None:
    SqliteIndex(tmp_path / "index.sqlite").close()
    database = sqlite3.connect(tmp_path / "index.sqlite")
    database.execute("UPDATE meta SET value = '99' WHERE key IN ('schema_version', 'oldest_compatible')")
    database.commit()
    database.close()
    with pytest.raises(SchemaMismatch, match="upgrade"):
        SqliteIndex(tmp_path / "index.sqlite")


def test_schema_files_rise_in_number_up_to_the_schema_version() -> None:
    numbers = list(migrations.scripts("sqlite"))
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == migrations.SCHEMA_VERSION


def test_a_damaged_database_is_unavailable_and_not_an_exception_of_sqlite(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StorageUnavailable):
        SqliteIndex(tmp_path / "index.sqlite")


_WRITER = """
import sys
from pathlib import Path
from storage.index.sqlite import SqliteIndex
from tests.storage.index.conformance import put
index = SqliteIndex(Path(sys.argv[1]))
for _ in range(40):
    put(index, StudyInstanceUID=sys.argv[2], SeriesInstanceUID=sys.argv[2] + ".1")
index.close()
"""


def test_two_processes_write_in_turn_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    processes = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), study_uid], cwd=Path(__file__).parents[3])
        for study_uid in ("1.1", "1.1", "1.2")
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    index = SqliteIndex(path)
    assert index.count(Search(MAIN, Level.INSTANCE)) == 120
    index.close()


def test_a_process_that_leaves_the_turnstile_cannot_overtake_the_one_that_waits(tmp_path: Path) -> None:
    order: list[str] = []
    first, second = Turnstile(tmp_path / "lock"), Turnstile(tmp_path / "lock")

    def wait_once() -> None:
        with second.turn():
            order.append("second")

    with first.turn():
        waiting = threading.Thread(target=wait_once)
        waiting.start()
        # The gate is taken once the second one waits for the room.
        while not _is_taken(first._gate):
            time.sleep(0.001)
    with first.turn():
        order.append("first")
    waiting.join()
    assert order == ["second", "first"]
    first.close()
    second.close()


def test_a_turn_at_once_is_had_only_when_nobody_has_it_or_waits(tmp_path: Path) -> None:
    first, second, third = (Turnstile(tmp_path / "lock") for _ in range(3))
    go_on = threading.Event()

    def wait_once() -> None:
        with third.turn():
            go_on.wait(30)

    def is_ours() -> bool:
        with second.turn_at_once() as found:
            return found

    with first.turn_at_once() as had:
        assert had
        assert not is_ours()
        waiting = threading.Thread(target=wait_once)
        waiting.start()
        while not _is_taken(second._gate):  # until the third one waits for the room
            time.sleep(0.001)
        assert not is_ours()
    assert not is_ours()
    go_on.set()
    waiting.join()
    assert is_ours()
    assert is_ours()
    for each in (first, second, third):
        each.close()


def _is_taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def test_one_bad_arrival_does_not_take_its_group_along(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")
    good, bad = arrival(extract(encode(data_set()))), arrival(extract(encode(data_set())))
    index.commit(good)
    twice = arrival(bad.extract, good.version)  # the version is taken: a constraint fails
    results: list[object] = []

    def commit(one: object) -> None:
        try:
            results.append(index.commit(one).outcome)  # type: ignore[arg-type]
        except Exception as error:
            results.append(type(error).__name__)

    others = [arrival(extract(encode(data_set()))) for _ in range(6)]
    threads = [threading.Thread(target=commit, args=(each,)) for each in [twice, *others]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("stored") == 6
    assert index.count(Search(MAIN, Level.INSTANCE)) == 7
    index.close()


def test_reading_from_ever_new_threads_keeps_few_connections(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")
    for _ in range(60):
        thread = threading.Thread(target=index.ping)
        thread.start()
        thread.join()
    open_files = [path.readlink().name for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert open_files.count("index.sqlite") < 10
    index.close()


def test_a_copy_made_beside_writers_is_consistent_and_opens_by_itself(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")
    for _ in range(3):
        put(index)
    index.copy(tmp_path / "copy.sqlite")
    put(index)
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.sqlite"]
    copy = SqliteIndex(tmp_path / "copy.sqlite")
    assert copy.count(Search(MAIN, Level.INSTANCE)) == 3
    copy.close()
    index.close()
