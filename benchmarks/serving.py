"""DICOMweb: answers per second, latency, processor time and memory, ours beside Orthanc.

python -m benchmarks.serving DIRECTORY [--gateway NAME=TREE] [--rounds N] [--seconds S] [--studies N] [--only WORD]

Each server has the same kind of studies, stored over STOW-RS, on a directory of its own, with fsync. Then both are
asked the same, in turns, by 1 and by 8 clients that do nothing but send what was made before and read what comes. The
first answer to each request is looked into; each later one has to have the same status and length. What is asked "for
the first time" is asked once, and its median is that of all such requests. At the end the memory of each server's
processes is told, shared pages once, and with ``--studies`` so many studies are added before some searches are asked
again, one after the other.

The table has the median of the rounds and their range, how many times as fast the gateway is, the server's processor
time for each answer, and the share of the machine that something else took.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.comparing import (
    HEADING,
    JSON,
    OCTETS,
    Candidate,
    Clients,
    Meter,
    Result,
    compare,
    stow_all,
    wait_until_quiet,
)
from benchmarks.light_http import Connection
from benchmarks.machine import PROCESSORS, resident, told, touch_memory
from benchmarks.servers import Server
from benchmarks.web_corpus import Study

DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
JPEG = "image/jpeg"
_CT_STUDIES, _CT_INSTANCES, _CT_PIXELS = 20, 10, 512
_SERIES, _SERIES_INSTANCES, _SMALL_PIXELS = 24, 100, 16
_IN_A_REQUEST = 20
_CLIENTS = (1, 8)
_OF_STOW = 500
_BATCH = 200
_ASKED = 50


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of each server again and again.

    ``matches`` is how many results the answer in JSON has to have, where it is known.
    """

    name: str
    requests: Callable[[Candidate], list[bytes]]
    matches: int | None = None
    in_bytes: bool = False


def questions() -> list[Question]:
    """All of them; each is asked of every study, or instance, in turn."""

    def studies(query: Callable[[Study], str]) -> Callable[[Candidate], list[bytes]]:
        return lambda at: [at.get(f"/studies?{query(each)}", JSON) for each in at.studies]

    def instances(path: str, accept: str) -> Callable[[Candidate], list[bytes]]:
        return lambda at: [
            at.get(each.path(number) + path, accept) for each in at.studies for number in range(_CT_INSTANCES)
        ]

    return [
        Question("QIDO studies by PatientID", studies(lambda each: f"PatientID={each.patient_id}"), 1),
        Question("QIDO studies by name, wildcard", studies(lambda each: f"PatientName={each.family_name}*"), 1),
        Question("QIDO studies by date", studies(lambda each: f"StudyDate={each.date}-{each.date}")),
        Question(
            "QIDO instances of a series (100)",
            lambda at: [at.get(each.path() + "/instances", JSON) for each in at.series[:10]],
            _SERIES_INSTANCES,
        ),
        Question(
            "series metadata (100 instances), again",
            lambda at: [at.get(each.path() + "/metadata", JSON) for each in at.series[:10]],
            _SERIES_INSTANCES,
        ),
        Question("frame 526 KB", instances("/frames/1", OCTETS)),
        Question("instance 526 KB", instances("", DICOM)),
        Question("series 5.3 MB", lambda at: [at.get(each.path(), DICOM) for each in at.studies], in_bytes=True),
        Question(
            "study 5.3 MB",
            lambda at: [at.get(f"/studies/{each.study_uid}", DICOM) for each in at.studies],
            in_bytes=True,
        ),
        Question("rendered JPEG, again", lambda at: [at.get(at.studies[0].path(0) + "/rendered", JPEG)]),
    ]


def checked(at: Candidate, question: Question, asked: Sequence[bytes]) -> list[int]:
    """The length of each answer, after a look into it. Raises RuntimeError."""
    connection = Connection(at.running.web_port)
    lengths = []
    for each in asked:
        answer = connection.ask(each, keep=True)
        if answer.status != 200 or not answer.body:
            raise RuntimeError(f"{at.name}, {question.name}: {answer.status}: {answer.body[:500]!r}")
        if question.matches is not None and len(json.loads(answer.body)) != question.matches:
            raise RuntimeError(f"{at.name}, {question.name}: {len(json.loads(answer.body))} results")
        lengths.append(answer.length)
    connection.close()
    return lengths


