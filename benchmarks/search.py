"""Latency of searches on a synthetic index: python -m benchmarks.search FILE [--studies N] [--rounds N].

Fills FILE with N studies of two series and ten instances each when it is not there, through the same functions that
give arriving instances their columns, then asks what clients ask. Deep pages are asked both ways in one run: counted
off from the first row, and entered at the row before them.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from storage.dicom import identifiers as ids
from storage.dicom import json_model, keys
from storage.dicom.attributes import Computed, Level
from storage.dicom.keys import Options
from storage.dicom.metadata import Step, Value
from storage.index import migrations, rows, voices
from storage.index.base import Search
from storage.index.sqlite import SqliteIndex

MAIN = ids.tenant("main")
SERIES_PER_STUDY = 2
INSTANCES_PER_SERIES = 5
_SYLLABLES = tuple(consonant + vowel for consonant in "bdklmnrst" for vowel in "aeiou")
_GIVEN = ("Anna", "Bernd", "Carla", "David", "Emma", "Felix", "Greta", "Hans", "Ida", "Jan", "Karla", "Lars", "Maria")
_MODALITIES = ("CT", "MR", "US", "CR", "PT")
_BATCH = 2000
_COMPUTED = frozenset((Computed.MODALITIES_IN_STUDY, Computed.STUDY_SERIES, Computed.STUDY_INSTANCES))


def element(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def data_sets(chance: random.Random, number: int) -> Iterator[list[dict[str, Any]]]:
    """The data sets of one study after the other, ten of them each."""
    families = ["".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))).capitalize() for _ in range(20_000)]
    for study in range(number):
        day = time.gmtime(1_400_000_000 + chance.randrange(10 * 365) * 86_400)
        common = {
            "00080020": element("DA", time.strftime("%Y%m%d", day)),
            "00080030": element("TM", f"{chance.randrange(24):02}{chance.randrange(60):02}00"),
            "00080050": element("SH", f"A{study:08}"),
            "00080090": element("PN", {"Alphabetic": f"{chance.choice(families)}^{chance.choice(_GIVEN)}"}),
            "00081030": element("LO", chance.choice(("Head", "Chest", "Abdomen", "Knee")) + " routine"),
            "00100010": element("PN", {"Alphabetic": f"{chance.choice(families)}^{chance.choice(_GIVEN)}"}),
            "00100020": element("LO", f"P{chance.randrange(number // 2 + 1):07}"),
            "00100030": element("DA", f"19{chance.randrange(100):02}0101"),
            "0020000D": element("UI", f"1.2.3.{study}"),
            "00200010": element("SH", str(study)),
        }
        found = []
        for series in range(SERIES_PER_STUDY):
            of_series = {
                **common,
                "00080060": element("CS", chance.choice(_MODALITIES)),
                "0008103E": element("LO", f"Series {series}"),
                "0020000E": element("UI", f"1.2.3.{study}.{series}"),
                "00200011": element("IS", series + 1),
                "00180060": element("DS", chance.choice((80, 100, 120, 140))),
            }
            for instance in range(INSTANCES_PER_SERIES):
                found.append(
                    {
                        **of_series,
                        "00080016": element("UI", "1.2.840.10008.5.1.4.1.1.2"),
                        "00080018": element("UI", f"1.2.3.{study}.{series}.{instance}"),
                        "00200013": element("IS", instance + 1),
                        "00280010": element("US", 512),
                        "00280011": element("US", 512),
                    }
                )
        yield found


class Filler:
    """Writes rows as the writer would, but many at once and without its questions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._waiting: dict[str, list[dict[str, object]]] = {}
        self._clock = ids.VersionClock()
        self._patients: dict[str, int] = {}
        self._change = 0

    def study(self, number: int, found: list[dict[str, Any]]) -> None:
        """One study of ten instances."""
        study = number + 1
        patient_id = json_model.text_of(found[0], "00100020")
        if patient_id not in self._patients:
            self._patients[patient_id] = len(self._patients) + 1
            patient = {"id": self._patients[patient_id], "tenant": MAIN, "issuer": "", "patient_id": patient_id}
            self._add("patient", {**patient, "of_study": ""})
        first = self._clock.next()
        own = {"id": study, "tenant": MAIN, "patient": self._patients[patient_id], "live": 1}
        of_study = voices.study_values(found[0], first)
        self._add("study", {**own, "study_uid": f"1.2.3.{number}", **of_study})
        for attribute, key in rows.name_keys(rows.columns(found[0], Level.PATIENT, Level.STUDY)):
            self._add("name_key", {"attribute": attribute, "key": key, "study": study})
        for place, data_set in enumerate(found):
            version = first if place == 0 else self._clock.next()
            series = number * SERIES_PER_STUDY + place // INSTANCES_PER_SERIES + 1
            if place % INSTANCES_PER_SERIES == 0:
                series_uid = json_model.text_of(data_set, "0020000E")
                own = {"id": series, "study": study, "live": 1, "series_uid": series_uid}
                self._add("series", {**own, **voices.series_values(data_set, version)})
            self._instance(study, series, version, data_set)

    def _instance(self, study: int, series: int, version: str, data_set: dict[str, Any]) -> None:
        self._change += 1
        row = self._change
        sop_uid = json_model.text_of(data_set, "00080018")
        own = {"id": row, "tenant": MAIN, "study": study, "series": series, "current_version": row, "change": row}
        values = voices.instance_values(data_set, json_model.text_of(data_set, "00080016"))
        self._add("instance", {**own, "appeared": row, "sop_uid": sop_uid, **values})
        self._add(
            "version",
            {
                "id": row, "instance": row, "version": version, "role": "current", "object_key": sop_uid,
                "data_offset": 400, "size": 526_000, "sha256": "0" * 64, "canonical": "0" * 64, "header": "0" * 64,
                "transfer_syntax": "1.2.840.10008.1.2.1", "extractor": 1, "committed": row,
            },
        )  # fmt: skip
        body = rows.pack(json_model.dumps(data_set))
        self._add("document", {"version": row, "metadata": body, "layout": b""})

    def _add(self, table: str, values: dict[str, object]) -> None:
        waiting = self._waiting.setdefault(table, [])
        waiting.append(values)
        if len(waiting) >= _BATCH:
            self._write(table)

    def _write(self, table: str) -> None:
        waiting = self._waiting[table]
        names = list(waiting[0])
        self._db.executemany(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            [tuple(each[name] for name in names) for each in waiting],
        )
        waiting.clear()

    def finish(self) -> None:
        """Write what waits."""
        for table, waiting in self._waiting.items():
            if waiting:
                self._write(table)
        self._db.execute("UPDATE change_sequence SET last = ?", (self._change,))


