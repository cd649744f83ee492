"""H2: slow heads, bodies and readers, unfinished handshakes and floods, over real sockets, with and without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.serving import HttpSettings
from gateway.http import application
from gateway.http.route import Route
from tests.gateway.http.conftest import Authority, Served, eventually, serving

TIGHT = HttpSettings(
    port=0,
    head_timeout_s=0.4,
    idle_timeout_s=1.2,
    body_timeout_s=0.6,
    write_timeout_s=0.6,
    tls_handshake_timeout_s=0.4,
    max_connections=60,
    max_connections_per_source=40,
    max_head_bytes=8192,
)
LARGE_BYTES = 32 << 20
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
POST = (
    b"POST /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
    b"Content-Length: 1000000\r\n\r\n"
)


@pytest.fixture
def patience() -> dict[str, float]:
    """What is less tight for who must not be let go: the pauses that others on the machine make are no slowness."""
    return {}


@pytest.fixture(params=["clear", "TLS"])
def settings(
    request: pytest.FixtureRequest, settings: Settings, authority: Authority, patience: dict[str, float]
) -> Settings:
    http = TIGHT.model_copy(update=patience)
    if request.param == "TLS":
        certificate, key = authority.issue("gateway")
        http = http.model_copy(update={"tls_certificate_file": certificate, "tls_key_file": key})
    return settings.model_copy(update={"http": http})


@pytest.fixture
def tls(settings: Settings, authority: Authority) -> ssl.SSLContext | None:
    return authority.client() if settings.http.tls_certificate_file else None


async def large(_request: web.Request) -> web.StreamResponse:
    """An answer that no socket's buffers hold, and that no handler writes piece by piece."""
    return web.Response(body=bytes(LARGE_BYTES))


