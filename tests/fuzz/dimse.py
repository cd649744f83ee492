"""Sessions of a modality, broken at random, into a DIMSE server: it answers in PDUs or closes, and keeps nothing.

python -m tests.fuzz.dimse [--cases N] [--seconds S] [--seed N] [--first N]

A case is made of the seed and its number alone: ``--seed N --first K --cases 1`` repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from gateway import assembly
from gateway.config import Settings
from gateway.config.serving import DimseSettings
from gateway.config.storing import StorageSettings
from gateway.dimse import server as acceptor
from gateway.dimse.server import DimseServer
from tests import instances, raw_peer

ANSWERS = frozenset((2, 3, 4, 6, 7))
WARM_UP = 20
GROWTH_BYTES = 64 << 20
SETTLE_S = 10.0
_PAGE_BYTES = 4096
_ANSWER_S = 10.0
# The index opens connections as they are needed at the same time, and keeps a few.
_KEPT_OPEN = 16
# What cannot come to its end: the connection is half closed after each case, so that nothing waits for these.
_TIMES_S = 5.0


class Broken(Exception):
    """The server did what it must not do."""


@dataclass(slots=True)
class Report:
    """What came of a run."""

    cases: int = 0
    seconds: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)
    growth_bytes: int = 0


def sessions() -> list[list[bytes]]:
    """PDUs of sessions as they should be."""
    found = instances.data_set(PixelData=bytes(3000))
    uid = raw_peer.element(0x1000, found.SOPInstanceUID.encode())
    stored = raw_peer.command(0x0001, 3, uid, sop_class=instances.CT, data_set=True)
    asked = raw_peer.command(0x0020, 2, sop_class=raw_peer.STUDY_ROOT_FIND, data_set=True)
    cancelled = raw_peer.command(0x0FFF, 2, raw_peer.element(0x0120, 2), sop_class=raw_peer.STUDY_ROOT_FIND)
    identifier = instances.text(0x00080052, "CS", "STUDY") + instances.text(0x00100010, "PN", "A*")
    data = instances.encode(found)
    request = raw_peer.request(
        raw_peer.context(1),
        raw_peer.context(3, raw_peer.STUDY_ROOT_FIND, raw_peer.EXPLICIT),
        raw_peer.context(5, instances.CT, raw_peer.EXPLICIT),
    )
    whole = raw_peer.COMMAND | raw_peer.LAST
    find = [
        raw_peer.p_data(raw_peer.fragment(3, whole, asked)),
        raw_peer.p_data(raw_peer.fragment(3, raw_peer.LAST, identifier)),
    ]
    store = [
        raw_peer.p_data(raw_peer.fragment(5, whole, stored), raw_peer.fragment(5, 0, data[:1000])),
        raw_peer.p_data(raw_peer.fragment(5, 0, data[1000:2000])),
        raw_peer.p_data(raw_peer.fragment(5, raw_peer.LAST, data[2000:])),
    ]
    cancel = raw_peer.p_data(raw_peer.fragment(3, whole, cancelled))
    return [
        [request, raw_peer.echo(), raw_peer.RELEASE_RQ],
        [request, *find, cancel, raw_peer.RELEASE_RQ],
        [request, *store, raw_peer.RELEASE_RQ],
        [request, raw_peer.echo(), *store, *find, raw_peer.echo(9), raw_peer.pdu(7, bytes(4))],
    ]


def flipped(chance: random.Random, data: bytes) -> bytes:
    """Some bytes are others."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        found[chance.randrange(len(found))] = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(found)


