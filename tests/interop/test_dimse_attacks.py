"""Peers that attack running processes: a modality is served all the while, and memory, threads and sockets come back.

The classes are D1 (lengths), D2 (stalls) and D5 (churn); each alone is in tests/gateway/dimse.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import instances
from tests.gateway.dimse.conftest import eventually
from tests.raw_peer import COMMAND, EXPLICIT, LAST, RawPeer, command, context, echo, element, fragment, p_data, request
from tests.serving import Gateway, title

pytestmark = pytest.mark.dealt("local+sqlite")

GROWTH_KIB = 64 << 10
KEPT_CONNECTIONS = 4
"""Of each process to the control state in PostgreSQL, where the last associations are written too."""
ECHO_S = 1.0
STALLERS = 100
CHURN_PER_S = 1000
CHURN_S = 3.0


def address(gateway: Gateway) -> tuple[str, int]:
    return "127.0.0.1", gateway.dimse_port


def servers(gateway: Gateway) -> list[int]:
    return [pid for pid in gateway.workers() if "dimse" in title(pid)]


def status(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def held(gateway: Gateway) -> list[tuple[int, int]]:
    """Threads and descriptors of each DIMSE worker."""
    return [
        (status(pid, "Threads:"), sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())) for pid in sorted(servers(gateway))
    ]


def echo_s(gateway: Gateway) -> float:
    """How long a modality waits for association, echo and release."""
    started_s = time.monotonic()
    with RawPeer(address(gateway)) as peer:
        peer.associate()
        peer.send(echo())
        assert peer.response() == 0
        peer.release()
    return time.monotonic() - started_s


@pytest.fixture
def unshaken(running: Gateway) -> Iterator[None]:
    """Afterwards the same processes are there, which hold what they held before and never took much more memory."""
    for _ in range(8):
        echo_s(running)  # both processes have served something
    before = {pid: status(pid, "VmRSS:") for pid in servers(running)}
    resting = held(running)
    assert len(before) > 0
    yield
    assert sorted(before) == sorted(servers(running))
    growth = {pid: status(pid, "VmHWM:") - kib for pid, kib in before.items()}
    assert max(growth.values()) < GROWTH_KIB, growth
    eventually(lambda: all(map(_no_more, held(running), resting)))


def _no_more(now: tuple[int, int], then: tuple[int, int]) -> bool:
    """Whether a process holds what it held, but for connections to a database that it opens once and keeps."""
    return now[0] <= then[0] and now[1] <= then[1] + KEPT_CONNECTIONS


STORE = command(0x0001, 1, element(0x0700, 0), element(0x1000, b"1.2.3"), sop_class=instances.CT, data_set=True)
STALLS = {
    "nothing": b"",
    "half a header": b"\x01\0\0",
    "half a request": request()[:100],
    "a request without an end": struct.pack(">BxI", 1, 262_000) + bytes(1000),
}


@pytest.mark.usefixtures("unshaken")
@pytest.mark.parametrize("sent", STALLS.values(), ids=STALLS)
def test_a_hundred_stalled_peers_keep_nobody_waiting(running: Gateway, sent: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(STALLERS):
            stack.enter_context(RawPeer(address(running))).send(sent)
        assert max(echo_s(running) for _ in range(10)) < ECHO_S


@pytest.mark.usefixtures("unshaken")
def test_a_hundred_dripping_peers_keep_nobody_waiting(running: Gateway) -> None:
    ended = threading.Event()
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(RawPeer(address(running))) for _ in range(STALLERS)]

        def drip() -> None:
            for byte in request():
                for peer in peers:
                    with contextlib.suppress(OSError):
                        peer.send(bytes((byte,)))
                if ended.wait(0.1):
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert max(echo_s(running) for _ in range(20)) < ECHO_S
        finally:
            ended.set()
            dripping.join()


@pytest.mark.usefixtures("unshaken")
def test_peers_that_stall_within_a_data_set_keep_nobody_waiting(running: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            peer = stack.enter_context(RawPeer(address(running)))
            peer.associate(context(1, instances.CT, EXPLICIT))
            peer.send(p_data(fragment(1, COMMAND | LAST, STORE)) + p_data(fragment(1, 0, bytes(100_000)))[:-1])
        assert max(echo_s(running) for _ in range(10)) < ECHO_S
    eventually(lambda: not list((running.directory / "spool").iterdir()))


@pytest.mark.usefixtures("unshaken")
def test_one_pdu_of_4_gib_costs_nothing(running: Gateway) -> None:
    for associated in (False, True):
        with RawPeer(address(running)) as peer:
            if associated:
                peer.associate()
            header = struct.pack(">BxI", 4 if associated else 1, 0xFFFFFFFF)
            with contextlib.suppress(ConnectionError):
                peer.send(header)
                for _ in range(100):
                    peer.send(bytes(1 << 20))
        assert echo_s(running) < ECHO_S


@pytest.mark.usefixtures("unshaken")
def test_a_thousand_connections_a_second_that_come_and_go_keep_nobody_waiting(running: Gateway) -> None:
    ended, opened = threading.Event(), [0]

    def churn() -> None:
        started_s = time.monotonic()
        while not ended.is_set():
            RawPeer(address(running)).socket.close()
            opened[0] += 1
            ended.wait(max(0.0, started_s + opened[0] / CHURN_PER_S - time.monotonic()))

    churning = threading.Thread(target=churn)
    churning.start()
    waits, until_s = [], time.monotonic() + CHURN_S
    try:
        while time.monotonic() < until_s:
            waits.append(echo_s(running))
    finally:
        ended.set()
        churning.join()
    assert max(waits) < ECHO_S
    assert opened[0] > CHURN_S * CHURN_PER_S / 4