def fill(path: Path, studies: int) -> None:
    """Make the index."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    migrations.migrate(connection)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    filler = Filler(connection)
    started_s = time.perf_counter()
    for number, found in enumerate(data_sets(random.Random(1), studies)):
        filler.study(number, found)
    filler.finish()
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    print(f"filled in {time.perf_counter() - started_s:.0f} s, {path.stat().st_size / 1e6:.0f} MB")


def measure(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median and longest of some calls, in milliseconds; the first, which finds nothing in any cache, is left out."""
    call()
    taken = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started_s) * 1000)
    return statistics.median(taken), max(taken)


def questions(index: SqliteIndex, studies: int) -> Iterator[tuple[str, Search]]:
    """What clients ask, each with its name."""

    def ask(level: Level, *conditions: Any, **more: Any) -> Search:
        computed = _COMPUTED if level is Level.STUDY else frozenset()
        return Search(MAIN, level, conditions, computed=computed, limit=101, **more)

    (some, *_) = index.search(Search(MAIN, Level.STUDY, offset=studies // 3, limit=1))
    attributes = json_model.loads(some.attributes[0])
    name, patient_id = json_model.text_of(attributes, "00100010"), json_model.text_of(attributes, "00100020")
    date = json_model.text_of(attributes, "00080020")
    of = keys.of_keyword
    fuzzy = Options(fuzzy=True)
    yield "studies, newest", ask(Level.STUDY)
    yield "studies by PatientID", ask(Level.STUDY, of("PatientID", patient_id))
    yield "studies by AccessionNumber", ask(Level.STUDY, of("AccessionNumber", f"A{studies // 2:08}"))
    yield "studies of a day", ask(Level.STUDY, of("StudyDate", date))
    yield "studies of a month", ask(Level.STUDY, of("StudyDate", f"{date[:6]}01-{date[:6]}31"))
    yield "studies since a year (most)", ask(Level.STUDY, of("StudyDate", "20150101-"))
    yield "studies by name, prefix", ask(Level.STUDY, of("PatientName", name.partition("^")[0] + "*"))
    yield "studies by name, inside", ask(Level.STUDY, of("PatientName", f"*{name[2:8]}*"))
    yield "studies by name, fuzzy", ask(Level.STUDY, of("PatientName", name, fuzzy))
    yield "studies by name, fuzzy as OHIF", ask(Level.STUDY, of("PatientName", f"*{name.partition('^')[0]}*", fuzzy))
    yield "studies by ModalitiesInStudy", ask(Level.STUDY, in_study=(of("Modality", "PT"),))
    yield "studies by description", ask(Level.STUDY, of("StudyDescription", "Knee*"))
    yield "series of a study", ask(Level.SERIES, of("StudyInstanceUID", some.study_uid))
    yield "series, newest", ask(Level.SERIES)
    yield "instances of a study", ask(Level.INSTANCE, of("StudyInstanceUID", some.study_uid))
    yield "instances, newest", ask(Level.INSTANCE)
    yield "patients", ask(Level.PATIENT)
    yield "patients since a year (most)", ask(Level.PATIENT, of("StudyDate", "20150101-"))
    yield "patients by name, inside", ask(Level.PATIENT, of("PatientName", f"*{name[2:8]}*"))
    kvp = (Value(Step("00180060"), "DS", "120"),)
    yield "studies of a day by KVP (metadata)", ask(Level.STUDY, of("StudyDate", date), metadata=kvp)
    month = of("StudyDate", f"{date[:6]}01-{date[:6]}31")
    yield "studies of a month by KVP (metadata)", ask(Level.STUDY, month, metadata=kvp)


def deep_pages(index: SqliteIndex, studies: int, rounds: int) -> Iterator[tuple[str, float, float]]:
    """The last pages, both ways."""
    per_study = {
        Level.STUDY: 1,
        Level.SERIES: SERIES_PER_STUDY,
        Level.INSTANCE: SERIES_PER_STUDY * INSTANCES_PER_SERIES,
    }
    for level, factor in per_study.items():
        offset = studies * factor - 200
        plain = Search(MAIN, level, limit=100, offset=offset)
        (before,) = index.search(dataclasses.replace(plain, limit=1, offset=offset - 1))
        after = dataclasses.replace(plain, offset=0, after=before.position)
        snapshot = dataclasses.replace(after, snapshot=index.state().change)
        assert index.search(plain) == index.search(after) == index.search(snapshot)
        for name, search in (("counted off", plain), ("entered", after), ("entered, in a snapshot", snapshot)):
            yield f"{level.name.lower()} page at {offset}, {name}", *measure(lambda s=search: index.search(s), rounds)  # type: ignore[misc]


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    if not given.file.exists():
        fill(given.file, given.studies)
    index = SqliteIndex(given.file)
    print(f"{'':44}{'page':>9}{'longest':>9}{'total':>9}{'longest':>9}{'rows':>9}  (ms, medians of {given.rounds})")
    for name, search in questions(index, given.studies):
        page = measure(lambda s=search: index.search(s), given.rounds)  # type: ignore[misc]
        total = measure(lambda s=search: index.page(dataclasses.replace(s, limit=0)).total, given.rounds)  # type: ignore[misc]
        print(f"{name:44}" + "".join(f"{each:9.1f}" for each in (*page, *total)) + f"{index.count(search):9}")
    for deep, median, longest in deep_pages(index, given.studies, given.rounds):
        print(f"{deep:44}{median:9.1f}{longest:9.1f}")
    index.close()


if __name__ == "__main__":
    main()
