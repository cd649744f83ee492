"""Peers that stall, drip, flood or never end: they are cut off in time, and nobody else waits for them.

The classes are D2 (stalls), D5 (floods and churn) and D6 (broken C-STORE).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.dimse.connections import MOST_WAITING
from gateway.dimse.server import DimseServer
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import Serve, eventually
from tests.raw_peer import COMMAND, EXPLICIT, LAST, RawPeer, command, context, echo, element, fragment, p_data, request

SHORT_S = 0.3
MUCH_S = 15.0


@pytest.fixture
def hurried(settings: Settings, serve: Serve) -> Iterator[DimseServer]:
    """A server that waits for nobody for long."""
    times = {"acse_timeout_s": SHORT_S, "dimse_timeout_s": SHORT_S, "network_timeout_s": SHORT_S}
    core = assembly.build(settings.model_copy(update={"dimse": settings.dimse.model_copy(update=times)}), "test")
    with serve(core) as server:
        yield server
        eventually(lambda: server.active == 0)
        assert list(core.spool.directory.iterdir()) == []
    core.close()


BEGINNINGS = {"nothing": b"", "in the header": request()[:3], "in the request": request()[:100]}


@claim("A26")
@pytest.mark.parametrize("sent", BEGINNINGS.values(), ids=BEGINNINGS)
def test_who_does_not_ask_in_time_is_closed(hurried: DimseServer, sent: bytes) -> None:
    """PS3.8 9.1.5: ARTIM."""
    started_s = time.monotonic()
    with RawPeer(hurried.address) as peer:
        peer.send(sent)
        assert peer.receive() is None
        assert SHORT_S * 0.9 < time.monotonic() - started_s < MUCH_S


STORE = command(0x0001, 1, element(0x0700, 0), element(0x1000, b"1.2.3"), sop_class=instances.CT, data_set=True)
STALLS = {
    "idle": b"",
    "in a header": b"\x04\0\0",
    "in a fragment's header": struct.pack(">BxI", 4, 1000) + b"\0\0",
    "in a command set": struct.pack(">BxIIBB", 4, 1000, 996, 1, COMMAND) + b"\0\0",
    "between command set and data set": p_data(fragment(1, COMMAND | LAST, STORE)),
    "in a data set": p_data(fragment(1, COMMAND | LAST, STORE)) + struct.pack(">BxIIBB", 4, 10_000, 9996, 1, 0) + b"ab",
}


@claim("A27")
@pytest.mark.parametrize("sent", STALLS.values(), ids=STALLS)
def test_who_stalls_on_an_association_is_aborted(hurried: DimseServer, sent: bytes) -> None:
    with RawPeer(hurried.address) as peer:
        peer.associate(context(1, instances.CT, EXPLICIT))
        peer.send(sent)
        started_s = time.monotonic()
        assert peer.receive() == (7, b"\0\0\2\0")
        assert time.monotonic() - started_s < MUCH_S


DRIPS = {
    "in the request": (False, request()),
    "in a PDU": (True, p_data(fragment(1, 0, bytes(200)))),
    "by fragments of one byte": (True, p_data(fragment(1, 0, b"x")) * 100),
    "by fragments of nothing": (True, p_data(fragment(1, 0, b"")) * 100),
}


@claim("A29")
@pytest.mark.parametrize("case", DRIPS)
def test_what_drips_winds_up_no_clock(hurried: DimseServer, case: str) -> None:
    associated, sent = DRIPS[case]
    with RawPeer(hurried.address) as peer:
        if associated:
            peer.associate(context(1, instances.CT, EXPLICIT))
            peer.send(p_data(fragment(1, COMMAND | LAST, STORE)))
        started_s, pause = time.monotonic(), threading.Event()
        step = 13 if "fragments" in case else 1
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(sent), step):
                peer.send(sent[start : start + step])
                pause.wait(0.02)
                assert time.monotonic() - started_s < MUCH_S
        assert start + step < len(sent), "it was never cut off"


@claim("A28")
def test_a_peer_that_does_not_read_is_cut_off(hurried: DimseServer) -> None:
    with RawPeer(hurried.address) as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        peer.associate()
        peer.socket.settimeout(0.1)
        deadline_s = time.monotonic() + 20
        with pytest.raises(ConnectionError):  # noqa: PT012 - until it is cut off, and not for ever
            while time.monotonic() < deadline_s:
                with contextlib.suppress(TimeoutError):
                    peer.send(echo() * 1000)


POLICY = """
[[principal]]
name = "ct"
kind = "ae"
ae_title = "CT1"
actions = ["echo"]

