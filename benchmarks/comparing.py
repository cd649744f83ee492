"""Servers side by side: what each holds, what asks them, what is measured meanwhile, and the rows that tell it."""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

from benchmarks import light_http
from benchmarks.light_http import Connection
from benchmarks.machine import PROCESSORS, busy_s, processor_s
from benchmarks.servers import Running
from benchmarks.web_corpus import STOW_TYPE, Study, stow_body

JSON = "application/dicom+json"
OCTETS = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
HEADING = """\
| what | server | median (range; runs) | gateway is so many times as good | server ms each | others |
| --- | --- | ---: | ---: | ---: | ---: |"""
_IN_A_REQUEST = 20
_QUIET = 0.1
_QUIET_WITHIN_S = 300.0


@dataclass(slots=True)
class Candidate:
    """A server at work, what it holds, and what was measured of it."""

    name: str
    root: str
    running: Running
    studies: list[Study] = field(default_factory=list)
    series: list[Study] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def get(self, path: str, accept: str) -> bytes:
        """A request as it is sent."""
        return light_http.request(self.root + path, accept)

    def store(self, studies: Sequence[Study], at_once: int = _IN_A_REQUEST) -> None:
        """Store studies whole. Raises RuntimeError."""
        waiting: list[bytes] = []
        connection = Connection(self.running.web_port)
        for study in studies:
            waiting += study.files()
            if len(waiting) >= at_once:
                stow_all(connection, self.stow(waiting), len(waiting))
                waiting = []
        if waiting:
            stow_all(connection, self.stow(waiting), len(waiting))
        connection.close()

    def stow(self, files: list[bytes]) -> bytes:
        """A STOW-RS request."""
        return light_http.request(
            f"{self.root}/studies", JSON, method="POST", content_type=STOW_TYPE, body=stow_body(files)
        )


@dataclass(frozen=True, slots=True)
class Result:
    """Of one run: a figure in the row's unit, processor milliseconds of the server each, the share others had."""

    figure: float
    server_ms: float
    others: float


def stow_all(connection: Connection, sent: bytes, count: int) -> None:
    answer = connection.ask(sent, keep=True)
    if answer.status != 200:
        raise RuntimeError(f"STOW-RS was answered {answer.status}: {answer.body[:500]!r}")
    stored = json.loads(answer.body).get("00081199", {}).get("Value", [])
    if len(stored) != count:
        raise RuntimeError(f"{len(stored)} of {count} instances were stored")


class Clients:
    """Processes that ask the same requests in turn for a while."""

    def __init__(self, port: int, asked: Sequence[bytes], lengths: Sequence[int], count: int) -> None:
        self._port, self._asked, self._lengths = port, asked, lengths
        self._count = count

    def ask(self, seconds: float) -> tuple[int, int, float]:
        """Answers, bytes, and the time that it took."""
        forking = multiprocessing.get_context("fork")
        together, found = forking.Barrier(self._count + 1), forking.SimpleQueue()
        processes = [
            forking.Process(target=self._one, args=(number, seconds, together, found)) for number in range(self._count)
        ]
        for process in processes:
            process.start()
        together.wait()
        started_s = time.monotonic()
        for process in processes:
            process.join()
        wall_s = time.monotonic() - started_s
        if any(process.exitcode for process in processes):
            raise RuntimeError("a client failed")
        counts = [found.get() for _ in processes]
        return sum(answers for answers, _ in counts), sum(size for _, size in counts), wall_s

    def _one(self, number: int, seconds: float, together: Barrier, found: SimpleQueue[tuple[int, int]]) -> None:
        connection = Connection(self._port)
        answers = size = 0
        turn = number * len(self._asked) // self._count
        together.wait()
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            turn = (turn + 1) % len(self._asked)
            answer = connection.ask(self._asked[turn])
            if answer.status != 200 or answer.length != self._lengths[turn]:
                raise RuntimeError(f"{answer.status}, {answer.length} bytes instead of {self._lengths[turn]}")
            answers += 1
            size += answer.length
        found.put((answers, size))


class Meter:
    """What the machine did while something was asked of a server."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._server_s, self._all_s, self._ours_s = processor_s(pid), busy_s(), processor_s(os.getpid())
        self._started_s = time.monotonic()

    def result(self, figure: float, answers: int) -> Result:
        """Of so many answers."""
        wall_s = time.monotonic() - self._started_s
        server_s = processor_s(self._pid) - self._server_s
        others_s = busy_s() - self._all_s - server_s - (processor_s(os.getpid()) - self._ours_s)
        return Result(figure, server_s / answers * 1000, max(others_s, 0.0) / wall_s / PROCESSORS)


def compare(
    name: str, unit: str, measured: Callable[[Candidate], Result], candidates: list[Candidate], rounds: int
) -> None:
    """Measure in turns and print a row for each server; of what is told in ``ms`` less is more."""
    for each in candidates:
        each.results.clear()
    for turn in range(rounds):
        first = turn % len(candidates)
        for each in candidates[first:] + candidates[:first]:
            each.results.append(measured(each))
    ours = statistics.median(result.figure for result in candidates[0].results)
    for each in candidates:
        figures = [result.figure for result in each.results]
        theirs = statistics.median(figures)
        times = theirs / ours if unit == "ms" else ours / theirs
        spent = statistics.median(result.server_ms for result in each.results)
        others = max(result.others for result in each.results)
        print(
            f"| {name} | {each.name} | {theirs:.4g} {unit} ({min(figures):.4g}-{max(figures):.4g}; {len(figures)}) "
            f"| {'' if each is candidates[0] else f'{times:.2f}'} | {spent:.2f} | at most {others:.0%} |",
            flush=True,
        )


def wait_until_quiet(at: Candidate) -> None:
    """Wait while a server works on what it was given. Raises RuntimeError when that has no end."""
    deadline_s = time.monotonic() + _QUIET_WITHIN_S
    while time.monotonic() < deadline_s:
        before_s = processor_s(at.running.pid)
        time.sleep(2.0)
        if (processor_s(at.running.pid) - before_s) / 2.0 < _QUIET:
            return
    raise RuntimeError(f"{at.name} does not come to rest")
