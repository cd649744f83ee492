"""A connection to a syslog server over TLS (RFC 5425), and the sending on of the trail over it.

The trail's own files are the spool: what was sent of each is kept in ``syslog.json`` beside them, and how much waits in
``syslog.pending``, which every process of the gateway reads before it records anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import json
import logging
import mmap
import os
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.audit import atna, chain
from gateway.audit.atna import Patients, Reporter
from gateway.audit.reading import Record

_log = logging.getLogger("gateway.audit")

POSITIONS, PENDING = "syslog.json", "syslog.pending"
_TICK_S = 0.5
_LONGEST_PAUSE_S = 10.0
_BATCH_BYTES = 1 << 20
_POLL_S = 0.01
_COUNT = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, and what proves both ends; ``timeout_s`` is the longest wait for it."""

    host: str
    port: int
    context: ssl.SSLContext
    timeout_s: float


def tls(ca_bundle: Path | None, certificate: Path | None, private_key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, with the server's certificate checked. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, private_key)
    return context


class Connection:
    """One connection. Syslog has no answers: what the server's TCP has acknowledged counts as received."""

    def __init__(self, server: Server) -> None:
        self._timeout_s = server.timeout_s
        plain = socket.create_connection((server.host, server.port), server.timeout_s)
        try:
            self._socket = server.context.wrap_socket(plain, server_hostname=server.host)
        except BaseException:
            plain.close()
            raise

    def send(self, frames: bytes) -> None:
        """Send frames; on return the other end has them. Raises OSError: it may have some of them."""
        self._check_open()
        self._socket.settimeout(self._timeout_s)
        self._socket.sendall(frames)
        deadline_s = time.monotonic() + self._timeout_s
        while self._unacknowledged():
            self._check_open()
            if time.monotonic() > deadline_s:
                raise TimeoutError("the syslog server takes nothing")
            time.sleep(_POLL_S)
        self._check_open()

    def _unacknowledged(self) -> int:
        found = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(found, "little")

    def _check_open(self) -> None:
        """Raise ConnectionError when the server has closed; what it says otherwise means nothing."""
        self._socket.settimeout(0.0)
        try:
            while self._socket.recv(4096):
                pass
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        raise ConnectionResetError("the syslog server has closed the connection")

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(self._timeout_s)
            self._socket.unwrap()
        self._socket.close()


class Forwarder:
    """Sends the records of all chains of a directory on, in the order of each chain, from a thread of its own.

    A batch that may have been received in part is sent again: a record may come twice, and has its name in it. Where
    nothing was ever sent on, it begins with today's files.
    """

    def __init__(
        self,
        directory: Path,
        server: Server,
        reporter: Reporter,
        patients: Patients = atna.nobody,
    ) -> None:
        self._directory = directory
        self._server = server
        self._reporter = reporter
        self._patients = patients
        self._positions = self._kept()
        self._connection: Connection | None = None
        self._pending = Pending(directory)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-syslog", daemon=True)
        self.up = False
        self.pending_bytes = self._measure()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Send what is left if the server takes it, and end. Idempotent."""
        if not self._stop.is_set():
            self._stop.set()
            if self._thread.is_alive():
                self._thread.join()
            self._send_all()
        self._close()
        self._pending.close()

    def _run(self) -> None:
        pause_s = _TICK_S
        while not self._stop.wait(pause_s):
            pause_s = _TICK_S if self._send_all() else min(_LONGEST_PAUSE_S, 2 * pause_s)

    def _send_all(self) -> bool:
        """Send what there is; False when the server does not take it."""
        try:
            while self._send_some():
                self._measure()
        except (OSError, ValueError) as error:
            if self.up or not self._stop.is_set():
                _log.error("the syslog server does not take audit messages: %s", error)
            self._close()
            self.up = False
        else:
            self.up = self.up or self._connection is not None
        finally:
            self._measure()
        return self.up

    def _send_some(self) -> bool:
        """Send a batch of every file's next lines; whether there were any."""
        taken: dict[str, int] = {}
        found = [self._lines(each, taken) for each in self._files()]
        records = list(heapq.merge(*found, key=lambda record: record.time))
        if self._connection is None and (records or not self.up):
            self._connection = Connection(self._server)
        if not taken:
            self._positions["since"] = max(self._positions["since"], _yesterday())
            return False
        assert self._connection is not None
        self._connection.send(atna.frames(records, self._reporter, self._patients))
        self._positions.update(taken)
        self._keep()
        return True

    def _files(self) -> list[chain.ChainFile]:
        return [each for each in chain.files(self._directory) if each.day >= self._since]

    def _lines(self, each: chain.ChainFile, taken: dict[str, int]) -> list[Record]:
        position = self._positions.get(each.path.name, 0)
        if each.path.stat().st_size == position:
            return []
        with each.path.open("rb") as file:
            file.seek(position)
            text = file.read(_BATCH_BYTES)
        end = text.rfind(b"\n") + 1
        if not end:
            return []
        taken[each.path.name] = position + end
        return list(_records(each.chain, text[:end]))

    @property
    def _since(self) -> str:
        """The first day whose files may have something to send."""
        return str(self._positions["since"])

    def _kept(self) -> dict[str, int]:
        try:
            found = json.loads((self._directory / POSITIONS).read_text())
            return {str(name): int(position) for name, position in found.items()}
        except FileNotFoundError:
            return {"since": _day(time.time())}

    def _keep(self) -> None:
        there = {each.path.name for each in self._files()} | {"since"}
        self._positions = {name: position for name, position in self._positions.items() if name in there}
        partial = self._directory / f".{POSITIONS}.partial"
        partial.write_text(json.dumps(self._positions))
        partial.replace(self._directory / POSITIONS)

    def _measure(self) -> int:
        waiting = 0
        for each in self._files():
            with contextlib.suppress(FileNotFoundError):
                waiting += each.path.stat().st_size - self._positions.get(each.path.name, 0)
        self.pending_bytes = waiting
        self._pending.write(waiting)
        return waiting

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _yesterday() -> int:
    return _day(time.time() - 86_400)


def _day(unix_s: float) -> int:
    return int(time.strftime("%Y%m%d", time.gmtime(unix_s)))


def _records(name: str, text: bytes) -> Iterator[Record]:
    for line in text.splitlines():
        try:
            fields = orjson.loads(line)
            yield Record(name, int(fields["seq"]), str(fields["time"]), fields)
        except (ValueError, KeyError, TypeError):
            _log.error("a line of the audit trail is no record and is not sent on")


class Pending:
    """How many bytes wait, in eight bytes of memory that processes share by a file."""

    def __init__(self, directory: Path) -> None:
        descriptor = os.open(directory / PENDING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.ftruncate(descriptor, _COUNT.size)
            self._shared = mmap.mmap(descriptor, _COUNT.size)
        finally:
            os.close(descriptor)

    def write(self, waiting: int) -> None:
        """Say it."""
        self._shared[:] = _COUNT.pack(max(0, waiting))

    def read(self) -> int:
        """How many there were when it was looked at last."""
        return int(_COUNT.unpack(self._shared[:])[0])

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._shared.close()


def full(directory: Path, most_bytes: int) -> Callable[[], bool]:
    """Says whether more waits than may. Raises OSError."""
    pending = Pending(directory)
    return lambda: pending.read() > most_bytes
