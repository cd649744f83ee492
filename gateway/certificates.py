"""TLS of a server: its certificate, its key, the authorities of its clients; read again when the files change.

References
----------
RFC 9325 (BCP 195) "Recommendations for Secure Use of TLS and DTLS"
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from gateway.config import InvalidSettings
from gateway.config.serving import DestinationSettings, TlsSettings

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption (RFC 9325 4.2); those of TLS 1.3 are all so."""

_BETWEEN_LOOKS_S = 1.0
_ENDS_SOON = timedelta(days=14)

_log = logging.getLogger("gateway.certificates")

_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the files lie. ``clients`` is "none", "optional" or "required"; with "none" there is no ``client_ca``.

    ``protocols`` are those of ALPN (RFC 7301).
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    clients: str = "none"
    protocols: tuple[str, ...] = ()

    def all(self) -> list[Path]:
        """Every file."""
        return [each for each in (self.certificate, self.key, self.client_ca) if each is not None]


class Certificates:
    """The TLS context for new connections.

    Raises
    ------
    InvalidSettings
        The files cannot be used; with each fault.
    """

    def __init__(self, files: TlsFiles, section: str) -> None:
        self._files = files
        self._section = section
        self._context = load(files, section)
        self._stamp = _stamp(files)
        self._looked_at_s = time.monotonic()

    def context(self) -> ssl.SSLContext:
        """The context of now; new files are taken within a second, faulty ones are logged and not taken."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s >= _BETWEEN_LOOKS_S:
            self._looked_at_s = now_s
            if (stamp := _stamp(self._files)) != self._stamp:
                self._stamp = stamp
                self._reload()
        return self._context

    def _reload(self) -> None:
        try:
            self._context = load(self._files, self._section)
        except InvalidSettings as error:
            # Two files are not replaced at one moment: the next change is another attempt.
            _log.error("the new TLS files are not taken, the former go on: %s", "; ".join(error.faults))
        else:
            _log.info("new TLS files are in use")


def of(face: TlsSettings, section: str, protocols: tuple[str, ...] = ()) -> Certificates | None:
    """The certificates of a face; None where it has no TLS. Raises InvalidSettings."""
    if face.tls_certificate_file is None or face.tls_key_file is None:
        return None
    files = TlsFiles(
        face.tls_certificate_file, face.tls_key_file, face.tls_client_ca_file, face.tls_client_certificates, protocols
    )
    return Certificates(files, section)


def to_peer(ours: TlsSettings, peer: DestinationSettings) -> ssl.SSLContext | None:
    """The context of a client of a peer; None where that wants no TLS. Raises InvalidSettings."""
    if not peer.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=peer.tls_ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.check_hostname = peer.tls_check_name
        if ours.tls_certificate_file is not None:
            context.load_cert_chain(ours.tls_certificate_file, ours.tls_key_file, password=b"")
    except (ssl.SSLError, OSError) as error:
        raise InvalidSettings([f"dimse.destinations: TLS with {peer.host}: {_reason(error)}"]) from error
    return context


def subject_of(encoded: bytes | None) -> str:
    """The subject of a certificate in DER, as RFC 4514 writes it; "" when there is none."""
    return x509.load_der_x509_certificate(encoded).subject.rfc4514_string() if encoded else ""


def load(files: TlsFiles, section: str) -> ssl.SSLContext:
    """A server's context. Raises InvalidSettings with every fault, under the settings of a section."""
    faults = _faults(files, section)
    if faults:
        raise InvalidSettings(faults)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if files.protocols:
        context.set_alpn_protocols(list(files.protocols))
    try:
        # Never a prompt: a key with a password is a fault, found before.
        context.load_cert_chain(files.certificate, files.key, password=b"")
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
    except (ssl.SSLError, OSError) as error:
        raise InvalidSettings([f"{section}.tls_certificate_file: {files.certificate}: {_reason(error)}"]) from error
    context.verify_mode = _VERIFY[files.clients]
    return context


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error).replace("_", " ").lower()


def _faults(files: TlsFiles, section: str) -> list[str]:
    faults: list[str] = []
    named = f"{section}.tls_certificate_file: {files.certificate}"
    chain = _certificates(files.certificate, named, faults)
    public_key = _public_key(files.key, f"{section}.tls_key_file: {files.key}", faults)
    if chain:
        faults += _faults_of_time(chain[0], named)
    if chain and public_key is not None and _encoded(chain[0]) != public_key:
        faults.append(
            f"{section}.tls_key_file: {files.key} is not the key of the first certificate in {files.certificate}"
        )
    if files.client_ca is not None:
        _certificates(files.client_ca, f"{section}.tls_client_ca_file: {files.client_ca}", faults)
    return faults


def _read(path: Path, named: str, faults: list[str]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        faults.append(f"{named}: {error.strerror or error}")
        return b""


def _certificates(path: Path, named: str, faults: list[str]) -> Sequence[x509.Certificate]:
    text = _read(path, named, faults)
    if not text:
        return []
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError:
        faults.append(f"{named}: no certificates in PEM (-----BEGIN CERTIFICATE-----), or damaged ones")
        return []


def _public_key(path: Path, named: str, faults: list[str]) -> bytes | None:
    text = _read(path, named, faults)
    if not text:
        return None
    try:
        key = load_pem_private_key(text, password=None)
    except TypeError:
        faults.append(f"{named}: the key has a password; give one without, readable by the gateway alone")
    except ValueError:
        faults.append(f"{named}: no private key in PEM (-----BEGIN PRIVATE KEY-----), or a damaged one")
    else:
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return None


def _encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _faults_of_time(certificate: x509.Certificate, named: str) -> list[str]:
    now = datetime.now(UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return [f"{named}: the certificate is valid from {begins:%Y-%m-%d %H:%M} UTC on"]
    if now > ends:
        return [f"{named}: the certificate ended at {ends:%Y-%m-%d %H:%M} UTC"]
    if ends - now < _ENDS_SOON:
        _log.warning("%s: the certificate ends at %s UTC", named, f"{ends:%Y-%m-%d %H:%M}")
    return []


def _stamp(files: TlsFiles) -> list[tuple[int, int, int]]:
    """What changes when a file does, also where it is replaced behind a symbolic link."""
    found = []
    for path in files.all():
        try:
            about = path.stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((about.st_ino, about.st_mtime_ns, about.st_size))
    return found
