"""An application on a listener of its own, as a worker has it, and a self-signed authority."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway import certificates
from gateway.assembly import Core
from gateway.dicomweb.routes import routes
from gateway.http import application, health
from gateway.http.listener import Listener
from gateway.http.route import Route
from gateway.supervisor import bind


@dataclass(frozen=True)
class Served:
    """Where an application is served."""

    port: int
    app: web.Application
    listener: Listener

    async def open(
        self, tls: ssl.SSLContext | None = None, source: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from an address of this machine."""
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname="localhost" if tls else None, local_addr=(source, 0)
        )

    async def ask(
        self, path: str, tls: ssl.SSLContext | None = None, source: str = "127.0.0.1", *lines: str
    ) -> tuple[int, float]:
        """The status of a GET over a new connection, and how many seconds it took."""
        started_s = time.monotonic()
        reader, writer = await self.open(tls, source)
        head = "".join(
            f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines)
        )
        with contextlib.closing(writer):
            writer.write(f"{head}\r\n".encode())
            answer = await reader.read()
        return int(answer.split()[1]), time.monotonic() - started_s


@asynccontextmanager
async def serving(core: Core, more: Sequence[Route] = ()) -> AsyncIterator[Served]:
    """Serve, as ``gateway.worker`` does."""
    app = application.build(core, [*routes(), *health.routes(), *more])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    listening = bind("127.0.0.1", 0)
    http = core.settings.http
    listener = Listener(runner.server, listening, http, certificates.of(http, "http", ("http/1.1",)), core.metrics)
    listener.start()
    yield Served(listening.getsockname()[1], app, listener)
    listener.close()
    await runner.cleanup()
    listener.end()
    await asyncio.sleep(0.01)


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        made = self._signed(self._name, self._key.public_key(), timedelta(days=-1), timedelta(days=90), ca=True)
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        begins: timedelta = timedelta(days=-1),
        ends: timedelta = timedelta(days=60),
        password: bytes | None = None,
    ) -> tuple[Path, Path]:
        """A certificate for localhost and its key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._signed(subject, key.public_key(), begins, ends)
        certificate_file, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        return certificate_file, key_file

    def client(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """What a client trusts, and shows."""
        context = ssl.create_default_context(cafile=self.file)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        begins: timedelta,
        ends: timedelta,
        *,
        ca: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that the tests' clients trust."""
    return Authority(tmp_path)


async def eventually(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