def in_headers(chance: random.Random, data: bytes) -> bytes:
    """PDU type, lengths, context id, control header, group and element are others."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        found[chance.randrange(min(len(found), 40))] = chance.choice((0, 1, 2, 3, 4, 6, 0x10, 0xFE, 0xFF))
    return bytes(found)


def with_length(chance: random.Random, data: bytes) -> bytes:
    """The length of the PDU, of its first fragment or of the first command element is another."""
    at = chance.choice((2, 6, 16, 20))
    length = chance.choice((0, 1, 2, 5, 6, 7, 0xFFFF, 0x20001, 0x7FFFFFFF, 0xFFFFFFFF, chance.randrange(1 << 17)))
    return data[:at] + length.to_bytes(4, chance.choice(("big", "little"))) + data[at + 4 :]


def cut(chance: random.Random, data: bytes) -> bytes:
    """It ends early."""
    return data[: chance.randrange(len(data))]


def grown(chance: random.Random, data: bytes) -> bytes:
    """Something is within it."""
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(chance.randint(1, 300)) + data[at:]


def without(chance: random.Random, data: bytes) -> bytes:
    """Something of it is missing."""
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.randint(1, 60) :]


def refragmented(chance: random.Random, data: bytes) -> bytes:
    """Its bytes in one PDU of right lengths, with any context and control header."""
    values = [chance.randrange(8) for _ in range(chance.randint(1, 4))]
    return raw_peer.p_data(
        *(raw_peer.fragment(value | 1, value % 4, data[12 : chance.randint(12, 400)]) for value in values)
    )


Change = Callable[[random.Random, bytes], bytes]
CHANGES: tuple[Change, ...] = (flipped, in_headers, with_length, cut, grown, without, refragmented)


def case(seed: int, number: int, known: list[list[bytes]]) -> bytes:
    """The bytes of one case."""
    chance = random.Random(f"{seed}/{number}")
    session = list(chance.choice(known))
    if chance.random() < 0.3:
        at, to = chance.randrange(len(session)), chance.randrange(len(session))
        session[at], session[to] = session[to], session[at]
    if chance.random() < 0.2:
        session.insert(chance.randrange(len(session)), chance.choice(chance.choice(known)))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        at = chance.randrange(len(session))
        session[at] = chance.choice(CHANGES)(chance, session[at]) if session[at] else b""
    return b"".join(session)


def answered(address: tuple[str, int], sent: bytes) -> str:
    """Send a case and read to the end; how it ended. Raises Broken."""
    received = bytearray()
    with socket.create_connection(address, _ANSWER_S) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        except TimeoutError as error:
            raise Broken("it took nothing more") from error
        except OSError:
            pass  # it answered and closed already; what it answered may still be read
        try:
            while part := connection.recv(1 << 16):
                received += part
        except ConnectionError:
            return "reset"
        except TimeoutError as error:
            raise Broken("it neither answered nor closed") from error
    last = "closed"
    while received:
        kind, length = received[0], int.from_bytes(received[2:6], "big")
        if kind not in ANSWERS or len(received) < 6 + length:
            raise Broken(f"it answered what is no PDU: {bytes(received[:20]).hex()}")
        last = {3: "rejected", 6: "released", 7: "aborted"}.get(kind, "closed")
        del received[: 6 + length]
    return last


class _Defects(logging.Handler):
    """Keeps what is logged as an error: no input may come to that."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[tuple[DimseServer, Path]]:
    """A server of its own, and its spool."""
    settings = Settings(
        dimse=DimseSettings(port=0, acse_timeout_s=_TIMES_S, dimse_timeout_s=_TIMES_S, network_timeout_s=_TIMES_S),
        storage=StorageSettings(directory=directory, fsync=False, max_instance_bytes=1 << 20),
    )
    core = assembly.build(settings, "fuzz")
    server = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
    # A run is long enough, and no requestor here needs the pause.
    pause_s, acceptor.REFUSED_AFTER_S = acceptor.REFUSED_AFTER_S, 0.0
    server.start()
    try:
        yield server, core.spool.directory
    finally:
        acceptor.REFUSED_AFTER_S = pause_s
        server.stop(1.0)
        core.close()


def run(directory: Path, seed: int, first: int, cases: int, seconds: float) -> Report:
    """So many cases, or for so long. Raises Broken, with the number of the case."""
    report, known, defects = Report(), sessions(), _Defects()
    logger = logging.getLogger("gateway.dimse")
    logger.addHandler(defects)
    try:
        with serving(directory) as (server, spool):
            # Whole sessions first: what is opened once and stays is no loss.
            for session in known * WARM_UP:
                answered(server.address, b"".join(session))
            _ended(server)
            started_s, before, resident = time.monotonic(), _held(), _resident_bytes()
            while report.cases < cases and time.monotonic() - started_s < seconds:
                number = first + report.cases
                try:
                    report.ends[answered(server.address, case(seed, number, known))] += 1
                except Broken as error:
                    raise Broken(f"case {number} of seed {seed}: {error}") from error
                if defects.found:
                    raise Broken(f"case {number} of seed {seed}: {defects.found[0]}")
                report.cases += 1
            report.seconds = time.monotonic() - started_s
            _settled(server, spool, before)
            report.growth_bytes = _resident_bytes() - resident
            if report.growth_bytes > GROWTH_BYTES:
                raise Broken(f"memory grew by {report.growth_bytes >> 20} MiB")
    finally:
        logger.removeHandler(defects)
    return report


def _ended(server: DimseServer) -> None:
    deadline_s, pause = time.monotonic() + SETTLE_S, threading.Event()
    while server.active and time.monotonic() < deadline_s:
        pause.wait(0.05)


def _settled(server: DimseServer, spool: Path, before: tuple[int, int]) -> None:
    """Everything came back, and a modality is served."""
    deadline_s, pause = time.monotonic() + SETTLE_S, threading.Event()
    threads, descriptors = before
    while server.active or any(spool.iterdir()) or _held() > (threads, descriptors + _KEPT_OPEN):
        if time.monotonic() > deadline_s:
            raise Broken(f"{server.active} connections, threads and descriptors {_held()} against {before}")
        pause.wait(0.05)
    with raw_peer.RawPeer(server.address) as peer:
        peer.associate()
        peer.send(raw_peer.echo())
        if peer.response() != 0:
            raise Broken("an echo is not answered")
        peer.release()


def _held() -> tuple[int, int]:
    """Threads and descriptors of this process."""
    gc.collect()
    return threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def main() -> int:
    """Run it and say what came of it."""
    parser = argparse.ArgumentParser(description="Fuzz the DIMSE server.")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as directory:
        try:
            report = run(Path(directory), given.seed, given.first, given.cases, given.seconds)
        except Broken as error:
            console.print(str(error), style="red")
            return 1
    ends = ", ".join(f"{count} {end}" for end, count in report.ends.most_common())
    console.print(f"{report.cases} cases of seed {given.seed} in {report.seconds:.0f} s: {ends}")
    console.print(f"threads, descriptors and spool as before; memory {report.growth_bytes / (1 << 20):+.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
