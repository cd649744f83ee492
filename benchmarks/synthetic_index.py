"""An index of any size for benchmarks: studies as the writer would keep them, their instances multiplied in place.

Every study has two series. One instance of each goes through the functions that give arriving instances their columns;
the others are copies of it with their own UID, number and version, made by the database itself.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import track

from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.attributes import Level
from storage.index import rows, voices
from storage.index.postgres import PostgresIndex, PostgresSettings
from storage.index.sqlite import SqliteIndex

MAIN = ids.tenant("main")
SERIES_PER_STUDY = 2
_SYLLABLES = tuple(consonant + vowel for consonant in "bdklmnrst" for vowel in "aeiou")
_GIVEN = ("Anna", "Bernd", "Carla", "David", "Emma", "Felix", "Greta", "Hans", "Ida", "Jan", "Karla", "Lars", "Maria")
_MODALITIES = ("CT", "MR", "US", "CR", "PT")
_TABLES = (
    "patient",
    "study",
    "name_key",
    "reading_physician",
    "series",
    "series_source",
    "instance",
    "version",
    "document",
)
_BATCH = 2000
_STUDIES_AT_ONCE = 1000
_CACHE_BYTES = 1 << 30

Write = Callable[[str, Sequence[str], Sequence[tuple[object, ...]]], None]
"""Writes rows: table, columns, values."""


def study_uid(number: int) -> str:
    """The UID of a study by its number."""
    return f"1.2.3.{number}"


def _source(data_set: dict[str, Any]) -> str:
    """The AE title of the modality that made a series."""
    return f"{json_model.text_of(data_set, '00080060')}_1"


def _element(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def _data_sets(chance: random.Random, number: int) -> Iterator[list[dict[str, Any]]]:
    """One study after the other: the first instance of each of its series."""
    families = ["".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))).capitalize() for _ in range(20_000)]
    for study in range(number):
        day = time.gmtime(1_400_000_000 + chance.randrange(10 * 365) * 86_400)
        common = {
            "00080020": _element("DA", time.strftime("%Y%m%d", day)),
            "00080030": _element("TM", f"{chance.randrange(24):02}{chance.randrange(60):02}00"),
            "00080050": _element("SH", f"A{study:08}"),
            "00080090": _element("PN", {"Alphabetic": f"{chance.choice(families)}^{chance.choice(_GIVEN)}"}),
            "00081030": _element("LO", f"{chance.choice(('Head', 'Chest', 'Abdomen', 'Knee'))} protocol {study // 50}"),
            "00100010": _element("PN", {"Alphabetic": f"{chance.choice(families)}^{chance.choice(_GIVEN)}"}),
            "00100020": _element("LO", f"P{chance.randrange(number // 2 + 1):07}"),
            "00100030": _element("DA", f"19{chance.randrange(100):02}0101"),
            "00081060": _element("PN", {"Alphabetic": f"{families[study % 300]}^{_GIVEN[study % 7]}"}),
            "0020000D": _element("UI", study_uid(study)),
            "00200010": _element("SH", str(study)),
        }
        yield [
            {
                **common,
                "00080060": _element("CS", chance.choice(_MODALITIES)),
                "0008103E": _element("LO", f"Series {series}"),
                "0020000E": _element("UI", f"{study_uid(study)}.{series}"),
                "00200011": _element("IS", series + 1),
                "00180060": _element("DS", chance.choice((80, 100, 120, 140))),
                "00080016": _element("UI", "1.2.840.10008.5.1.4.1.1.2"),
                "00080018": _element("UI", f"{study_uid(study)}.{series}.0"),
                "00200013": _element("IS", 1),
                "00280010": _element("US", 512),
                "00280011": _element("US", 512),
            }
            for series in range(SERIES_PER_STUDY)
        ]


class _Filler:
    """Rows as the writer would write them, but many at once and without its questions."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: dict[str, list[dict[str, object]]] = {}
        self._clock = ids.VersionClock()
        self._patients: dict[str, int] = {}

    def study(self, number: int, found: list[dict[str, Any]]) -> None:
        study = number + 1
        patient_id = json_model.text_of(found[0], "00100020")
        if patient_id not in self._patients:
            self._patients[patient_id] = len(self._patients) + 1
            patient = {"id": self._patients[patient_id], "tenant": MAIN, "issuer": "", "patient_id": patient_id}
            self._add("patient", {**patient, "of_study": ""})
        versions = [self._clock.next() for _ in found]
        own = {"id": study, "tenant": MAIN, "patient": self._patients[patient_id], "live": True}
        of_study = voices.study_values(found[0], versions[0])
        self._add("study", {**own, "study_uid": study_uid(number), **of_study})
        for attribute, key in rows.name_keys(found[0]):
            self._add("name_key", {"attribute": attribute, "key": key, "study": study})
        for item, values in enumerate(rows.items(found[0], Level.STUDY)["reading_physician"]):
            self._add("reading_physician", {"study": study, "item": item, **values})
        for place, (data_set, version) in enumerate(zip(found, versions, strict=True)):
            series = number * SERIES_PER_STUDY + place + 1
            own = {"id": series, "study": study, "live": True, "series_uid": json_model.text_of(data_set, "0020000E")}
            self._add("series", {**own, **voices.series_values(data_set, version)})
            self._add("series_source", {"series": series, "source_ae_title": _source(data_set)})
            self._instance(study, series, version, data_set)

    def _instance(self, study: int, row: int, version: str, data_set: dict[str, Any]) -> None:
        sop_uid = json_model.text_of(data_set, "00080018")
        own = {"id": row, "tenant": MAIN, "study": study, "series": row, "current_version": row, "change": row}
        values = voices.instance_values(data_set, json_model.text_of(data_set, "00080016"))
        self._add("instance", {**own, "appeared": row, "sop_uid": sop_uid, **values})
        self._add(
            "version",
            {
                "id": row, "instance": row, "version": version, "role": "current",
                "object_key": f"main/{study_uid(study - 1)}/{sop_uid}.{version}.dcm",
                "data_offset": 400, "size": 526_000, "sha256": "0" * 64, "canonical": "0" * 64, "header": "0" * 64,
                "transfer_syntax": "1.2.840.10008.1.2.1", "extractor": 1, "committed": row,
                "source_ae_title": _source(data_set),
            },
        )  # fmt: skip
        body = rows.pack(json_model.dumps(data_set))
        self._add("document", {"version": row, "metadata": body, "layout": b""})

    def _add(self, table: str, values: dict[str, object]) -> None:
        waiting = self._waiting.setdefault(table, [])
        waiting.append(values)
        if len(waiting) >= _BATCH:
            # Rows that others point to come first.
            self.flush()

    def flush(self) -> None:
        """Write what waits, in the order in which the tables point to each other."""
        for table in _TABLES:
            waiting = self._waiting.pop(table, [])
            if waiting:
                self._write(table, list(waiting[0]), [tuple(each.values()) for each in waiting])


