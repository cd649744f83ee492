"""C-STORE: instances per second and the server's processor time, ours beside others.

python -m benchmarks.storing DIRECTORY [--gateway NAME=TREE] [--rounds N] [--count N] [--nagle]

A light sender (bytes that are made before) stores CT instances of 526 KB and small ones of 9 KB over 1 and 4
associations, each answer checked. The servers take turns, and the table has the median of the rounds and their range.
``--gateway NAME=TREE`` adds another checkout; pynetdicom's and DCMTK's ``storescp`` keep files and no index.
``--nagle`` sends as a default ``storescu`` does: PDUs of 16 KB, the last segment of each message held back until what
went before is acknowledged.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests import instances, raw_peer
from tests.ports import free_port

SHAPES = {"CT 526 KB": 512, "small 9 KB": 64}
ASSOCIATIONS = (1, 4)
_MAX_LENGTH_ITEM = b"\x51\0\0\x04"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is started. ``{port}`` and ``{directory}`` are replaced."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def gateway(cls, name: str, tree: Path) -> Server:
        """The gateway of a checkout, as it is installed: two DIMSE workers, fsync, every engine embedded."""
        given = {
            "GATEWAY_DIMSE__PORT": "{port}",
            "GATEWAY_HTTP__PORT": "0",
            "GATEWAY_STORAGE__DIRECTORY": "{directory}",
            "PYTHONPATH": str(tree),
        }
        return cls(name, (sys.executable, "-m", "gateway.cli", "serve"), given, tree)

    @contextlib.contextmanager
    def running(self, directory: Path) -> Iterator[tuple[int, int]]:
        """Process id and port, once it answers."""
        port = free_port()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        filled = [part.format(port=port, directory=directory) for part in self.command]
        given = {key: value.format(port=port, directory=directory) for key, value in self.environment.items()}
        with (directory.parent / "server.log").open("ab") as log:
            process = subprocess.Popen(
                filled, env={**os.environ, **given}, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _await(port)
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _await(port: int) -> None:
    deadline_s = time.monotonic() + _START_S
    while True:
        try:
            with raw_peer.RawPeer(("127.0.0.1", port)) as peer:
                peer.associate()
                peer.release()
            return
        except (OSError, AssertionError):
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


def processor_s(pid: int) -> float:
    """Processor time of a process and all below it."""
    spent = 0.0
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # Its own, and that of what it has waited for: DCMTK has a process for each association.
        spent = sum(map(int, fields[11:15])) / _TICKS_PER_S
        for task in Path(f"/proc/{pid}/task").iterdir():
            spent += sum(processor_s(int(child)) for child in (task / "children").read_text().split())
    return spent


class Sender:
    """One association and its instances, made before they are sent."""

    def __init__(self, port: int, pixels: int, count: int, *, nagle: bool) -> None:
        self.peer = raw_peer.RawPeer(("127.0.0.1", port), 60.0)
        self.peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(not nagle))
        self.peer.send(raw_peer.request(raw_peer.context(1, instances.CT, raw_peer.EXPLICIT)))
        answer = self.peer.receive()
        assert answer is not None
        assert answer[0] == 2, answer
        at = answer[1].index(_MAX_LENGTH_ITEM) + len(_MAX_LENGTH_ITEM)
        (most,) = struct.unpack_from(">I", answer[1], at)
        largest = 16_384 if nagle else min(most or 131_072, 131_072)
        study, series = instances.uid(), instances.uid()
        self._messages = [_message(pixels, study, series, largest) for _ in range(count)]

    def send(self) -> None:
        """All of them, one after the other."""
        for parts in self._messages:
            for part in parts:
                self.peer.send(part)
            status = self.peer.response()
            assert status == 0, hex(status)
        self.peer.release()


def _message(pixels: int, study: str, series: str, largest: int) -> list[bytes]:
    found = instances.data_set(StudyInstanceUID=study, SeriesInstanceUID=series, PixelData=None)
    found.Rows = found.Columns = pixels
    found.PixelData = os.urandom(2 * pixels * pixels)
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


def measured(
    server: Server, directory: Path, pixels: int, associations: int, count: int, *, nagle: bool
) -> tuple[float, float]:
    """Instances per second, and the server's processor time of each in milliseconds."""
    with server.running(directory / "data") as (pid, port):
        forking = multiprocessing.get_context("fork")
        ready, failed = forking.Barrier(associations + 1), forking.Value("i", 0)

        def one() -> None:
            try:
                sender = Sender(port, pixels, count // associations, nagle=nagle)
                ready.wait()
                sender.send()
            except BaseException:
                failed.value += 1
                ready.abort()
                raise

        processes = [forking.Process(target=one) for _ in range(associations)]
        for process in processes:
            process.start()
        ready.wait()
        before_s, started_s = processor_s(pid), time.monotonic()
        for process in processes:
            process.join()
        wall_s = time.monotonic() - started_s
        spent_s = processor_s(pid) - before_s
        if failed.value:
            raise RuntimeError(f"{server.name}: a sender failed")
        sent = count // associations * associations
        return sent / wall_s, spent_s / sent * 1000


def servers(given: list[str]) -> list[Server]:
    """This gateway, those that were named, and what else is installed."""
    here = Path(__file__).resolve().parent.parent
    found = [Server.gateway("gateway", here)]
    for each in given:
        name, _, tree = each.partition("=")
        found.append(Server.gateway(name, Path(tree).resolve()))
    found.append(
        Server(
            "pynetdicom storescp",
            (sys.executable, "-m", "pynetdicom", "storescp", "{port}", "-od", "{directory}", "-q"),
        )
    )
    if shutil.which("storescp"):
        found.append(
            Server(
                "DCMTK storescp",
                ("storescp", "--fork", "-pdu", "131072", "-od", "{directory}", "{port}"),
                {"TCP_NODELAY": "1"},
            )
        )
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--gateway", action="append", default=[], metavar="NAME=TREE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--nagle", action="store_true")
    given = parser.parse_args()
    print(
        f"{len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}, "
        f"{given.rounds} rounds of {given.count} instances"
    )
    print(f"{'server':22} {'instances':12} {'assoc.':>6} {'per second':>22} {'server ms each':>18}")
    for shape, pixels in SHAPES.items():
        for associations in ASSOCIATIONS:
            found: dict[str, list[tuple[float, float]]] = {}
            for _ in range(given.rounds):
                for server in servers(given.gateway):
                    got = measured(server, given.directory, pixels, associations, given.count, nagle=given.nagle)
                    found.setdefault(server.name, []).append(got)
            for name, results in found.items():
                rates, spent = zip(*results, strict=True)
                span = f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f})"
                cost = f"{statistics.median(spent):.2f} ({min(spent):.2f}-{max(spent):.2f})"
                print(f"{name:22} {shape:12} {associations:6} {span:>22} {cost:>18}", flush=True)


if __name__ == "__main__":
    main()
