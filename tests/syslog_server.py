"""A syslog server over TLS (RFC 5425)."""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class SyslogServer:
    """Takes frames over TLS, with a certificate of its own, on a port that it can leave and come back to."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "syslog")])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(key, hashes.SHA256())
        )
        self.certificate, private = folder / "server.pem", folder / "server.key"
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, private)
        self.received: list[bytes] = []
        self._changed = threading.Condition()
        self.port = 0

    def start(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = self._listening.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            try:
                connection = self._context.wrap_socket(plain, server_side=True)
            except OSError:
                plain.close()
                continue
            self._connections.append(connection)
            with connection:
                self._read(connection)

    def _read(self, connection: ssl.SSLSocket) -> None:
        text = b""
        while True:
            try:
                block = connection.recv(65536)
            except OSError:
                return
            if not block:
                return
            text += block
            while (found := re.match(rb"(\d+) ", text)) and len(text) >= found.end() + int(found[1]):
                end = found.end() + int(found[1])
                with self._changed:
                    self.received.append(text[found.end() : end])
                    self._changed.notify_all()
                text = text[end:]

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._connections:
            # Below TLS, which the thread that reads is at work with.
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self._thread.join(60)

    def wait_for(self, count: int) -> list[bytes]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received) >= count, 60), len(self.received)
            return list(self.received)