@pytest.fixture
async def served(core: Core) -> AsyncIterator[Served]:
    async with serving(core, [Route("GET", "/large", large, None)]) as found:
        yield found


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait until the other side closes, which it does in a second or two."""
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while await reader.read(1 << 16):
                pass


async def drip(writer: asyncio.StreamWriter, text: bytes, pause_s: float = 0.05) -> None:
    with contextlib.suppress(ConnectionError):
        for number in range(len(text)):
            writer.write(text[number : number + 1])
            await writer.drain()
            await asyncio.sleep(pause_s)


async def test_h2_no_head_half_a_head_and_a_dripped_head_end_at_the_deadline(
    served: Served, tls: ssl.SSLContext | None
) -> None:
    for sent in (b"", GET):
        began_s = time.monotonic()
        reader, writer = await served.open(tls)
        writer.write(sent)
        await closed(reader)
        assert time.monotonic() - began_s > 0.3
        writer.close()
    reader, writer = await served.open(tls)
    dripping = asyncio.create_task(drip(writer, GET + b"X-Long: " + b"x" * 1000))
    answer = b""
    async with asyncio.timeout(30):  # it would drip for a minute
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
    dripping.cancel()
    assert answer in (b"", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    writer.close()
    assert (await served.ask("/health/live", tls))[0] == 200


async def test_h2_an_idle_connection_is_kept_for_its_time_and_each_request_begins_it_anew(
    served: Served, tls: ssl.SSLContext | None
) -> None:
    reader, writer = await served.open(tls)
    for pause_s in (0.7, 0.7, 0.0):
        writer.write(GET + b"\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        await reader.readuntil(b'live"}')
        answered_s = time.monotonic()
        await asyncio.sleep(pause_s)
    await closed(reader)
    assert time.monotonic() - answered_s > 0.8
    writer.close()


async def test_h2_half_a_body_and_a_dripped_body_are_refused(
    served: Served, tls: ssl.SSLContext | None, caplog: pytest.LogCaptureFixture
) -> None:
    for slow in (False, True):
        reader, writer = await served.open(tls)
        writer.write(POST)
        dripping = asyncio.create_task(drip(writer, bytes(500) if slow else b"half"))
        async with asyncio.timeout(30):
            status = await reader.readline()
        assert status == b"HTTP/1.1 400 Bad Request\r\n"
        await closed(reader)
        dripping.cancel()
        writer.close()
    await eventually(lambda: len(served.listener) == 0)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("patience", [{"body_timeout_s": 2.0}])
async def test_h2_a_body_that_is_slow_and_steady_enough_is_taken(served: Served, tls: ssl.SSLContext | None) -> None:
    reader, writer = await served.open(tls)
    writer.write(POST)
    for _ in range(20):  # 50 kB each 0.15 s, for longer than a pause may be
        writer.write(bytes(50_000))
        await asyncio.sleep(0.15)
    assert (await reader.readline()).startswith(b"HTTP/1.1 4")
    rest = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert b"in time" not in rest
    writer.close()


async def test_h2_a_reader_that_stops_is_let_go(
    served: Served, tls: ssl.SSLContext | None, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(await _stopped(served, tls)):
        await eventually(lambda: "has not read for 0.6 s" in caplog.text)
        await eventually(lambda: len(served.listener) == 0)
        await served.app[application.UNDER_WAY].drained(15)
    assert (await served.ask("/health/live", tls))[0] == 200


async def _stopped(served: Served, tls: ssl.SSLContext | None) -> socket.socket:
    """A connection whose answer begins, and is not read on."""

    def begin() -> socket.socket:
        found = socket.socket()
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        found.settimeout(30)
        found.connect(("127.0.0.1", served.port))
        if tls is not None:
            found = tls.wrap_socket(found, server_hostname="localhost")
        found.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert found.recv(15) == b"HTTP/1.1 200 OK"
        return found

    return await asyncio.to_thread(begin)


@pytest.mark.parametrize("patience", [{"write_timeout_s": 3.0}])
async def test_h2_a_reader_that_is_slow_and_steady_enough_gets_all(served: Served, tls: ssl.SSLContext | None) -> None:
    def taken() -> int:
        """By blocking reads: uvloop drops at the end of a connection what a paused reader has not taken as yet."""
        with socket.create_connection(("127.0.0.1", served.port), timeout=5) as plain:
            wire = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
            wire.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            received = wire.recv(1 << 16)
            while b"\r\n\r\n" not in received:
                received += wire.recv(1 << 16)
            size = len(received.partition(b"\r\n\r\n")[2])
            while block := wire.recv(1 << 18):
                size += len(block)
                time.sleep(len(block) / 6e6)  # for longer in all than one pause may be
            wire.close()
            return size

    assert await asyncio.to_thread(taken) == LARGE_BYTES


async def test_h2_hundreds_of_slow_connections_do_not_stop_another_client(
    served: Served, tls: ssl.SSLContext | None
) -> None:
    """From one source and from many; a client of the same source and of another one are both answered at once."""
    tracemalloc.start()
    opened = []
    for number in range(300):
        source = f"127.0.0.{2 + number % (1 if number < 150 else 5)}"
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, local_addr=(source, 0))
        writer.write(GET if tls is None else b"\x16\x03\x01")
        opened.append((reader, writer))
        if number % 50 == 49:
            for asking in ("127.0.0.2", "127.0.0.99"):
                status, took_s = await served.ask("/health/live", tls, asking)
                assert (status, took_s < 5) == (200, True)
            assert len(served.listener) <= TIGHT.max_connections
    assert tracemalloc.get_traced_memory()[1] < 256 << 20
    tracemalloc.stop()
    for _, writer in opened:
        writer.close()
    await eventually(lambda: len(served.listener) == 0)


async def test_h2_requests_under_way_are_not_let_go_for_others(settings: Settings, tls: ssl.SSLContext | None) -> None:
    most = 10
    http = settings.http.model_copy(update={"max_connections_per_source": most, "body_timeout_s": 30.0})
    core = assembly.build(settings.model_copy(update={"http": http}), "busy")
    async with serving(core) as served:
        opened = [await served.open(tls, "127.0.0.3") for _ in range(most)]
        for _, writer in opened:
            writer.write(POST)
        await eventually(lambda: served.app[application.UNDER_WAY]._count == most)
        with pytest.raises((OSError, IndexError)):
            await served.ask("/health/live", tls, "127.0.0.3")
        assert (await served.ask("/health/live", tls, "127.0.0.4"))[0] == 200
        assert served.app[application.UNDER_WAY]._count == most
        assert core.metrics.registry.get_sample_value("gateway_http_connections_turned_away_total") == 1
        assert core.metrics.registry.get_sample_value("gateway_http_connections_active") >= most
        for _, writer in opened:
            writer.close()
    core.close()


async def test_h2_heads_are_bounded_in_lines_in_number_and_in_all(served: Served, tls: ssl.SSLContext | None) -> None:
    one = b"X-%d: " + b"x" * 1000 + b"\r\n"
    for lines in (
        b"X: " + b"x" * 9000 + b"\r\n",
        b"".join(b"X-%d: x\r\n" % number for number in range(TIGHT.max_headers + 1)),
        b"".join(one % number for number in range(20)),
    ):
        reader, writer = await served.open(tls)
        writer.write(GET + lines + b"\r\n")
        status = await reader.readline()
        assert status.split()[1] in (b"400", b"431")
        await closed(reader)
        writer.close()
    reader, writer = await served.open(tls)
    writer.write(b"GET /dicomweb/studies?PatientID=" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).split()[1] in (b"400", b"431")
    writer.close()


async def test_h2_requests_sent_ahead_are_bounded_and_one_with_a_long_body_waits(
    core: Core, tls: ssl.SSLContext | None
) -> None:
    """Behind one that takes its time, others may wait; long heads by the dozen may not."""
    going_on = asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await going_on.wait()
        return web.Response()

    async def take(request: web.Request) -> web.StreamResponse:
        received = 0
        async for block in request.content.iter_any():
            received += len(block)
        return web.Response(text=f"{received} bytes")

    async with serving(core, [Route("GET", "/slow", slow, None), Route("POST", "/take", take, None)]) as served:
        first = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
        reader, writer = await served.open(tls)
        writer.write(
            first + b"POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n" + bytes(8_000_000)
        )
        await asyncio.sleep(0.2)
        going_on.set()
        async with asyncio.timeout(30):
            await reader.readuntil(b"8000000 bytes")
        writer.close()
        going_on.clear()
        reader, writer = await served.open(tls)
        writer.write(first)
        await eventually(lambda: served.app[application.UNDER_WAY]._count == 1)
        heads = GET + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 1000) for number in range(90)) + b"\r\n"
        writer.write(heads * 30)
        await closed(reader)
        going_on.set()
        writer.close()


async def test_a_gateway_that_was_held_up_does_not_lay_it_to_its_clients(
    core: Core, tls: ssl.SSLContext | None
) -> None:
    """What they sent meanwhile is there, and was not read."""

    async def take(request: web.Request) -> web.StreamResponse:
        return web.Response(text=f"{len(await request.read())} bytes")

    async with serving(core, [Route("POST", "/take", take, None)]) as served:
        halves = [await served.open(tls) for _ in range(2)]
        (_, of_head), (_, of_body) = halves
        of_head.write(b"POST /take HTTP/1.1\r\nHost: local")
        of_body.write(b"POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345")
        await asyncio.sleep(0.05)
        time.sleep(1.5)
        of_head.write(b"host\r\nContent-Length: 10\r\n\r\n1234567890")
        of_body.write(b"67890")
        for reader, writer in halves:
            async with asyncio.timeout(30):
                await reader.readuntil(b"10 bytes")
            writer.close()


async def test_requests_in_a_row_on_one_connection_are_each_answered(
    served: Served, tls: ssl.SSLContext | None
) -> None:
    """The end of a head may lie across two blocks."""
    reader, writer = await served.open(tls)
    for place in range(1, 5):
        whole = GET + b"\r\n"
        writer.write(whole[:-place])
        await asyncio.sleep(0.02)
        writer.write(whole[-place:] + whole)
        for _ in range(2):
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            await reader.readuntil(b'live"}')
    writer.close()


async def test_h2_a_handshake_that_is_never_finished_ends_at_its_deadline(
    served: Served, tls: ssl.SSLContext | None
) -> None:
    if tls is None:
        pytest.skip("no handshake")
    for sent in (b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(sent)
        await closed(reader)
        writer.close()
    await eventually(lambda: len(served.listener) == 0)


async def test_trusted_proxies_have_no_bound_of_their_own(settings: Settings) -> None:
    http = settings.http.model_copy(
        update={"trusted_proxies": HttpSettings(trusted_proxies=("127.0.0.5/32",)).trusted_proxies}
        | {"max_connections_per_source": 1, "tls_certificate_file": None, "tls_key_file": None}
    )
    core = assembly.build(settings.model_copy(update={"http": http}), "proxied")
    async with serving(core) as served:
        opened = [await served.open(None, "127.0.0.5") for _ in range(5)]
        await eventually(lambda: len(served.listener) == 5)
        others = [await served.open(None, "127.0.0.6") for _ in range(5)]
        await asyncio.sleep(0.1)
        assert len(served.listener) == 6
        for _, writer in opened + others:
            writer.close()
    core.close()
