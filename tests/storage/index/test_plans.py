"""Every question of the search benchmark has an index behind it, on both engines: no table is read from end to end."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks import search as benchmark
from benchmarks.synthetic_index import MAIN, fill_postgres, fill_sqlite
from gateway.fhir import dates, imaging_studies, patients
from gateway.fhir.patient_ids import PatientKey
from gateway.fhir.values import Token
from storage.dicom.attributes import Level
from storage.dicom.keys import of_keyword
from storage.dicom.matching import AnyOf
from storage.index import ageing, queries, recompressing, removal, sources
from storage.index.database import Among, Database, Sql
from storage.index.postgres import PostgresIndex
from storage.index.postgres_database import PostgresDatabase
from storage.index.questions import Ageing, Search
from storage.index.relational import RelationalIndex
from storage.index.sqlite import SqliteDatabase, SqliteIndex
from storage.index.writing import Writer
from tests.postgres import drop_schema, new_schema

STUDIES, INSTANCES = 3000, 10
QUESTIONS = benchmark.questions()


@dataclass(frozen=True)
class Filled:
    """An index with so many studies in it, and some values to ask for."""

    index: RelationalIndex
    some: benchmark.Some

    def whole_tables(self, statement: Sql) -> list[str]:
        """What a statement reads from end to end, by the engine's own plan."""
        with self.index._reader() as db:
            if isinstance(db, SqliteDatabase):
                text = db.spelled(statement)
                plan = db.execute(f"EXPLAIN QUERY PLAN {text.text}", text.parameters).fetchall()
                scans = [str(line[3]) for line in plan if re.match(r"SCAN [seivdp]\b", line[3])]
                return [scan for scan in scans if "INDEX" not in scan]
            assert isinstance(db, PostgresDatabase)
            text = db.spelled(statement)
            ((plan,),) = db.execute(f"EXPLAIN (FORMAT JSON) {text.text}", text.parameters).fetchall()
            return [f"{node['Node Type']} on {node['Relation Name']}" for node in _nodes(plan[0]["Plan"])]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read a table from end to end."""
    if plan["Node Type"] == "Seq Scan":
        yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


@contextmanager
def _filled(index: RelationalIndex) -> Iterator[Filled]:
    yield Filled(index, benchmark.Some(index, random.Random(3), STUDIES))
    index.close()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("plans") / "index.sqlite"
        fill_sqlite(path, STUDIES, INSTANCES)
        with _filled(SqliteIndex(path)) as found:
            yield found
        return
    settings = new_schema(request.getfixturevalue("postgres"))
    fill_postgres(settings.conninfo, settings.schema, STUDIES, INSTANCES)
    with _filled(PostgresIndex(settings)) as found:
        yield found
    drop_schema(settings)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_page_and_its_total_come_through_an_index(filled: Filled, name: str) -> None:
    search = QUESTIONS[name](filled.some)
    read = filled.whole_tables(queries.page(search))
    read += filled.whole_tables(queries.count(search, None, search.cost.max_counted))
    everything = dataclasses.replace(search, conditions=(), in_study=(), metadata=())
    if filled.index.count(search) * 5 > filled.index.count(everything):
        # Of what most rows satisfy, any of them will do: reading ends with the page, or where counting stops.
        return
    assert read == []


def over_fhir(some: benchmark.Some) -> dict[str, Search]:
    """What searches by FHIR ask beyond those by QIDO-RS."""
    key = PatientKey("", some.patient_id)
    dated = [dates.parsed("started", text) for text in ("2015-01-10", "2018-03-04")]
    moment = dates.parsed("started", "2015-01-10T08:00:00Z")
    conditions = {
        "a UID or accession number": imaging_studies._of_identifier(Token(None, some.study_uid)),
        "a patient": key.condition,
        "several patients": AnyOf((key.condition, PatientKey("X", "nobody").condition)),
        "a patient without an ID": PatientKey("", "", some.study_uid).condition,
        "identifiers": patients.any_identifier([Token(None, some.patient_id), Token("urn:oid:1.2", "nobody")]),
        "one of two days": dates.any_of("StudyDate", dated),
        "a moment": dates.any_of("StudyDate", [moment]),
    }
    found = {name: Search(MAIN, Level.STUDY, (each,), limit=51) for name, each in conditions.items()}
    changed = dates.span([dates.parsed("_lastUpdated", "gt2026-01-01")])
    found["what changed of a patient"] = Search(
        MAIN, Level.STUDY, (key.condition,), scope=of_keyword("Modality", "CT"), changes=True, changed=changed
    )
    return found


def test_what_is_asked_over_fhir_comes_through_an_index(filled: Filled) -> None:
    for name, search in over_fhir(filled.some).items():
        for level in (Level.STUDY, Level.PATIENT)[: 1 if search.changes else 2]:
            asked = dataclasses.replace(search, level=level)
            read = filled.whole_tables(queries.page(asked))
            read += filled.whole_tables(queries.count(asked, None, asked.cost.max_counted))
            assert read == [], name


@pytest.mark.parametrize("dated_before", ["", "20160101"])
def test_old_studies_come_through_the_index_of_arrivals(filled: Filled, dated_before: str) -> None:
    """A page of those that came before a time, or are dated before a day, wherever in the archive it begins."""
    first, *_, last = filled.index.aged(Ageing(MAIN, "8", limit=STUDIES))
    for after in ("", first.version):
        asked = Ageing(MAIN, first.version if dated_before else "8", dated_before, last.version, after)
        assert filled.whole_tables(ageing.statement(asked)) == []
        assert len(filled.index.aged(asked)) > 100


def test_a_question_without_an_index_would_be_noticed(filled: Filled) -> None:
    search = Search(MAIN, Level.STUDY, (of_keyword("InstitutionName", "*nowhere*"),))
    assert filled.whole_tables(queries.count(search, None, search.cost.max_counted)) != []


class _Undone(Exception):
    """Takes a change back."""


def test_what_is_taken_back_is_found_through_an_index(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """All versions of a study, so that series and study go as well: also what refers to them is not read whole."""
    kind = SqliteDatabase if isinstance(filled.index, SqliteIndex) else PostgresDatabase
    noted: list[tuple[str, Sequence[object]]] = []

    def write(db: Database, text: str, *rows: Sequence[object], really: Any = kind.write) -> None:
        noted.extend((text, row) for row in rows[:1])
        really(db, text, *rows)

    def change(writer: Writer) -> None:
        db = writer.db
        found = db.execute(
            "SELECT i.tenant, v.version FROM version v JOIN instance i ON i.id = v.instance WHERE i.study = 1"
        ).fetchall()
        with monkeypatch.context() as patched:
            patched.setattr(kind, "write", write)
            for tenant, version in found:
                removal.withdraw(writer, tenant, version)
        if kind is PostgresDatabase:
            # What is small would be read whole even so.
            db.script("SET LOCAL enable_seqscan = off")
        for text, row in noted:
            explain = "EXPLAIN QUERY PLAN" if kind is SqliteDatabase else "EXPLAIN"
            plan = [str(line[-1]) for line in db.execute(f"{explain} {text}", row).fetchall()]
            whole = [line for line in plan if re.search(r"^SCAN (?!.*INDEX)|Seq Scan", line)]
            assert not whole, (text, plan)
        assert any("FROM change" in text for text, _ in noted)
        raise _Undone

    with pytest.raises(_Undone):
        filled.index._write(change)


def test_versions_without_a_source_are_found_through_an_index(filled: Filled) -> None:
    assert filled.whole_tables(Sql().add(f"{sources.UNKNOWN} LIMIT ?", 9)) == []


def test_what_stands_beside_and_what_may_be_recompressed_are_found_through_an_index(filled: Filled) -> None:
    page = recompressing.page("8", "Z")
    assert filled.whole_tables(page) == []
    for each in (False, True):
        assert filled.whole_tables(recompressing.current("8", "9", 50, all_of_them=each)) == []
    assert filled.whole_tables(Sql().add("SELECT version FROM version WHERE beside = ? AND deleted IS NULL", "8")) == []
    named = Sql().add("SELECT version FROM version WHERE beside IS NOT NULL AND").put(Among("beside", ["8", "9"]))
    assert filled.whole_tables(named) == []
