"""One worker process: a face or the background work, until told to drain.

Started by the supervisor as ``python -m gateway.worker FACE NUMBER SOCKET READY``; the settings come on standard
input, which stays open as the lifeline: at its end the supervisor is gone, and the worker drains.
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
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial

from aiohttp import web

from gateway import assembly, log
from gateway.config import Settings
from gateway.console.pages import routes as console_routes
from gateway.dicomweb.routes import routes as dicomweb_routes
from gateway.dimse.server import DimseServer
from gateway.errors import GatewayError
from gateway.http import application, health
from gateway.telemetry import sharing
from gateway.telemetry.metrics import Metrics
from storage import reconcile
from storage.errors import StorageError

_log = logging.getLogger("gateway.worker")

_TICK_S = 5.0
_USAGE_EVERY_S = 30.0
_LEFT_BEHIND_S = 600.0
"""A commitment request without a result for so long has lost its worker."""


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
    (length,) = struct.unpack("<I", sys.stdin.buffer.read(4))
    settings = pickle.loads(sys.stdin.buffer.read(length))  # noqa: S301 - from our own parent
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


def run_http(core: assembly.Core, listening: socket.socket, ready: Callable[[], None], stop: Stop) -> None:
    """Serve HTTP on an inherited socket."""

    async def serve() -> None:
        app = application.build(core, [*dicomweb_routes(), *console_routes(), *health.routes()])
        # No access log of aiohttp's: its lines hold the query, and a query holds patients' names.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.SockSite(runner, listening)
        await site.start()
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(ended.set)

        stop.on_set(wake)
        ready()
        await ended.wait()
        await site.stop()
        await app[application.UNDER_WAY].drained(core.settings.http.drain_s)
        await runner.cleanup()

    asyncio.run(serve())


def run_dimse(core: assembly.Core, listening: socket.socket, ready: Callable[[], None], stop: Stop) -> None:
    """Serve associations on an inherited socket."""
    server = DimseServer(core, listening)
    server.start()
    try:
        ready()
        stop.event.wait()
    finally:
        server.stop(core.settings.dimse.drain_s)


def run_background(core: assembly.Core, ready: Callable[[], None], stop: Stop) -> None:
    """What nobody waits for: complete studies, commitments left behind, deletions whose time is over, orphans."""
    ready()
    storage, metrics = core.settings.storage, core.metrics
    tick_s = min(_TICK_S, storage.study_quiet_s / 4)
    duties = (
        _Duty("complete studies", metrics, tick_s, partial(_complete_studies, core)),
        _Duty("answer commitments", metrics, tick_s, partial(_answer_commitments, core)),
        _Duty("measure usage", metrics, _USAGE_EVERY_S, partial(_measure_usage, core)),
        *_of_objects(core, stop),
    )
    while not stop.event.wait(max(0.0, min(duty.due_s for duty in duties) - time.monotonic())):
        for duty in duties:
            duty.run_if_due()


def _of_objects(core: assembly.Core, stop: Stop) -> Sequence[_Duty]:
    """What is to be done with the objects: to look after them, or to follow who does."""
    storage, metrics = core.settings.storage, core.metrics
    if not storage.read_only:
        return (
            _Duty("purge deletions", metrics, storage.reap_interval_s, partial(_purge, core)),
            _Duty("adopt orphans", metrics, storage.reap_interval_s, partial(_adopt_orphans, core)),
        )
    follower = reconcile.Follower(core.archive, storage.directory)
    follow = _Duty("follow objects", metrics, storage.follow_interval_s, partial(_follow, core, follower, stop))
    follow.due_s = time.monotonic()
    return (follow,)


class _Duty:
    """Something to do from time to time; an engine that does not answer only puts it off."""

    def __init__(self, name: str, metrics: Metrics, interval_s: float, call: Callable[[], None]) -> None:
        self._name = name
        self._metrics = metrics
        self._interval_s = interval_s
        self._call = call
        self.due_s = time.monotonic() + interval_s

    def run_if_due(self) -> None:
        if time.monotonic() < self.due_s:
            return
        try:
            with self._metrics.on_duty(self._name):
                self._call()
        except (StorageError, GatewayError):
            _log.warning("background work was interrupted; it will be tried again", exc_info=True)
        self.due_s = time.monotonic() + self._interval_s


def _complete_studies(core: assembly.Core) -> None:
    completed = core.archive.index.complete_quiet(core.settings.storage.study_quiet_s, time.time())
    if completed:
        _log.info("%d studies are complete", completed)
    core.metrics.background_items.labels("studies completed").inc(completed)


def _answer_commitments(core: assembly.Core) -> None:
    answered = core.commitment.fulfil_left(time.time() - _LEFT_BEHIND_S)
    core.metrics.background_items.labels("commitments answered").inc(answered)


def _measure_usage(core: assembly.Core) -> None:
    for tenant, used in core.archive.index.usage().items():
        core.metrics.tenant_objects.labels(tenant).set(used.objects)
        core.metrics.tenant_bytes.labels(tenant).set(used.bytes)
    for name, quota in assembly.quotas(core.settings).items():
        if quota.bytes is not None:
            core.metrics.tenant_quota_bytes.labels(name).set(quota.bytes)


def _purge(core: assembly.Core) -> None:
    removed = reconcile.purge(core.archive, core.settings.storage.undo_s)
    if removed:
        _log.info("%d deleted versions were removed for good", removed)
    core.metrics.background_items.labels("versions purged").inc(removed)


def _follow(core: assembly.Core, follower: reconcile.Follower, stop: Stop) -> None:
    report = follower.follow(stop.event.is_set)
    done = report.indexed, report.quarantined, report.removed, report.records
    if any(done):
        _log.info("followed the objects: %d indexed, %d quarantined, %d removed, %d records", *done)
    for result, count in zip(("indexed", "quarantined", "removed", "records"), done, strict=True):
        core.metrics.background_items.labels(f"followed {result}").inc(count)


def _adopt_orphans(core: assembly.Core) -> None:
    storage = core.settings.storage
    report = reconcile.adopt_orphans(core.archive, storage.grace_s, assembly.conflicts(core.settings))
    done = report.indexed, report.quarantined, report.removed, len(report.damaged)
    _log.info("objects without a row: %d indexed, %d quarantined, %d removed, %d left alone", *done)
    for result, count in zip(("indexed", "quarantined", "removed"), done, strict=False):
        core.metrics.background_items.labels(f"orphans {result}").inc(count)
    core.metrics.orphans_left.set(len(report.damaged))


def main(arguments: list[str]) -> int:
    """Run one worker to its end."""
    face, number, socket_fd, ready_fd = Face(arguments[0]), arguments[1], int(arguments[2]), int(arguments[3])
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
        if face is Face.BACKGROUND:
            run_background(core, ready, stop)
        else:
            listening = socket.socket(fileno=socket_fd)
            (run_http if face is Face.HTTP else run_dimse)(core, listening, ready, stop)
    finally:
        core.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
