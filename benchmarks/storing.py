"""C-STORE: instances per second and the server's processor time, ours beside pynetdicom, Orthanc and DCMTK.

python -m benchmarks.storing DIRECTORY [--gateway NAME=TREE] [--rounds N] [--count N] [--only WORD]

A light sender (bytes that are made before) stores CT instances of 526 KB and small ones of 9 KB over 1 and 4
associations, with fsync and without; DCMTK's own ``storescu`` stores small ones as it does unless told otherwise, with
PDUs of 16 KB and Nagle's algorithm on both sides. Every answer is checked, and afterwards how many instances the server
has. The servers take turns, each on an empty directory, and who begins changes with the rounds. The table has the
median of the rounds and their range, how many times as fast the gateway is, the server's processor time for each
instance, and the share of the machine that something else took, the kernel's own threads with it: a run in which that
was more than a fifth is done again, at most ``--again`` times, and the quietest counts.

Orthanc is ``ORTHANC_BIN`` or the installed one. It and the gateway have an index; pynetdicom and DCMTK's ``storescp``
write a file and no more. With fsync, the gateway syncs file, directory and index before it answers, Orthanc
(``SyncStorageArea``) and pynetdicom the file; who cannot is only in the rows without.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.machine import PROCESSORS, busy_s, processor_s, touch_memory
from benchmarks.servers import Server
from tests import instances, raw_peer

_MAX_LENGTH_ITEM = b"\x51\0\0\x04"
_MOST_OF_OTHERS = 0.2
HEADING = """\
| what | server | per second: median (range; runs) | gateway is so many times as fast | server ms each | others |
| --- | --- | ---: | ---: | ---: | ---: |"""
# It waits 40 ms and more with each.
_STORESCU_COUNT = 50


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured at every server that can."""

    name: str
    pixels: int
    associations: int
    fsync: bool
    storescu: bool = False


ROWS = (
    *(
        Row(f"{shape}, {associations} assoc., {'fsync' if fsync else 'no fsync'}", pixels, associations, fsync)
        for fsync in (True, False)
        for shape, pixels in (("CT 526 KB", 512), ("small 9 KB", 64))
        for associations in (1, 4)
    ),
    *(
        Row(f"small 9 KB, default storescu, {'fsync' if fsync else 'no fsync'}", 64, 1, fsync, storescu=True)
        for fsync in (True, False)
    ),
)


@dataclass(frozen=True, slots=True)
class Result:
    """Of one run: a rate, processor milliseconds of the server for each instance, the share that others had."""

    per_second: float
    server_ms: float
    others: float


class Sender:
    """One association and its instances, made before they are sent; the first is sent when it begins.

    What a server does once, or once in an association, is not what a rate is about.
    """

    def __init__(self, port: int, pixels: int, count: int) -> None:
        self.peer = raw_peer.RawPeer(("127.0.0.1", port), 60.0)
        self.peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer.send(raw_peer.request(raw_peer.context(1, instances.CT, raw_peer.EXPLICIT)))
        answer = self.peer.receive()
        assert answer is not None
        assert answer[0] == 2, answer
        at = answer[1].index(_MAX_LENGTH_ITEM) + len(_MAX_LENGTH_ITEM)
        (most,) = struct.unpack_from(">I", answer[1], at)
        study, series = instances.uid(), instances.uid()
        self._messages = [_message(pixels, study, series, min(most or 131_072, 131_072)) for _ in range(count + 1)]
        self._store(self._messages.pop())

    def send(self) -> None:
        """All the others, one after the other."""
        for parts in self._messages:
            self._store(parts)
        self.peer.release()

    def _store(self, parts: list[bytes]) -> None:
        for part in parts:
            self.peer.send(part)
        status = self.peer.response()
        assert status == 0, hex(status)


def _instance(pixels: int, study: str, series: str) -> instances.Dataset:
    found = instances.data_set(StudyInstanceUID=study, SeriesInstanceUID=series, PixelData=None)
    found.Rows = found.Columns = pixels
    found.PixelData = os.urandom(2 * pixels * pixels)
    return found


def _message(pixels: int, study: str, series: str, largest: int) -> list[bytes]:
    found = _instance(pixels, study, series)
    data = instances.encode(found)
    uid = raw_peer.element(0x1000, str(found.SOPInstanceUID).encode())
    command = raw_peer.command(0x0001, 1, raw_peer.element(0x0700, 0), uid, sop_class=instances.CT, data_set=True)
    size = largest - 6
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return [
        raw_peer.p_data(raw_peer.fragment(1, raw_peer.COMMAND | raw_peer.LAST, command)),
        *(raw_peer.p_data(raw_peer.fragment(1, 0, part)) for part in parts[:-1]),
        raw_peer.p_data(raw_peer.fragment(1, raw_peer.LAST, parts[-1])),
    ]


