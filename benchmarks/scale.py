"""QIDO-RS of the whole gateway among many studies: python -m benchmarks.scale DIRECTORY [--studies N] [--rounds N].

The gateway runs on DIRECTORY, whose index is made when it is not there (``benchmarks.synthetic_index``) and kept. One
client asks for studies and for series, each time with other values; every answer must have what it was asked for. Told
are the median, the 95th percentile and the longest time, and the memory of each process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import light_http, servers
from benchmarks.comparing import JSON, Candidate, wait_until_quiet
from benchmarks.light_http import Connection
from benchmarks.machine import PROCESSORS, resident, told
from benchmarks.search import Some
from benchmarks.synthetic_index import keep_sqlite
from storage.index.sqlite import SqliteIndex

_INSTANCES = 2
_GOAL_MS = 50.0
_STUDY_UID = "0020000D"

_QUESTIONS: dict[str, Callable[[Some], str]] = {
    "studies, newest": lambda _: "/studies?limit=100",
    "studies by PatientID": lambda s: f"/studies?PatientID={s.patient_id}",
    "studies by AccessionNumber": lambda s: f"/studies?AccessionNumber={s.accession_number}",
    "studies by name, wildcard": lambda s: f"/studies?PatientName={s.family}*&limit=100",
    "studies of a day": lambda s: f"/studies?StudyDate={s.date}&limit=100",
    "studies of a month by modality": lambda s: (
        f"/studies?StudyDate={s.month}&ModalitiesInStudy={s.modality}&limit=100"
    ),
    "studies by UID, all attributes": lambda s: f"/studies?StudyInstanceUID={s.study_uid}&includefield=all",
    "series, newest": lambda _: "/series?limit=100",
    "series of a study": lambda s: f"/studies/{s.study_uid}/series",
    "series of a patient": lambda s: f"/series?PatientID={s.patient_id}",
    "series of a day by modality": lambda s: f"/series?StudyDate={s.date}&Modality={s.modality}&limit=100",
}
_OF_ONE = ("PatientID", "AccessionNumber", "by UID", "of a study", "of a patient")
"""Questions to which the study that the values are of is among the answers for certain."""


def latencies_ms(name: str, values: Sequence[Some], at: Candidate) -> list[float]:
    """Of one question. Raises RuntimeError when an answer is not one to it.

    Each is asked once before: of a server at work, the upper pages of indexes are in memory.
    """
    connection = Connection(at.running.web_port)
    requests = [light_http.request(at.root + _QUESTIONS[name](each), JSON) for each in values]
    for each, request in zip(values, requests, strict=True):
        answer = connection.ask(request, keep=True)
        found = json.loads(answer.body or b"[]")
        uids = {uid for item in found for uid in item.get(_STUDY_UID, {}).get("Value", [])}
        is_known = any(word in name for word in _OF_ONE)
        if answer.status not in (200, 204) or (is_known and each.study_uid not in uids):
            raise RuntimeError(f"{name}: {answer.status}: {answer.body[:500]!r}")
    taken = []
    for request in requests:
        started_s = time.perf_counter()
        connection.ask(request)
        taken.append((time.perf_counter() - started_s) * 1000)
    connection.close()
    return taken


def main() -> None:
    """Fill, ask, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="of the gateway, made when it is not there, and kept")
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=100)
    given = parser.parse_args()
    directory = given.directory.resolve()
    keep_sqlite(directory / "index.sqlite", given.studies, _INSTANCES)
    chance = random.Random(3)
    with contextlib.closing(SqliteIndex(directory / "index.sqlite")) as index:
        values = [Some(index, chance, given.studies) for _ in range(given.rounds)]
    server = servers.gateway("gateway", Path(__file__).resolve().parent.parent, fsync=True)
    print(f"{PROCESSORS} processors, load {os.getloadavg()[0]:.1f}, {given.rounds} of each\n")
    with server.running(directory) as running:
        at = Candidate(server.name, server.web_root, running)
        wait_until_quiet(at)
        print(f"| QIDO-RS among {given.studies} studies | p50 | p95 | longest |\n| --- | ---: | ---: | ---: |")
        beyond = []
        for name in _QUESTIONS:
            taken = latencies_ms(name, values, at)
            slow_ms = statistics.quantiles(taken, n=20)[-1]
            print(
                f"| {name} | {statistics.median(taken):.1f} ms | {slow_ms:.1f} ms | {max(taken):.1f} ms |", flush=True
            )
            if slow_ms > _GOAL_MS:
                beyond.append(name)
        print(f"\nresident memory: {told(resident(running.pid))}")
    print(f"p95 over {_GOAL_MS:g} ms: {', '.join(beyond) or 'none'}")


if __name__ == "__main__":
    main()
