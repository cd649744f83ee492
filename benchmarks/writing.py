"""Rows written into an index that is empty, and into one of ten million instances, in turns.

python -m benchmarks.writing DIRECTORY [--postgres URL] [--studies N] [--instances N] [--rounds N] [--count N]

Threads commit arriving instances as C-STORE and STOW-RS do: each waits for its own, and those that wait together share
a transaction and its fsync. Each thread has a study of its own; the UIDs lie anywhere among those that are there. The
index of many is ``DIRECTORY/N.sqlite``, made when it is not there and kept, with what this adds to it; on PostgreSQL it
is a schema of the database. Afterwards each index is asked how many instances each of the new studies has.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg

from benchmarks.machine import PROCESSORS
from benchmarks.synthetic_index import MAIN, fill_postgres, keep_sqlite, study_uid
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.arrivals import Arrival, Outcome
from storage.index.base import Index
from storage.index.postgres import PostgresIndex, PostgresSettings
from storage.index.questions import Target
from storage.index.sqlite import SqliteIndex
from tests.instances import data_set, encode, extract

_THREADS = 8
_MADE = "made"
_NEW = "written"

Opened = Callable[[], AbstractContextManager[Index]]


def arrivals(chance: random.Random, studies: int, count: int, clock: ids.VersionClock) -> list[Arrival]:
    """Instances of one new study with one series, somewhere among the others."""
    study = f"{study_uid(chance.randrange(studies))}.{chance.randrange(10**9)}"
    patient_id, found = f"P{chance.randrange(studies):07}", []
    for number in range(count):
        extracted = extract(
            encode(
                data_set(
                    StudyInstanceUID=study,
                    SeriesInstanceUID=f"{study}.1",
                    SOPInstanceUID=f"{study}.1.{number}",
                    PatientID=patient_id,
                    InstanceNumber=number + 1,
                )
            )
        )
        key = ids.InstanceKey(MAIN, extracted.study_uid, extracted.series_uid, extracted.sop_uid)
        found.append(Arrival(key, clock.next(), extracted, 400, extracted.size_bytes + 400, "ab" * 32))
    return found


def written(index: Index, shares: Sequence[Sequence[Arrival]]) -> float:
    """Instances a second. Raises RuntimeError unless every one is stored."""
    refused: list[Outcome] = []

    def work(share: Sequence[Arrival]) -> None:
        refused.extend(commit.outcome for commit in map(index.commit, share) if commit.outcome is not Outcome.STORED)

    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    started_s = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    took_s = time.perf_counter() - started_s
    for share in shares:
        key = share[0].key
        held = len(index.locate(Target(MAIN, key.study_uid, key.series_uid), EVERYTHING))
        if refused or held != len(share):
            raise RuntimeError(f"{held} of {len(share)} instances are there; refused: {refused[:3]}")
    return sum(map(len, shares)) / took_s


def on_sqlite(directory: Path, studies: int, instances: int) -> tuple[Opened, Opened]:
    """How an empty index and one of many are opened."""
    full = directory / f"{studies}x{instances}.sqlite"
    keep_sqlite(full, studies, instances)

    @contextlib.contextmanager
    def empty() -> Iterator[Index]:
        with (
            tempfile.TemporaryDirectory(prefix="writing-", dir=directory) as folder,
            contextlib.closing(SqliteIndex(Path(folder) / "index.sqlite")) as index,
        ):
            yield index

    return empty, lambda: contextlib.closing(SqliteIndex(full))


def on_postgres(url: str, studies: int, instances: int) -> tuple[Opened, Opened]:
    """The same in schemas of a database."""
    full = PostgresSettings(url, schema=f"{_MADE}_{studies}x{instances}")

    def drop(schema: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")

    with contextlib.closing(PostgresIndex(full)) as index:
        is_there = index.state().change >= studies
    if not is_there:
        drop(full.schema)
        started_s = time.monotonic()
        fill_postgres(url, full.schema, studies, instances)
        print(f"{studies * instances} instances made in {time.monotonic() - started_s:.0f} s", flush=True)

    @contextlib.contextmanager
    def empty() -> Iterator[Index]:
        drop(_NEW)
        with contextlib.closing(PostgresIndex(PostgresSettings(url, schema=_NEW))) as index:
            index.ping()
            yield index
        drop(_NEW)

    return empty, lambda: contextlib.closing(PostgresIndex(full))


def rows(engine: str, opened: tuple[Opened, Opened], given: argparse.Namespace) -> None:
    """Measure in turns and print a row for each index."""
    names = ("empty", f"of {given.studies * given.instances} instances")
    chance, clock = random.Random(), ids.VersionClock()
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(given.rounds):
        both = list(zip(names, opened, strict=True))
        for name, open_index in both if turn % 2 else reversed(both):
            count = given.count // _THREADS
            shares = [arrivals(chance, given.studies, count + 1, clock) for _ in range(_THREADS)]
            with open_index() as index:
                # What is done once is not what a rate is about.
                written(index, [arrivals(chance, given.studies, 2, clock) for _ in range(_THREADS)])
                found[name].append(written(index, shares))
    empty = statistics.median(found[names[0]])
    for name, rates in found.items():
        rate = f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f}; {len(rates)})"
        times = "" if name == names[0] else f"{statistics.median(rates) / empty:.2f}"
        print(f"| rows written, {_THREADS} threads, {engine} | {name} | {rate} | {times} |", flush=True)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="is there; the index of many is kept in it")
    parser.add_argument("--postgres", metavar="URL", help="a database of the benchmark's own")
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--instances", type=int, default=100, help="of each study")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--count", type=int, default=4000, help="instances of each run")
    given = parser.parse_args()
    print(f"{PROCESSORS} processors, load {os.getloadavg()[0]:.1f}, {given.rounds} rounds of {given.count} instances\n")
    engines = {"SQLite": on_sqlite(given.directory.resolve(), given.studies, given.instances)}
    if given.postgres:
        engines["PostgreSQL"] = on_postgres(given.postgres, given.studies, given.instances)
    print("| what | index | instances a second: median (range; runs) | times the empty one's |")
    print("| --- | --- | ---: | ---: |")
    for engine, opened in engines.items():
        rows(engine, opened, given)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