class LightSenders:
    """Processes of a sender each, connected and with everything made; ``send`` sends it."""

    def __init__(self, port: int, row: Row, count: int) -> None:
        forking = multiprocessing.get_context("fork")
        self._together, self._failed = forking.Barrier(row.associations + 1), forking.Value("i", 0)
        self._processes = [
            forking.Process(target=self._one, args=(port, row.pixels, count // row.associations))
            for _ in range(row.associations)
        ]
        for process in self._processes:
            process.start()
        self._together.wait()

    def _one(self, port: int, pixels: int, count: int) -> None:
        try:
            sender = Sender(port, pixels, count)
            self._together.wait()
            self._together.wait()
            sender.send()
        except BaseException:
            self._failed.value += 1
            self._together.abort()
            raise

    def send(self) -> None:
        """Until all have their answers."""
        self._together.wait()
        for process in self._processes:
            process.join()
        if self._failed.value:
            raise RuntimeError("a sender failed")


class Storescu:
    """DCMTK's storescu, and its files; ``send`` starts it."""

    def __init__(self, port: int, row: Row, count: int, files: Path) -> None:
        self._port, self._count, self._files = port, count, files
        files.mkdir()
        study, series = instances.uid(), instances.uid()
        for number in range(count):
            (files / str(number)).write_bytes(instances.part10_file(_instance(row.pixels, study, series)))

    def send(self) -> None:
        """Until it ends; that it starts is in its time."""
        ended = subprocess.run(
            ["storescu", "-v", "-aec", "GATEWAY", "+sd", "127.0.0.1", str(self._port), str(self._files)],
            env={key: value for key, value in os.environ.items() if key != "TCP_NODELAY"},
            capture_output=True,
            text=True,
            check=True,
        )
        stored = ended.stderr.count("Received Store Response (Success)")
        if stored != self._count:
            raise RuntimeError(f"storescu stored {stored} of {self._count}: {ended.stderr[-500:]}")


def measured(server: Server, directory: Path, row: Row, count: int) -> Result:
    """One run. Raises RuntimeError when anything was not stored.

    What it wrote is left until the end: where much was removed, ext4 passes for minutes over inodes that were in use
    moments ago, and a file takes half a millisecond to make.
    """
    place = Path(tempfile.mkdtemp(dir=directory)) / "data"
    with server.running(place, no_delay=not row.storescu) as running:
        pid, port = running.pid, running.port
        senders = (
            Storescu(port, row, count, place.with_name("files")) if row.storescu else LightSenders(port, row, count)
        )
        # What an earlier run left to be written is not this one's.
        os.sync()
        server_s, ours_s, all_s, started_s = processor_s(pid), processor_s(os.getpid()), busy_s(), time.monotonic()
        senders.send()
        wall_s = time.monotonic() - started_s
        server_s = processor_s(pid) - server_s
        others_s = busy_s() - all_s - (processor_s(os.getpid()) - ours_s)
        sent = count // row.associations * row.associations
        held = server.held(port, place, 2 * row.pixels * row.pixels)
        stored = sent if row.storescu else sent + row.associations
        if held != stored:
            raise RuntimeError(f"{server.name} answered {stored} instances with success and has {held}")
        return Result(sent / wall_s, server_s / sent * 1000, max(others_s, 0.0) / wall_s / PROCESSORS)


def quietest(server: Server, directory: Path, row: Row, count: int, again: int) -> Result:
    """The run in which others took least, of as many as it takes to find a quiet one."""
    best = measured(server, directory, row, count)
    for _ in range(again):
        if best.others <= _MOST_OF_OTHERS:
            break
        best = min(best, measured(server, directory, row, count), key=lambda each: each.others)
    return best


def compared(row: Row, compete: Sequence[Server], given: argparse.Namespace, directory: Path) -> None:
    """Measure one row and print it, with how many times as fast the first is as each of the others."""
    found: dict[str, list[Result]] = {each.name: [] for each in compete}
    for turn in range(given.rounds):
        first = turn % len(compete)
        for server in (*compete[first:], *compete[:first]):
            count = min(given.count, _STORESCU_COUNT) if row.storescu else given.count
            found[server.name].append(quietest(server, directory, row, count, given.again))
    ours = statistics.median(each.per_second for each in found[compete[0].name])
    for name, results in found.items():
        rates = [each.per_second for each in results]
        costs = [each.server_ms for each in results]
        others = [each.others for each in results]
        rate = f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f}; {len(rates)})"
        cost = f"{statistics.median(costs):.2f} ({min(costs):.2f}-{max(costs):.2f})"
        taken = f"{statistics.median(others):.0%}, at most {max(others):.0%}"
        times = "" if name == compete[0].name else f"{ours / statistics.median(rates):.2f}"
        print(f"| {row.name} | {name} | {rate} | {times} | {cost} | {taken} |", flush=True)


def competing(row: Row, given: argparse.Namespace) -> list[Server]:
    """Who is in a row, the gateway first."""
    here = Path(__file__).resolve().parent.parent
    found = [servers.gateway("gateway", here, fsync=row.fsync)]
    for each in given.gateway:
        name, _, tree = each.partition("=")
        found.append(servers.gateway(name, Path(tree).resolve(), fsync=row.fsync))
    return found + servers.peers(fsync=row.fsync)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "directory", type=Path, help="is there, on the disk that is meant; what is made in it goes away"
    )
    parser.add_argument("--gateway", action="append", default=[], metavar="NAME=TREE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--again", type=int, default=1)
    parser.add_argument("--only", default="", metavar="WORD", help="rows that have it in their names")
    given = parser.parse_args()
    for each in servers.missing():
        print(f"left out, since it is not here: {each}")
    for each in servers.versions():
        print(each)
    print(
        f"{PROCESSORS} processors, load {os.getloadavg()[0]:.1f}, {given.rounds} rounds of {given.count} instances "
        f"({_STORESCU_COUNT} of storescu)\n"
    )
    print(HEADING)
    touch_memory()
    with tempfile.TemporaryDirectory(prefix="storing-", dir=given.directory.resolve()) as directory:
        for row in ROWS:
            if given.only in row.name and not (row.storescu and not shutil.which("storescu")):
                compared(row, competing(row, given), given, Path(directory))
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