def _copies(series: int, copies: int, first: int, last: int) -> Iterator[str]:
    """Statements that make the other instances of the series from ``first`` to ``last``, the same on every engine."""
    number = f"(SELECT value AS n FROM numbers WHERE value < {copies})"
    new_version = f"substr(version, 1, 10) || substr(CAST(10000000000000000 + v.id + n * {series} AS text), 2)"
    where = f"WHERE {{}}.id BETWEEN {first} AND {last} ORDER BY 1"
    yield (
        "INSERT INTO instance (id, tenant, study, series, current_version, change, attributes, sop_uid, sop_class_uid,"
        " rank, appeared, instance_number)"
        f" SELECT i.id + n * {series}, tenant, study, series, i.id + n * {series}, i.id + n * {series}, attributes,"
        " sop_uid || '.' || n, sop_class_uid, rank + n, i.id + n * "
        f"{series}, instance_number + n FROM instance i CROSS JOIN {number} k {where.format('i')}"
    )
    yield (
        "INSERT INTO version (id, instance, version, role, object_key, data_offset, size, sha256, canonical, header,"
        f" transfer_syntax, extractor, committed, source_ae_title) SELECT v.id + n * {series}, v.id + n * {series},"
        f" {new_version}, role, object_key,"
        f" data_offset, size, sha256, canonical, header, transfer_syntax, extractor, v.id + n * {series},"
        " source_ae_title"
        f" FROM version v CROSS JOIN {number} k {where.format('v')}"
    )
    yield (
        f"INSERT INTO document (version, metadata, layout) SELECT d.version + n * {series}, metadata, layout"
        f" FROM document d CROSS JOIN {number} k {where.format('d').replace('d.id', 'd.version')}"
    )


