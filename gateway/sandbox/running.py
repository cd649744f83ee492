"""Runs a sandbox: its directory, the gateway behind, the samples, and what is said of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from rich.console import Console
from yarl import URL

from gateway import demo
from gateway.config import Settings
from gateway.config.serving import DimseSettings
from gateway.sandbox import identities
from gateway.sandbox.faults import HEADER
from gateway.sandbox.front import Front
from gateway.sandbox.identities import AUDIENCE, ISSUER_PATH, ROLES, Identities
from gateway.supervisor import bind

_out = Console(highlight=False)
_PLACE, _IDENTITIES, _DATA = "sandbox.json", "identities.json", "data"
_WITHIN_S = 60.0
_ADMINISTRATOR = "administrator"


class SandboxFailed(Exception):
    """The gateway behind did not start, or there is no sandbox to talk to."""


@dataclass(frozen=True, slots=True)
class _Ports:
    web: int
    behind: int
    dimse: int


def run(directory: Path, samples: Path, origins: Sequence[str], *, once: bool) -> bool:
    """Start, fill, tell, wait for Ctrl-C. False when it could not be filled."""
    files = sorted(samples.rglob("*.dcm"))
    if not files:
        _out.print(f"[red]error[/] no samples in {samples}; run it in the repository, or name them by --samples")
        return False
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        asyncio.run(_Sandbox(directory, files, origins).run(once=once))
    except (SandboxFailed, demo.SampleNotStored) as error:
        _out.print(f"[red]error[/] {error}")
        return False
    return True


def reset(directory: Path) -> None:
    """Have the sandbox of a directory start over. Raises SandboxFailed when none runs there."""
    try:
        place = urlsplit(json.loads((directory / _PLACE).read_text(encoding="ascii"))["url"])
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=2 * _WITHIN_S)
        connection.request("POST", "/sandbox/reset")
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise SandboxFailed(f"no sandbox runs in {directory}: {error}") from error
    if answer.status != http.client.OK or "X-Sandbox" not in answer.headers:
        raise SandboxFailed(f"what answers at {place.geturl()} is no sandbox, or failed: {answer.status}")


class _Sandbox:
    def __init__(self, directory: Path, files: Sequence[Path], origins: Sequence[str]) -> None:
        self._directory = directory.resolve()
        self._files = files
        self._origins = origins
        self._identities: Identities = identities.load(self._directory / _IDENTITIES)
        # The environment counts for the ports alone: samples do not belong in somebody's archive.
        given = Settings()
        # Kept from here on: nobody else can take the address that tokens name.
        self._listening = _bound(given.http.port)
        self._ports = _Ports(_number(self._listening), _free(0), _free(given.dimse.port))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._ports.web}"

    @property
    def _issuer(self) -> str:
        return f"{self._url}{ISSUER_PATH}"

    async def run(self, *, once: bool) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self._write()
        front = Front(URL(f"http://127.0.0.1:{self._ports.behind}"), self._issuer, self._identities, self._reset)
        runner = web.AppRunner(front.application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        # On this machine only: its keys are no secret from whoever sees its terminal.
        await web.SockSite(runner, self._listening).start()
        place = self._directory / _PLACE
        try:
            await self._reset()
            front.ready.set()
            place.write_text(json.dumps({"url": self._url}), encoding="ascii")
            self._welcome()
            if not once:
                await stop.wait()
                _out.print("stopping")
        finally:
            place.unlink(missing_ok=True)
            await self._end()
            await runner.cleanup()

    async def _reset(self) -> None:
        """End the gateway, take all it has away, start it anew, and store the samples."""
        await self._end()
        shutil.rmtree(self._directory / _DATA, ignore_errors=True)
        await self._command("user", "add", _ADMINISTRATOR, "--role", _ADMINISTRATOR, told=self._identities.password)
        self._process = await self._started("serve", stdin=asyncio.subprocess.DEVNULL)
        await self._answers()
        by_dimse, by_web = demo.split(self._files)
        key = {"X-API-Key": self._identities.keys[_ADMINISTRATOR]}
        await asyncio.to_thread(demo.send_by_dimse, by_dimse, ("127.0.0.1", self._ports.dimse), _nothing)
        await asyncio.to_thread(demo.send_by_web, by_web, ("127.0.0.1", self._ports.behind), _nothing, key)
        # In the background it would come a few seconds after the first request may ask for it.
        await self._command("view", "fill", "--view", "research")

    async def _command(self, *arguments: str, told: str = "") -> None:
        process = await self._started(*arguments, stdin=asyncio.subprocess.PIPE)
        await process.communicate(f"{told}\n".encode())
        if process.returncode:
            raise SandboxFailed(f"gateway {' '.join(arguments)} failed; {self._directory / 'gateway.log'} says why")

    async def _started(self, *arguments: str, stdin: int) -> asyncio.subprocess.Process:
        # The environment of somebody's own gateway is none of the sandbox's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        with (self._directory / "gateway.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.cli", *arguments, "-c", str(self._directory / "gateway.toml")),
                *(), env=environment, stdin=stdin, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def _answers(self) -> None:
        async with asyncio.timeout(_WITHIN_S):
            while not await asyncio.to_thread(_is_ready, self._ports.behind):
                if self._process is None or self._process.returncode is not None:
                    raise SandboxFailed(f"the gateway did not start; {self._directory / 'gateway.log'} says why")
                await asyncio.sleep(0.1)

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()

    def _write(self) -> None:
        """The settings and the policy of the gateway behind, which commands can be given too."""
        (self._directory / "policy.toml").write_text(self._identities.policy(), encoding="ascii")
        (self._directory / "gateway.toml").write_text(
            f"""# Written by `gateway demo --sandbox`, anew at each start.
