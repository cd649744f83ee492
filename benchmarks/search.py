"""Latency of searches on a synthetic index: python -m benchmarks.search --sqlite FILE | --postgres URL.

Fills the file, or the schema ``benchmark`` of the database, when it is not there, then asks what clients ask: the
console, OHIF, C-FIND of workstations, and what retrieval asks of the index. Each question is asked with other values
every time. Deep pages are asked both ways in one run: counted off from the first row, and entered at the row before.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.synthetic_index import MAIN, SERIES_PER_STUDY, fill_postgres, keep_sqlite, study_uid
from storage.dicom import identifiers as ids
from storage.dicom import json_model, keys
from storage.dicom.attributes import SOURCE_AE, Computed, Level
from storage.dicom.keys import Options
from storage.dicom.matching import EVERYTHING, AllOf, Condition, InItem, Not, OneOf
from storage.dicom.metadata import Step, Value
from storage.errors import SearchTooBroad
from storage.index.base import Index
from storage.index.postgres import PostgresIndex, PostgresSettings
from storage.index.questions import Search, Target
from storage.index.sqlite import SqliteIndex

_SCHEMA = "benchmark"
_OHIF = frozenset((Computed.MODALITIES_IN_STUDY, Computed.STUDY_SERIES, Computed.STUDY_INSTANCES))
_GOAL_MS = 20.0
_FUZZY = Options(fuzzy=True)


class Some:
    """Values of a study chosen by chance."""

    def __init__(self, index: Index, chance: random.Random, studies: int) -> None:
        self.number = chance.randrange(studies)
        self.study_uid = ids.StudyUid(study_uid(self.number))
        self.series_uid = ids.SeriesUid(f"{self.study_uid}.{chance.randrange(SERIES_PER_STUDY)}")
        of_study = keys.of_keyword("StudyInstanceUID", self.study_uid)
        (row,) = index.search(Search(MAIN, Level.STUDY, (of_study,)))
        found = json_model.loads(row.attributes[0])
        self.name = json_model.text_of(found, "00100010")
        self.family = self.name.partition("^")[0]
        self.patient_id = json_model.text_of(found, "00100020")
        self.accession_number = json_model.text_of(found, "00080050")
        self.reader = json_model.text_of(found, "00081060") or "nobody"
        self.date = json_model.text_of(found, "00080020")
        self.month = f"{self.date[:6]}01-{self.date[:6]}31"
        self.year = f"{self.date[:4]}0101-{self.date[:4]}1231"
        self.modality = chance.choice(("CT", "MR", "US", "CR", "PT"))


def of_source(title: str) -> Condition:
    """That every source of a series is one AE, as a scope of the policy says it."""
    this = OneOf(SOURCE_AE.keyword, (title,))
    return AllOf((InItem(this), Not(InItem(Not(this)))))


def questions() -> dict[str, Callable[[Some], Search]]:
    """What clients ask, each with its name."""
    of = keys.of_keyword

    def ask(level: Level, *conditions: Any, **more: Any) -> Search:
        computed = {Level.STUDY: _OHIF, Level.SERIES: frozenset((Computed.SERIES_INSTANCES,))}
        of_level = computed.get(level, frozenset())
        return Search(MAIN, level, conditions, computed=of_level, versions=False, limit=101, **more)

    def kvp(_: Some) -> tuple[Value, ...]:
        return (Value(Step("00180060"), "DS", "120"),)

    return {
        "studies, newest": lambda _: ask(Level.STUDY),
        "studies by PatientID": lambda s: ask(Level.STUDY, of("PatientID", s.patient_id)),
        "studies by PatientID, inside": lambda s: ask(Level.STUDY, of("PatientID", f"*{s.patient_id[2:]}*")),
        "studies by AccessionNumber": lambda s: ask(Level.STUDY, of("AccessionNumber", s.accession_number)),
        "studies by AccessionNumber, inside": lambda s: ask(
            Level.STUDY, of("AccessionNumber", f"*{s.accession_number[3:]}*")
        ),
        "studies by UID": lambda s: ask(Level.STUDY, of("StudyInstanceUID", s.study_uid)),
        "studies of a day": lambda s: ask(Level.STUDY, of("StudyDate", s.date)),
        "studies of a month": lambda s: ask(Level.STUDY, of("StudyDate", s.month)),
        "studies of a year": lambda s: ask(Level.STUDY, of("StudyDate", s.year)),
        "studies since a year (most)": lambda _: ask(Level.STUDY, of("StudyDate", "20150101-")),
        "studies by name, prefix": lambda s: ask(Level.STUDY, of("PatientName", f"{s.family}*")),
        "studies by name, two letters": lambda s: ask(Level.STUDY, of("PatientName", f"{s.family[:2]}*")),
        "studies by name, inside": lambda s: ask(Level.STUDY, of("PatientName", f"*{s.name[2:8]}*")),
        "studies by name, two letters inside": lambda s: ask(Level.STUDY, of("PatientName", f"*{s.name[1:3]}*")),
        "studies by name, of nobody": lambda s: ask(Level.STUDY, of("PatientName", f"*{s.family}xyz*")),
        "studies by name, fuzzy": lambda s: ask(Level.STUDY, of("PatientName", s.name, _FUZZY)),
        "studies by name, fuzzy as OHIF": lambda s: ask(Level.STUDY, of("PatientName", f"*{s.family}*", _FUZZY)),
        "studies by PatientID, two letters inside": lambda s: ask(
            Level.STUDY, of("PatientID", f"*{s.patient_id[4:6]}*")
        ),
        "studies by reading physician": lambda s: ask(Level.STUDY, of("NameOfPhysiciansReadingStudy", s.reader)),
        "studies by reading physician, prefix": lambda s: ask(
            Level.STUDY, of("NameOfPhysiciansReadingStudy", f"{s.reader[:3]}*")
        ),
        "studies in the scope of a reading physician": lambda s: ask(
            Level.STUDY, scope=of("NameOfPhysiciansReadingStudy", s.reader)
        ),
        "studies in the scope of a source": lambda s: ask(Level.STUDY, scope=of_source(f"{s.modality}_1")),
        "studies by ModalitiesInStudy": lambda s: ask(Level.STUDY, in_study=(of("Modality", s.modality),)),
        "studies of a month by modality": lambda s: ask(
            Level.STUDY, of("StudyDate", s.month), in_study=(of("Modality", s.modality),)
        ),
        "studies of a month by name and modality": lambda s: ask(
            Level.STUDY,
            of("StudyDate", s.month),
            of("PatientName", f"*{s.family[:3]}*"),
            in_study=(of("Modality", s.modality),),
        ),
        "studies by description": lambda _: ask(Level.STUDY, of("StudyDescription", "Knee*")),
        "studies by description, rare": lambda s: ask(Level.STUDY, of("StudyDescription", f"*{s.number // 50}*")),
        "series of a study": lambda s: ask(Level.SERIES, of("StudyInstanceUID", s.study_uid)),
        "series, newest": lambda _: ask(Level.SERIES),
        "series of a patient by modality": lambda s: ask(
            Level.SERIES, of("PatientID", s.patient_id), of("Modality", s.modality)
        ),
        "instances of a series": lambda s: ask(
            Level.INSTANCE, of("StudyInstanceUID", s.study_uid), of("SeriesInstanceUID", s.series_uid)
        ),
        "instances of a study": lambda s: ask(Level.INSTANCE, of("StudyInstanceUID", s.study_uid)),
        "instance by UID": lambda s: ask(Level.INSTANCE, of("SOPInstanceUID", f"{s.series_uid}.0")),
        "instances, newest": lambda _: ask(Level.INSTANCE),
        "patients": lambda _: ask(Level.PATIENT),
        "patients by PatientID": lambda s: ask(Level.PATIENT, of("PatientID", s.patient_id)),
        "patients by name, prefix": lambda s: ask(Level.PATIENT, of("PatientName", f"{s.family}*")),
        "patients by name, inside": lambda s: ask(Level.PATIENT, of("PatientName", f"*{s.name[2:8]}*")),
        "patients of a day": lambda s: ask(Level.PATIENT, of("StudyDate", s.date)),
        "patients of a month": lambda s: ask(Level.PATIENT, of("StudyDate", s.month)),
        "patients since a year (most)": lambda _: ask(Level.PATIENT, of("StudyDate", "20150101-")),
        "studies of a day by KVP (metadata)": lambda s: ask(Level.STUDY, of("StudyDate", s.date), metadata=kvp(s)),
    }


def lookups(index: Index) -> dict[str, Callable[[Some], object]]:
    """What retrieval asks of the index."""
    return {
        "locate a study": lambda s: index.locate(Target(MAIN, s.study_uid), EVERYTHING),
        "locate a series": lambda s: index.locate(Target(MAIN, s.study_uid, s.series_uid), EVERYTHING),
        "generation of a series": lambda s: index.generation(Target(MAIN, s.study_uid, s.series_uid)),
        "metadata of a series": lambda s: list(
            index.metadata(
                [each.version_id for each in index.locate(Target(MAIN, s.study_uid, s.series_uid), EVERYTHING)]
            )
        ),
        "existence of a study": lambda s: index.existence(Target(MAIN, s.study_uid), EVERYTHING),
        "changes, newest": lambda _: index.changes(MAIN, EVERYTHING, max(0, index.state().change - 100), 100),
    }


def measure(call: Callable[[Some], object], values: list[Some]) -> tuple[float, float, float]:
    """Median, 95th percentile and longest of a call over some values, in milliseconds.

    Each is asked once before: of a server at work, studies, series and the upper pages of indexes are in memory.
    """
    for each in values:
        call(each)
    taken = []
    for each in values:
        started_s = time.perf_counter()
        call(each)
        taken.append((time.perf_counter() - started_s) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1], max(taken)


def deep_pages(index: Index, studies: int, instances: int, values: list[Some]) -> Iterator[tuple[str, float, float]]:
    """The last pages, both ways."""
    for level, factor in {Level.STUDY: 1, Level.SERIES: SERIES_PER_STUDY, Level.INSTANCE: instances}.items():
        offset = studies * factor - 200
        plain = Search(MAIN, level, limit=100, offset=offset)
        try:
            (before,) = index.search(dataclasses.replace(plain, limit=1, offset=offset - 1))
        except SearchTooBroad:
            print(f"{level.name.lower()} page at {offset}, counted off: refused, too broad")
            continue
        after = dataclasses.replace(plain, offset=0, after=before.position)
        assert index.search(plain) == index.search(after)
        few = values[:3] if level is Level.INSTANCE else values
        for name, search, rounds in (("counted off", plain, few), ("entered", after, values)):
            median, _, longest = measure(lambda _, s=search: index.search(s), rounds)  # type: ignore[misc]
            yield f"{level.name.lower()} page at {offset}, {name}", median, longest


def opened(given: argparse.Namespace) -> Index:
    """The index, filled when it is not there."""
    if given.sqlite is not None:
        keep_sqlite(given.sqlite, given.studies, given.instances)
        return SqliteIndex(given.sqlite)
    started_s = time.perf_counter()
    index = PostgresIndex(PostgresSettings(given.postgres, schema=_SCHEMA))
    if index.state().change == 0:
        index.close()
        fill_postgres(given.postgres, _SCHEMA, given.studies, given.instances)
        print(f"filled in {time.perf_counter() - started_s:.0f} s")
        index = PostgresIndex(PostgresSettings(given.postgres, schema=_SCHEMA))
    return index


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--sqlite", type=Path, metavar="FILE")
    where.add_argument("--postgres", metavar="URL", help="a database of the benchmark's own")
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--instances", type=int, default=100, help="of each study")
    parser.add_argument("--rounds", type=int, default=100)
    given = parser.parse_args()
    index = opened(given)
    chance = random.Random(2)
    values = [Some(index, chance, given.studies) for _ in range(given.rounds)]
    print(f"{'':44}{'p50':>9}{'p95':>9}{'longest':>9}{'rows p50':>9}{'total':>9}  (ms, {given.rounds} each)")
    beyond = []
    for name, question in questions().items():
        whole = measure(lambda s, q=question: index.page(q(s)), values)  # type: ignore[misc]
        part = measure(lambda s, q=question: index.search(q(s)), values)  # type: ignore[misc]
        total = index.page(question(values[0])).total
        print(f"{name:44}" + "".join(f"{each:9.1f}" for each in (*whole, part[0])) + f"{total:9}")
        if whole[1] > _GOAL_MS:
            beyond.append(name)
    for name, lookup in lookups(index).items():
        print(f"{name:44}" + "".join(f"{each:9.1f}" for each in measure(lookup, values)))
    for name, median, longest in deep_pages(index, given.studies, given.instances, values[:15]):
        print(f"{name:44}{median:9.1f}{'':9}{longest:9.1f}")
    print(f"p95 over {_GOAL_MS:g} ms: {', '.join(beyond) or 'none'}")
    index.close()


if __name__ == "__main__":
    main()