[[principal]]
name = "any"
kind = "ae"
ae_title = "*"
networks = ["127.0.0.0/8"]
actions = ["echo"]
"""


@claim("A7")
def test_places_are_kept_for_peers_that_the_policy_names(settings: Settings, tmp_path: Path, serve: Serve) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    changed = {
        "dimse": settings.dimse.model_copy(update={"max_associations": 4}),
        "access": AccessSettings(policy_file=file),
    }
    core = assembly.build(settings.model_copy(update=changed), "test")
    with serve(core) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(RawPeer(server.address)).associate()
        unnamed = stack.enter_context(RawPeer(server.address))
        unnamed.send(request())
        assert unnamed.receive() == (3, b"\0\2\3\2")
        named = stack.enter_context(RawPeer(server.address))
        named.associate(calling=b"CT1")
        named.send(echo())
        assert named.response() == 0
        another = stack.enter_context(RawPeer(server.address))
        another.send(request(calling=b"CT1"))
        assert another.receive() == (3, b"\0\2\3\2")
    core.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_connections_that_never_ask_make_room_for_one_that_does(server: DimseServer) -> None:
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(RawPeer(server.address)) for _ in range(MOST_WAITING + 20)]
        good = stack.enter_context(RawPeer(server.address))
        started_s = time.monotonic()
        good.associate()
        good.send(echo())
        assert good.response() == 0
        assert time.monotonic() - started_s < MUCH_S
        # The oldest ones went.
        assert all(each.receive() is None for each in stalled[:20])
        assert server.active <= MOST_WAITING + 1
    eventually(lambda: server.active == 0)


def test_opening_and_closing_leaves_no_thread_and_no_socket(server: DimseServer) -> None:
    eventually(lambda: server.active == 0)
    threads, sockets = threading.active_count(), descriptors()
    for number in range(500):
        with RawPeer(server.address) as peer:
            if number % 5 == 0:
                peer.send(request()[: number % 80])
            elif number % 5 == 1:
                peer.associate()
    eventually(lambda: server.active == 0)
    eventually(lambda: threading.active_count() <= threads)
    assert descriptors() <= sockets


def test_a_flood_of_one_host_does_not_end_connections_of_another(server: DimseServer) -> None:
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(socket.create_connection(server.address, 10, ("127.0.0.2", 0)))
        for _ in range(MOST_WAITING + 20):
            stack.enter_context(RawPeer(server.address))
        other.sendall(request())
        assert other.recv(1) == b"\x02"


def sent_instance(peer: RawPeer, uid: bytes, *data: bytes, data_set: bool = True) -> int:
    """Store something; the status."""
    stored = command(0x0001, 1, element(0x0700, 0), element(0x1000, uid), sop_class=instances.CT, data_set=data_set)
    peer.send(p_data(fragment(1, COMMAND | LAST, stored)) + b"".join(data))
    return peer.response()


def test_broken_stores_have_their_status_and_leave_no_file(server: DimseServer, core: Core) -> None:
    core.spool.memory_bytes = 0
    found = instances.data_set()
    whole = instances.encode(found)
    with RawPeer(server.address) as peer:
        peer.associate(context(1, instances.CT, EXPLICIT))
        assert sent_instance(peer, b"1.2.3", data_set=False) == 0xC000
        assert sent_instance(peer, b"1.2.3", p_data(fragment(1, LAST, b""))) == 0xC000
        assert sent_instance(peer, b"1.2.3", p_data(fragment(1, LAST, whole))) == 0xA900
        large = p_data(fragment(1, 0, bytes(100_000))) * 12
        assert sent_instance(peer, b"1.2.3", large, p_data(fragment(1, LAST, b""))) == 0xA700
        assert list(core.spool.directory.iterdir()) == []
        assert sent_instance(peer, found.SOPInstanceUID.encode(), p_data(fragment(1, LAST, whole))) == 0
        peer.release()


def test_a_data_set_that_never_ends_is_aborted_and_leaves_no_file(server: DimseServer, core: Core) -> None:
    core.spool.memory_bytes = 0
    with RawPeer(server.address) as peer:
        peer.associate(context(1, instances.CT, EXPLICIT))
        peer.send(p_data(fragment(1, COMMAND | LAST, STORE)))
        block = p_data(fragment(1, 0, bytes(131_000)))
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                peer.send(block)
    eventually(lambda: server.active == 0)
    assert list(core.spool.directory.iterdir()) == []
