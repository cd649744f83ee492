"""A PostgreSQL server of the test run's own, on 127.0.0.1, from the system's packages."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from storage.index.postgres import PostgresSettings
from tests.ports import free_port

USER, PASSWORD, DATABASE = "gateway", "gateway-tests-password", "gateway"
_STARTED_WITHIN_S = 60


def programs() -> Path:
    """The folder of the newest server's programs. Raises RuntimeError when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if (beside := shutil.which("initdb")) is not None:
        return Path(beside).parent
    raise RuntimeError("no PostgreSQL server: install the Debian package postgresql")


def is_installed() -> bool:
    """Whether a server can be started here."""
    try:
        programs()
    except RuntimeError:
        return False
    return True


class Postgres:
    """One server: a database whose owner is no superuser and shows a password.

    ``fsync`` is off for speed; what a killed process leaves is whole all the same. ``folder`` is made for it, where
    the server's user may go; without one it is below /tmp, since nobody but its owner may enter pytest's.
    """

    def __init__(self, folder: Path | None = None, *, fsync: bool = False) -> None:
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
        else:
            folder.mkdir(mode=0o700)
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._as_owner: list[str] = []
        if os.geteuid() == 0:
            # The server refuses to run as root; the package made a user for it.
            shutil.chown(folder, "postgres", "postgres")
            self._as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        command = [*self._as_owner, str(programs() / "initdb"), "-D", str(self._data), "-U", "admin"]
        options = ["--auth=trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*command, *options], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                f"max_connections = 200\nfsync = {'on' if fsync else 'off'}\nrandom_page_cost = 1.1\n"
                "shared_buffers = 128MB\n"
            )
        (self._data / "pg_hba.conf").write_text(
            "host all admin 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        self.start()
        with psycopg.connect(self.admin("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")

    def admin(self, database: str = DATABASE) -> str:
        """Where a superuser connects."""
        return f"postgresql://admin@127.0.0.1:{self.port}/{database}"

    @property
    def url(self) -> str:
        """Where the gateway connects."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        # As our own child, not by pg_ctl: a killed one is to be gone, and only its parent can see to that.
        with self._log.open("ab") as log:
            command = [*self._as_owner, str(programs() / "postgres"), "-D", str(self._data)]
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, start_new_session=True)
        deadline_s = time.monotonic() + _STARTED_WITHIN_S
        while True:
            try:
                psycopg.connect(self.admin("postgres")).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline_s:
                    raise RuntimeError(f"no PostgreSQL: {self._log.read_text()[-2000:]}") from error
            time.sleep(0.05)

    def halt(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends sessions first, SIGQUIT nothing; it can be started again."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()

    def kill(self) -> None:
        """kill -9 of the server and every process of it."""
        assert self._process is not None
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for process in (first, *children):
            with suppress(ProcessLookupError):  # a server whose disk is gone may end by itself
                os.kill(int(process), signal.SIGKILL)
        self._process.wait()
        for child in children:
            while _is_running(child):
                time.sleep(0.01)

    def stop(self) -> None:
        """End it for good. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self.halt(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)


def _is_running(process: str) -> bool:
    """Whether a process that is no child of ours has anything open yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def new_schema(url: str) -> PostgresSettings:
    """Settings for a schema of a test's own."""
    return PostgresSettings(url, schema=f"test_{secrets.token_hex(8)}")


def drop_schema(settings: PostgresSettings) -> None:
    """Remove a schema and everything in it."""
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{settings.schema}" CASCADE')
