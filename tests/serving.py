"""``gateway serve`` as a process tree, for tests that need the real thing."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from storage.objects.base import ObjectStore
from storage.records import is_beside
from tests.engines import EMBEDDED, Engines
from tests.ports import free_port

_START_S = 60.0
_REPLACED_WITHIN_S = 30.0


class Gateway:
    """``gateway serve`` as a process tree, with two workers a face unless ``environment`` says otherwise."""

    def __init__(
        self,
        directory: Path,
        log: Path,
        engines: Engines = EMBEDDED,
        settings_file: Path | None = None,
        **environment: str,
    ) -> None:
        self.directory = directory
        self._arguments = ["serve", *(["-c", str(settings_file)] if settings_file is not None else [])]
        self.engines = engines
        self._environment = engines.environment() | environment
        self.http_port, self.dimse_port = free_port(), free_port()
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """The environment of its processes, for a command beside it."""
        return {
            **os.environ,
            "GATEWAY_HTTP__PORT": str(self.http_port),
            "GATEWAY_DIMSE__PORT": str(self.dimse_port),
            "GATEWAY_STORAGE__DIRECTORY": str(self.directory),
            "GATEWAY_HTTP__DRAIN_S": "1",
            "GATEWAY_DIMSE__DRAIN_S": "1",
            **self._environment,
        }

    def start(self) -> None:
        """Start and wait until it is ready; retried while the ports of a killed one are still held."""
        environment = self.environment()
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s:
            started = self._log.stat().st_size if self._log.exists() else 0
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "gateway.cli", *self._arguments], env=environment, stdout=log, stderr=log
                )
            while self._process.poll() is None:
                # The supervisor says so when every worker is there; one of them may answer before.
                if b"DICOMweb on http" in self._log.read_bytes()[started:] and self._ready():
                    return
                if time.monotonic() > deadline_s:
                    break
                time.sleep(0.02)
        self.kill_all()
        raise TimeoutError(f"the gateway did not start: {self._log.read_text()[-2000:]}")

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=5)
        if "GATEWAY_HTTP__TLS_CERTIFICATE_FILE" in self._environment:
            anyone = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.http_port, timeout=5, context=anyone)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @property
    def web(self) -> str:
        """The DICOMweb service root."""
        return f"http://127.0.0.1:{self.http_port}/dicomweb"

    @property
    def log(self) -> str:
        """What supervisor and workers have logged so far."""
        return self._log.read_text()

    @contextlib.contextmanager
    def objects(self) -> Iterator[ObjectStore]:
        """Its objects, looked at behind its back."""
        with self.engines.objects(self.directory) as store:
            yield store

    def object_keys(self) -> list[str]:
        """The keys of all objects of its archive."""
        with self.objects() as store:
            return [info.key for info in store.list("") if not is_beside(info.key)]

    def audit(self) -> str:
        """All lines of the audit trail so far."""
        return "".join(path.read_text() for path in sorted((self.directory / "audit").glob("*.jsonl")))

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        assert self._process is not None
        return sorted(worker for nursery in _children(self._process.pid) for worker in _children(nursery))

    def processes(self) -> list[int]:
        """Process ids of all of it."""
        assert self._process is not None
        return [self._process.pid, self.nursery(), *self.workers()]

    def nursery(self) -> int:
        """Process id of what forks the workers; waits for the one that takes the place of a killed one."""
        assert self._process is not None
        deadline_s = time.monotonic() + _REPLACED_WITHIN_S
        while not (found := _children(self._process.pid)):
            assert time.monotonic() < deadline_s, "nothing forks workers any more"
            time.sleep(0.01)
        return found.pop()

    def kill(self, *pids: int) -> None:
        """kill -9."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """kill -9 of the supervisor and every worker."""
        assert self._process is not None
        self.kill(self._process.pid, *self.workers())
        self._process.wait()

    def kill_supervisor(self) -> None:
        """kill -9 of the supervisor alone: its workers drain by themselves."""
        assert self._process is not None
        workers = self.workers()
        self.kill(self._process.pid)
        self._process.wait()
        deadline_s = time.monotonic() + _START_S
        while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline_s:
            time.sleep(0.02)

    def run_to_end(self) -> int:
        """Run one that refuses to start; the exit status."""
        environment = {**os.environ, "GATEWAY_STORAGE__DIRECTORY": str(self.directory), **self._environment}
        command = [sys.executable, "-m", "gateway.cli", "serve"]
        with self._log.open("ab") as log:
            return subprocess.run(
                command, env=environment, stdout=log, stderr=log, timeout=_START_S, check=False
            ).returncode

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.update(int(child) for child in (task / "children").read_text().split())
    return found


def title(pid: int) -> str:
    """What a process calls itself, such as "gateway http-1"."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
