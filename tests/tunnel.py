"""TLS for programs that have none: what they send in clear to a port of this machine goes on over TLS."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress


@contextmanager
def tunnel(address: tuple[str, int], context: ssl.SSLContext) -> Iterator[tuple[str, int]]:
    """Where to send to.

    One thread alone touches the connections: a TLS connection is not to be read and written by two at once.
    """
    started: Future[tuple[str, int]] = Future()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(address, context, started, ended),))
    thread.start()
    try:
        yield started.result(timeout=60)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


async def _serve(
    address: tuple[str, int], context: ssl.SSLContext, started: Future[tuple[str, int]], ended: asyncio.Event
) -> None:
    async def carry(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, forth = await asyncio.open_connection(*address, ssl=context, server_hostname="localhost")
        await asyncio.gather(_through(near, forth), _through(far, back))

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        started.set_result((host, port))
        await ended.wait()


async def _through(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Until either end is gone; then the other is let go of as well."""
    with suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()
    with suppress(OSError):
        await sink.wait_closed()