def stow_row(candidates: list[Candidate], rounds: int) -> None:
    """STOW-RS of what is not there yet, 20 instances of 526 KB in a request."""

    def measured(at: Candidate) -> Result:
        requests, size = [], 0
        for _ in range(3):
            files = list(Study.of(_OF_STOW, _IN_A_REQUEST, _CT_PIXELS).files())
            requests.append(at.stow(files))
            size += sum(map(len, files))
        connection = Connection(at.running.web_port)
        meter, started_s = Meter(at.running.pid), time.monotonic()
        for each in requests:
            stow_all(connection, each, _IN_A_REQUEST)
        took_s = time.monotonic() - started_s
        connection.close()
        return meter.result(size / took_s / 1e6, len(requests) * _IN_A_REQUEST)

    compare("STOW-RS, 20 x 526 KB a request", "MB/s", measured, candidates, rounds)


def first_time_row(
    name: str, asked: Callable[[Candidate], list[bytes]], candidates: list[Candidate], rounds: int
) -> None:
    """What is asked once only: each round takes its share of the requests."""
    left = {each.name: asked(each) for each in candidates}
    share = min(len(requests) for requests in left.values()) // rounds

    def measured(at: Candidate) -> Result:
        connection = Connection(at.running.web_port)
        requests, left[at.name] = left[at.name][:share], left[at.name][share:]
        taken_s = []
        meter = Meter(at.running.pid)
        for each in requests:
            started_s = time.monotonic()
            answer = connection.ask(each)
            taken_s.append(time.monotonic() - started_s)
            if answer.status != 200 or not answer.length:
                raise RuntimeError(f"{at.name}, {name}: {answer.status}")
        connection.close()
        return meter.result(statistics.median(taken_s) * 1000, len(requests))

    compare(name, "ms", measured, candidates, rounds)


def repeated_rows(question: Question, candidates: list[Candidate], given: argparse.Namespace) -> None:
    """What is asked again and again, by one client and by several."""
    asked = {each.name: question.requests(each) for each in candidates}
    lengths = {each.name: checked(each, question, asked[each.name]) for each in candidates}
    for count in _CLIENTS:

        def measured(at: Candidate, count: int = count) -> Result:
            clients = Clients(at.running.web_port, asked[at.name], lengths[at.name], count)
            meter = Meter(at.running.pid)
            answers, size, wall_s = clients.ask(given.seconds)
            return meter.result(size / wall_s / 1e6 if question.in_bytes else answers / wall_s, answers)

        unit = "MB/s" if question.in_bytes else "per s"
        name = f"{question.name}, {count} client{'s' if count > 1 else ''}"
        compare(name, unit, measured, candidates, given.rounds)


def many_studies_rows(candidates: list[Candidate], count: int, rounds: int) -> None:
    """Latency of searches among many studies."""
    for at in candidates:
        started_s = time.monotonic()
        added = [Study.of(number, 1, _SMALL_PIXELS) for number in range(1000, 1000 + count)]
        for start in range(0, count, _BATCH):
            at.store(added[start : start + _BATCH], _BATCH)
        at.studies = added
        print(f"| {count} studies stored | {at.name} | {time.monotonic() - started_s:.0f} s | | | |", flush=True)
        wait_until_quiet(at)
    latency_rows(
        f"QIDO among {count} studies by PatientID", lambda each: f"PatientID={each.patient_id}", candidates, rounds
    )
    latency_rows(
        f"QIDO among {count} studies by name, wildcard",
        lambda each: f"PatientName={each.family_name}*",
        candidates,
        rounds,
    )
    latency_rows(
        f"QIDO among {count} studies by date",
        lambda each: f"StudyDate={each.date}-{each.date}&limit=100",
        candidates,
        rounds,
    )


