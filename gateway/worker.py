"""One worker process: a face or the background work, until told to drain.

Forked by the nursery (``gateway.nursery``); the settings come on standard input, which stays open as the lifeline: at
its end the supervisor is gone, and the worker drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import struct
import threading
from collections.abc import Callable
from enum import StrEnum

import uvloop
from aiohttp import web

from gateway import assembly, background, caching, certificates, log
from gateway.calling.verifying import verify
from gateway.config import Settings
from gateway.console.pages import page as console_page
from gateway.console.pages import routes as console_routes
from gateway.dicomweb.routes import routes as dicomweb_routes
from gateway.dimse.server import DimseServer
from gateway.entrance.routes import routes as entrance_routes
from gateway.errors import AuditUnavailable
from gateway.fhir.routes import routes as fhir_routes
from gateway.http import application, health
from gateway.http.listener import Listener
from gateway.http.route import Route
from gateway.telemetry import sharing
from gateway.viewer.pages import routes as viewer_routes

_log = logging.getLogger("gateway.worker")


class Face(StrEnum):
    """What a worker does."""

    HTTP = "http"
    DIMSE = "dimse"
    BACKGROUND = "background"


def send_settings(pipe: int, settings: Settings) -> None:
    """Give a worker its settings; secrets go through the pipe only, never to a command line or environment."""
    body = pickle.dumps(settings)
    os.write(pipe, struct.pack("<I", len(body)))
    written = 0
    while written < len(body):
        written += os.write(pipe, body[written:])


def _receive_settings() -> Settings:
    # Not by sys.stdin, which is the supervisor's: there is none when that was started with it closed.
    with os.fdopen(0, "rb", closefd=False) as pipe:
        (length,) = struct.unpack("<I", pipe.read(4))
        settings = pickle.loads(pipe.read(length))  # noqa: S301 - from our own parent
    assert isinstance(settings, Settings)
    return settings


class Stop:
    """Becomes set by SIGTERM, SIGINT or the end of the lifeline."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._call: Callable[[], None] = lambda: None

    def watch(self) -> None:
        """Install the signals and watch the lifeline."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._set())
        threading.Thread(target=self._lifeline, name="lifeline", daemon=True).start()

    def on_set(self, call: Callable[[], None]) -> None:
        """Have a function called, from any thread, when it is set."""
        self._call = call
        if self.event.is_set():
            call()

    def _set(self) -> None:
        self.event.set()
        self._call()

    def _lifeline(self) -> None:
        # Unbuffered: a daemon thread inside a buffered read would hold its lock at exit.
        while os.read(0, 1):
            pass
        self._set()


def routes() -> list[Route]:
    """Everything that is served over HTTP."""
    pages = [*console_routes(), *viewer_routes(), *entrance_routes(console_page, verify)]
    return [*dicomweb_routes(), *fhir_routes(), *pages, *health.routes()]


def run_http(core: assembly.Core, listening: socket.socket, ready: Callable[[], None], stop: Stop) -> None:
    """Serve HTTP on an inherited socket."""

    async def serve() -> None:
        app = application.build(core, routes())
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        assert runner.server is not None
        http = core.settings.http
        listener = Listener(runner.server, listening, http, certificates.of(http, "http", ("http/1.1",)), core.metrics)
        listener.start()
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(ended.set)

        stop.on_set(wake)
        ready()
        await ended.wait()
        listener.close()
        await app[application.UNDER_WAY].drained(core.settings.http.drain_s)
        await runner.cleanup()
        listener.end()

    uvloop.run(serve())


def run_dimse(core: assembly.Core, listening: socket.socket, ready: Callable[[], None], stop: Stop) -> None:
    """Serve associations on an inherited socket."""
    server = DimseServer(core, listening)
    server.start()
    try:
        ready()
        stop.event.wait()
    finally:
        server.stop(core.settings.dimse.drain_s)


def main(arguments: list[str]) -> int:
    """Run one worker to its end: face, number, and the descriptors of the pipe to say "ready" on and of the socket."""
    face, number, ready_fd, *sockets = Face(arguments[0]), arguments[1], *map(int, arguments[2:])
    name = f"{face}-{number}"
    settings = _receive_settings()
    log.configure(name, settings.log.level, settings.log.format)
    stop = Stop()
    stop.watch()
    if settings.metrics.port is not None:
        sharing.prepare(assembly.metrics_directory(settings), name)
    core = assembly.build(settings, name, any_age=face is Face.BACKGROUND)

    def ready() -> None:
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone already; the lifeline says so too
            os.write(ready_fd, b"1")
        os.close(ready_fd)

    try:
        try:
            core.trail.start(f"{face} worker")
        except AuditUnavailable:
            # It tries again at each request, and refuses what it cannot record.
            _log.critical("the audit trail cannot be written", exc_info=True)
        if face is Face.BACKGROUND:
            ready()
            with caching.compared(core):
                background.run(core, stop.event)
        else:
            (socket_fd,) = sockets
            listening = socket.socket(fileno=socket_fd)
            with caching.compared(core):
                (run_http if face is Face.HTTP else run_dimse)(core, listening, ready, stop)
    finally:
        core.close()
    return 0