[http]
port = {self._ports.behind}
trusted_proxies = ["127.0.0.1/32"]
cors_origins = {json.dumps(list(self._origins))}
drain_s = 1
[dimse]
port = {self._ports.dimse}
drain_s = 1
[storage]
directory = "{self._directory / _DATA}"
fsync = false
[access]
policy_file = "{self._directory / "policy.toml"}"
[[access.issuers]]
issuer = "{self._issuer}"
jwks_url = "{self._issuer}/keys"
audience = "{AUDIENCE}"
algorithms = ["ES256"]
leeway_s = 0
[views.research]
[log]
level = "warning"
""",
            encoding="utf-8",
        )

    def _welcome(self) -> None:
        """Say loudly what it is, and all that an integrator needs; one thing a line, so that it can be copied."""
        _out.rule("[bold red]SANDBOX: sample data and known keys. Never for patients[/]", style="red")
        _out.print(
            f"""
DICOMweb  {self._url}/dicomweb   (described at {self._url}/dicomweb/api)
FHIR      {self._url}/fhir
DIMSE     AE title {DimseSettings().ae_title}, 127.0.0.1 port {self._ports.dimse}
Console   {self._url}/   user {_ADMINISTRATOR}, password {self._identities.password}
Commands  gateway status -c {self._directory / "gateway.toml"}
""",
            soft_wrap=True,
        )
        for role, text in ROLES.items():
            _out.print(f"[bold]{role}[/]: {text}\n  X-API-Key: {self._identities.keys[role]}", soft_wrap=True)
            _out.print(f"  Authorization: Bearer {self._identities.token(role, self._issuer)}", soft_wrap=True)
        _out.print(
            f"""
More tokens      curl -d grant_type=client_credentials -d client_id=viewer -d expires_in=60 {self._issuer}/token
An expired one   {self._identities.token("viewer", self._issuer, -600)}
Faults           curl -H '{HEADER}: slow=3' ... | unavailable=7 | expired-token
                 curl -X PUT {self._url}/sandbox/faults -d '{{"slow_s": 0.5, "unavailable_every": 3}}'
                 curl -X DELETE {self._url}/sandbox/faults
Start over       curl -X POST {self._url}/sandbox/reset, or gateway demo --reset

Ctrl-C ends it.""",
            soft_wrap=True,
            markup=False,
        )


def _bound(port: int) -> socket.socket:
    """A socket that listens on this machine alone, on this port or, where that is taken, on any."""
    try:
        return bind("127.0.0.1", port)
    except OSError:
        return bind("127.0.0.1", 0)


def _number(listening: socket.socket) -> int:
    found: int = listening.getsockname()[1]
    return found


def _free(port: int) -> int:
    """A port that is free just now: this one, or any."""
    with _bound(port) as trying:
        return _number(trying)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _nothing(_: int) -> None:
    """Progress is not shown: it is over in a second."""