def _fill(write: Write, run: Callable[[str], None], studies: int, instances: int) -> None:
    console = Console(stderr=True)
    filler = _Filler(write)
    everything = enumerate(_data_sets(random.Random(1), studies))
    for number, found in track(everything, "studies and series", total=studies, console=console):
        filler.study(number, found)
    filler.flush()
    series, copies = studies * SERIES_PER_STUDY, instances // SERIES_PER_STUDY
    run("CREATE TEMPORARY TABLE numbers (value BIGINT)")
    write("numbers", ["value"], [(number,) for number in range(1, copies)])
    at_once = _STUDIES_AT_ONCE * SERIES_PER_STUDY
    for first in track(range(1, series + 1, at_once), "instances", console=console):
        for statement in _copies(series, copies, first, min(first + at_once - 1, series)):
            run(statement)
    run("INSERT INTO change (sequence, tenant, at, action, study) SELECT id, tenant, 0, 'completed', id FROM study")
    run(
        "INSERT INTO study_class (study, storage_class, through, change) SELECT id, 'IA', source_version, id FROM study"
    )
    run(f"UPDATE change_sequence SET last = {series * copies}")


def fill_sqlite(path: Path, studies: int, instances: int) -> None:
    """Make an index file of so many studies, each of so many instances."""
    SqliteIndex(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # What fails is made anew: nothing is written twice, and the pages of the trees stay in memory.
        for pragma in ("synchronous = OFF", "journal_mode = OFF", f"cache_size = -{_CACHE_BYTES >> 10}"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")

        def write(table: str, names: Sequence[str], values: Sequence[tuple[object, ...]]) -> None:
            marks = ", ".join("?" * len(names))
            connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", values)

        def run(statement: str) -> None:
            connection.execute(statement)

        _fill(write, run, studies, instances)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def keep_sqlite(path: Path, studies: int, instances: int) -> None:
    """Make the file when it is not there, and tell how long that took; what was not finished is not taken for one."""
    if path.exists():
        return
    started_s = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="filling-", dir=path.parent) as folder:
        made = Path(folder) / path.name
        fill_sqlite(made, studies, instances)
        made.rename(path)
    print(f"filled in {time.monotonic() - started_s:.0f} s, {path.stat().st_size / 1e6:.0f} MB", flush=True)


def fill_postgres(url: str, schema: str, studies: int, instances: int) -> None:
    """Make an index in a schema of a database, of so many studies, each of so many instances."""
    index = PostgresIndex(PostgresSettings(url, schema=schema))
    index.ping()
    index.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SET search_path = {schema}, public")
        connection.execute("SET synchronous_commit = off")

        def write(table: str, names: Sequence[str], values: Sequence[tuple[object, ...]]) -> None:
            with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN") as copy:
                for each in values:
                    copy.write_row(each)

        def run(statement: str) -> None:
            connection.execute(statement)

        _fill(write, run, studies, instances)
        for table in ("patient", "study", "series", "instance", "version"):
            # What is written later goes on after the last.
            run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
        connection.execute("VACUUM ANALYZE")