def latency_rows(name: str, query: Callable[[Study], str], candidates: list[Candidate], rounds: int) -> None:
    """The median, and the 95th percentile, of a search for one study after the other."""
    taken_ms: dict[str, list[float]] = {each.name: [] for each in candidates}

    def measured(at: Candidate) -> Result:
        requests = [at.get(f"/studies?{query(each)}", JSON) for each in at.studies[:: len(at.studies) // _ASKED]]
        connection = Connection(at.running.web_port)
        mine = []
        meter = Meter(at.running.pid)
        for each in requests:
            started_s = time.monotonic()
            answer = connection.ask(each)
            mine.append((time.monotonic() - started_s) * 1000)
            if answer.status != 200 or answer.length < len("[{}]"):
                raise RuntimeError(f"{at.name}, {name}: {answer.status}")
        connection.close()
        taken_ms[at.name] += mine
        return meter.result(statistics.median(mine), len(requests))

    compare(name, "ms", measured, candidates, rounds)
    for each in candidates:
        slow_ms = statistics.quantiles(taken_ms[each.name], n=20)[-1]
        print(f"| the same, 95th percentile | {each.name} | {slow_ms:.4g} ms | | | |")


def memory_rows(candidates: list[Candidate], when: str) -> None:
    """Memory of all processes of each server, and of each of them."""
    taken = {each.name: resident(each.running.pid) for each in candidates}
    sizes = {name: sum(each.size for each in processes) for name, processes in taken.items()}
    ours = sizes[candidates[0].name]
    for name, processes in taken.items():
        times = "" if name == candidates[0].name else f"{sizes[name] / ours:.2f}"
        print(f"| resident memory, {when} | {name} | {told(processes)} | {times} | | |", flush=True)


@contextlib.contextmanager
def started(compete: Sequence[Server], directory: Path) -> Iterator[list[Candidate]]:
    """The servers, each with its studies."""
    with contextlib.ExitStack() as stack:
        found = []
        for number, server in enumerate(compete):
            running = stack.enter_context(server.running(directory / str(number)))
            found.append(Candidate(server.name, server.web_root, running))
        for at in found:
            at.studies = [Study.of(number, _CT_INSTANCES, _CT_PIXELS) for number in range(_CT_STUDIES)]
            at.series = [Study.of(100 + number, _SERIES_INSTANCES, _SMALL_PIXELS) for number in range(_SERIES)]
            at.store(at.studies)
            at.store(at.series)
        for at in found:
            wait_until_quiet(at)
        yield found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "directory", type=Path, help="is there, on the disk that is meant; what is made in it goes away"
    )
    parser.add_argument("--gateway", action="append", default=[], metavar="NAME=TREE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("--studies", type=int, default=0, help="so many more at the end")
    parser.add_argument("--only", default="", metavar="WORD", help="rows that have it in their names")
    given = parser.parse_args()
    compete = [servers.gateway("gateway", Path(__file__).resolve().parent.parent, fsync=True)]
    for each in given.gateway:
        name, _, tree = each.partition("=")
        compete.append(servers.gateway(name, Path(tree).resolve(), fsync=True))
    other = servers.orthanc_with_dicomweb(fsync=True)
    if other is None:
        print("left out, since it is not here: Orthanc with DICOMweb (ORTHANC_BIN, ORTHANC_DICOMWEB)")
    else:
        compete.append(other)
    touch_memory()
    print(f"{PROCESSORS} processors, load {os.getloadavg()[0]:.1f}, {given.rounds} rounds of {given.seconds:g} s\n")
    print(HEADING)
    with (
        tempfile.TemporaryDirectory(prefix="serving-", dir=given.directory.resolve()) as directory,
        started(compete, Path(directory)) as candidates,
    ):
        rows: list[tuple[str, Callable[[], None]]] = [
            ("STOW", lambda: stow_row(candidates, given.rounds)),
            (
                "metadata first",
                lambda: first_time_row(
                    "series metadata (100 instances), first time",
                    lambda at: [at.get(each.path() + "/metadata", JSON) for each in at.series[12:]],
                    candidates,
                    given.rounds,
                ),
            ),
            (
                "rendered first",
                lambda: first_time_row(
                    "rendered JPEG, first time",
                    lambda at: [
                        at.get(each.path(number) + "/rendered", JPEG) for each in at.studies[1:] for number in range(5)
                    ],
                    candidates,
                    given.rounds,
                ),
            ),
            *((each.name, lambda each=each: repeated_rows(each, candidates, given)) for each in questions()),  # type: ignore[misc]
            ("memory", lambda: memory_rows(candidates, "at the end")),
        ]
        for name, row in rows:
            if given.only in name:
                row()
        if given.studies:
            many_studies_rows(candidates, given.studies, given.rounds)
            memory_rows(candidates, f"with {given.studies} studies more")
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
