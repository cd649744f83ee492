"""Starts the worker processes, replaces those that die, drains them all at the end."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType

from gateway import assembly, auditing
from gateway.access import moments
from gateway.audit.checkpoints import Checkpointer
from gateway.audit.syslog import Forwarder
from gateway.audit.trail import AuditTrail
from gateway.config import InvalidSettings, Settings
from gateway.errors import AuditUnavailable
from gateway.nursery import Nursery, StartFailed, Worker
from gateway.services.spool import Spool
from gateway.stores import object_store
from gateway.telemetry import sharing
from gateway.telemetry.exposition import Exposition
from gateway.telemetry.host import HostCollector, Sink, Workers
from gateway.telemetry.readiness import EngineProbe
from gateway.worker import Face, send_settings
from storage.archive import Archive

_log = logging.getLogger("gateway.supervisor")

_START_TIMEOUT_S = 60.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_STEADY_S = 10.0
_KILL_MARGIN_S = 5.0
_BACKGROUND_DRAIN_S = 20.0
_BACKLOG = 512
METRICS = "metrics"


@dataclass(slots=True)
class _Slot:
    """A place for one worker: whoever fills it dies, the next one takes it."""

    face: Face
    number: int
    listening: socket.socket | None
    process: Worker | None = None
    ready: bool = False
    starts: int = 0

    @property
    def name(self) -> str:
        return f"{self.face}-{self.number}"


def stop_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def bind(host: str, port: int) -> socket.socket:
    """A bound and listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _listening(section: str, host: str, port: int) -> socket.socket:
    """A socket by a section of the settings. Raises InvalidSettings."""
    try:
        return bind(host, port)
    except OSError as error:
        advice = {
            errno.EADDRINUSE: f"something listens there, perhaps another gateway (`gateway status` tells); stop it, or "
            f"set another {section}.port",
            errno.EACCES: f"ports below 1024 are root's, or need CAP_NET_BIND_SERVICE; set another {section}.port",
            errno.EADDRNOTAVAIL: f"this host has no such address; set another {section}.host",
        }.get(error.errno or 0, "")
        fault = f"{section}.port: {host}:{port} cannot be listened on: {error.strerror or error}"
        raise InvalidSettings([f"{fault}: {advice}" if advice else fault]) from error


class Supervisor:
    """The processes of one gateway. Use it as a context: leaving it drains everything.

    Workers of one face inherit one listening socket: a worker that stalls takes no connection of the others, as it
    would with a socket each.

    Parameters
    ----------
    faces
        What is served here; on Kubernetes each is a workload of its own.
    nursery
        What forks the workers, if the caller has it already.

    Raises
    ------
    InvalidSettings
        An address cannot be listened on.
    """

    def __init__(
        self, settings: Settings, faces: Collection[Face] = tuple(Face), nursery: Nursery | None = None
    ) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._sockets: dict[str, socket.socket] = {}
        self._exposition: Exposition | None = None
        http, dimse, metrics = settings.http, settings.dimse, settings.metrics
        places = {Face.HTTP: (http.host, http.port), Face.DIMSE: (dimse.host, dimse.port)}
        try:
            for face in places.keys() & set(faces):
                self._sockets[face] = _listening(face, *places[face])
            if metrics.port is not None:
                self._sockets[METRICS] = _listening(METRICS, metrics.host, metrics.port)
        except InvalidSettings:
            self._close_sockets()
            raise
        counts = {Face.HTTP: http.workers, Face.DIMSE: dimse.workers, Face.BACKGROUND: 1}
        self._slots = [
            _Slot(face, number, self._sockets.get(face))
            for face in Face
            if face in faces
            for number in range(1, counts[face] + 1)
        ]
        self._nursery = nursery or Nursery()
        self._watchers: list[threading.Thread] = []
        self._probe = EngineProbe(self._ask_engines)
        self._engines: Archive | None = None
        self._trail: AuditTrail | None = None
        self._checkpointer: Checkpointer | None = None
        self._forwarder: Forwarder | None = None
        self._patients = assembly.patients(settings)

    def address(self, name: str) -> tuple[str, int] | None:
        """Where a face, or "metrics", listens; None when it does not."""
        listening = self._sockets.get(name)
        if listening is None:
            return None
        host, port = listening.getsockname()[:2]
        return str(host), int(port)

    @property
    def http_address(self) -> tuple[str, int]:
        """Where HTTP listens."""
        found = self.address(Face.HTTP)
        assert found is not None
        return found

    @property
    def dimse_address(self) -> tuple[str, int]:
        """Where DIMSE listens."""
        found = self.address(Face.DIMSE)
        assert found is not None
        return found

    def _close_sockets(self) -> None:
        for name, listening in self._sockets.items():
            # Probes and scrapes are answered to the end; the exposition closes its own.
            if name != METRICS or self._exposition is None:
                listening.close()

    def processes(self) -> dict[str, int]:
        """Names and process ids of the workers that run now."""
        with self._lock:
            return {
                slot.name: slot.process.pid for slot in self._slots if slot.process is not None and slot.process.runs()
            }

    def __enter__(self) -> Supervisor:
        self._nursery.prepare()
        storage = self._settings.storage
        storage.directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        Spool(storage.directory / "spool", 0, 0).clear()
        sharing.clear(assembly.metrics_directory(self._settings))
        moments.clear(assembly.limits_directory(self._settings))
        try:
            self._audit()
            self._expose()
            readies = [self._start(slot) for slot in self._slots]
            for slot, ready in zip(self._slots, readies, strict=True):
                self._await_ready(slot, ready)
        except BaseException:
            self.stop()
            raise
        for slot in self._slots:
            watcher = threading.Thread(target=self._watch, args=(slot,), name=f"watch-{slot.name}", daemon=True)
            watcher.start()
            self._watchers.append(watcher)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _audit(self) -> None:
        """Record the start of the whole gateway, and by which settings; look after the chains of all processes."""
        if self._settings.syslog.host:
            self._forwarder = assembly.forwarder(self._settings, self._patients)
            self._forwarder.start()
        self._trail = assembly.audit_trail(self._settings, "supervisor")
        try:
            auditing.start(self._trail, self._settings, assembly.release())
        except AuditUnavailable:
            # Workers refuse what they cannot record; the gateway comes back by itself when the disk does.
            _log.critical("the start cannot be written to the audit trail", exc_info=True)
        if not self._settings.storage.read_only:
            self._checkpointer = assembly.checkpointer(self._settings)
            self._checkpointer.start()

    def _expose(self) -> None:
        listening = self._sockets.get(METRICS)
        if listening is not None:
            directory = assembly.metrics_directory(self._settings)
            places = {place.name: place.directory for place in assembly.places(self._settings)}
            host = HostCollector(
                assembly.release(), self._settings.storage.directory, self._workers, places, self._sink
            )
            self._exposition = Exposition(listening, directory, host, self._fault)

    def _sink(self) -> Sink | None:
        found = self._forwarder
        return Sink(found.up, found.pending_bytes) if found is not None else None

    def _workers(self) -> dict[str, Workers]:
        with self._lock:
            found = {face: [slot for slot in self._slots if slot.face is face] for face in Face}
            return {
                face: Workers(
                    len(slots), sum(slot.ready for slot in slots), sum(max(0, slot.starts - 1) for slot in slots)
                )
                for face, slots in found.items()
                if slots
            }

    def _fault(self) -> str | None:
        """What keeps this gateway from serving; asked by probes."""
        if self._stopping.is_set():
            return "stopping"
        missing = [face for face, found in self._workers().items() if not found.ready]
        if missing:
            return f"no worker serves: {', '.join(missing)}"
        return self._probe.fault()

    def _ask_engines(self) -> None:
        if self._engines is None:
            self._engines = Archive(
                object_store(self._settings), assembly.index(self._settings), assembly.limits(self._settings)
            )
        self._engines.ping()

    def _start(self, slot: _Slot) -> int:
        ready_read, ready_write = os.pipe()
        inherited = [ready_write]
        if slot.listening is not None:
            inherited.append(slot.listening.fileno())
        try:
            process = self._nursery.fork([slot.face, str(slot.number)], inherited)
        except BaseException:
            os.close(ready_read)
            raise
        finally:
            os.close(ready_write)
        with self._lock:
            slot.process = process
            slot.starts += 1
        with contextlib.suppress(BrokenPipeError):  # died at once; the ready pipe says so too
            send_settings(process.lifeline, self._settings)
        return ready_read

    def _await_ready(self, slot: _Slot, ready: int) -> None:
        with os.fdopen(ready, "rb", buffering=0) as pipe:
            readable, _, _ = select.select([pipe], [], [], _START_TIMEOUT_S)
            if not readable or pipe.read(1) != b"1":
                raise StartFailed(f"worker {slot.name} did not start; its output says why")
        with self._lock:
            slot.ready = True

    def _watch(self, slot: _Slot) -> None:
        pause_s = _FIRST_PAUSE_S
        started_s = time.monotonic()
        while True:
            process = slot.process
            assert process is not None
            status = process.wait()
            told = "unknown" if status is None else str(status)
            with self._lock:
                slot.ready = False
            sharing.forget(assembly.metrics_directory(self._settings), slot.name)
            if self._stopping.is_set():
                return
            pause_s = _FIRST_PAUSE_S if time.monotonic() - started_s > _STEADY_S else min(2 * pause_s, _LONGEST_PAUSE_S)
            _log.error("worker %s ended with status %s; starting another in %.1f s", slot.name, told, pause_s)
            if self._stopping.wait(pause_s):
                return
            started_s = time.monotonic()
            try:
                self._await_ready(slot, self._start(slot))
            except (StartFailed, OSError) as error:
                _log.error("%s", error)
            if self._stopping.is_set():
                self._signal(slot, signal.SIGTERM)

    def _signal(self, slot: _Slot, number: int) -> None:
        if slot.process is not None:
            slot.process.signal(number)

    def stop(self) -> None:
        """Stop accepting, let what is under way end, then end every worker. Idempotent."""
        self._stopping.set()
        self._close_sockets()
        drains = {
            Face.HTTP: self._settings.http.drain_s,
            Face.DIMSE: self._settings.dimse.drain_s,
            Face.BACKGROUND: _BACKGROUND_DRAIN_S,
        }
        deadline_s = time.monotonic() + max(drains[slot.face] for slot in self._slots) + _KILL_MARGIN_S
        for slot in self._slots:
            self._signal(slot, signal.SIGTERM)
        for slot in self._slots:
            if slot.process is None:
                continue
            try:
                slot.process.wait(max(0.0, deadline_s - time.monotonic()))
            except TimeoutError:
                _log.error("worker %s did not end in time and is killed", slot.name)
                slot.process.signal(signal.SIGKILL)
                slot.process.wait()
        for watcher in self._watchers:
            watcher.join()
        self._nursery.close()
        if self._exposition is not None:
            self._exposition.close()
            self._exposition = None
        if self._trail is not None:
            self._trail.close()
        if self._forwarder is not None:
            self._forwarder.stop()
        self._patients.close()
        if self._checkpointer is not None:
            # After the last record of all: what it names can never be cut off unseen.
            self._checkpointer.stop()
        self._probe.close()
        if self._engines is not None:
            self._engines.close()
            self._engines = None
