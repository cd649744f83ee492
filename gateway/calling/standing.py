"""What the gateway of some settings does just now, asked from outside: faces, engines, room, work, peers, failures.

Everything is what others are told too: health, the metrics of the workers, the index, and the audit trail.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway import assembly, certificates
from gateway.config import InvalidSettings, Settings
from gateway.config.section import asked_at
from gateway.config.serving import DestinationSettings, TlsSettings
from gateway.dimse import echoing
from gateway.dimse.ending import Ended
from gateway.dimse.requesting import Address, NotAssociated
from gateway.services import associations, contacts
from gateway.services.associations import Association
from gateway.services.contacts import Contact, Contacts
from gateway.services.room import free_bytes
from gateway.telemetry import counted
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.errors import StorageError
from storage.index.migrations import SCHEMA_VERSION
from storage.index.questions import Search

HTTP, DIMSE, METRICS = "HTTP", "DIMSE", "metrics"
_WITHIN_S = 10.0
_ASSOCIATIONS = 50
_MOST_BODY_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Face:
    """Where a face should be, whether something answers there, and what is to be said of it."""

    name: str
    where: str
    answers: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that arrivals need, and the room on its disk; None where that cannot be told."""

    name: str
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Held:
    """What a tenant has."""

    tenant: str
    studies: int
    objects: int
    bytes: int
    quarantined: int


@dataclass(slots=True)
class Standing:
    """All of it. ``fault`` is what keeps it from serving, "" for nothing; ``version`` "" where it is not told.

    ``work`` are the depths of queues, ``failures`` counts since the gateway was started; None where nobody tells.
    """

    faces: list[Face] = field(default_factory=list)
    fault: str = ""
    version: str = ""
    workers: dict[str, str] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    index_fault: str = ""
    work: dict[str, int] | None = None
    failures: dict[str, int] | None = None
    peers: list[Contact] = field(default_factory=list)
    associations: list[Association] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        """Whether anything answers."""
        return any(each.answers for each in self.faces)

    @property
    def is_ready(self) -> bool:
        """Whether it serves as it should."""
        return self.runs and not self.fault and all(each.answers for each in self.faces)


def standing(settings: Settings, faces: Collection[str] = (HTTP, DIMSE)) -> Standing:
    """Look at everything; ``faces`` are those that should answer."""
    found = Standing()
    asked = {HTTP: _http, DIMSE: _dimse, METRICS: _metrics_face}
    wanted = [each for each in asked if each in faces or (each == METRICS and settings.metrics.port is not None)]
    for name in wanted:
        asked[name](settings, found)
    found.places = [_place(each.name, each.directory) for each in assembly.places(settings)]
    for place in found.places:
        if place.free_bytes is not None and place.free_bytes < settings.storage.min_free_bytes:
            found.fault = found.fault or f"less than storage.min_free_bytes are free for the {place.name}"
    _ask_index(settings, found)
    if found.runs:
        _count(settings, found)
    found.peers = _peers(settings)
    if not found.index_fault:
        found.associations = _associations(settings)
    return found


def _http(settings: Settings, found: Standing) -> None:
    given = settings.http
    secure = given.tls_certificate_file is not None
    where = f"{'https' if secure else 'http'}://{given.host}:{given.port}"
    try:
        status, body = _asked(given.host, given.port, "/health/ready", _own_tls(given) if secure else None)
        told = _health(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        found.faces.append(Face(HTTP, where, False, _why(error)))
        return
    if status != http.client.OK:
        found.fault = str(told.get("detail") or told.get("title") or f"health answers {status}")
    found.faces.append(Face(HTTP, where, True, "reads only" if told.get("read_only") else ""))


def _dimse(settings: Settings, found: Standing) -> None:
    given = settings.dimse
    where = f"{given.ae_title} at {given.host}:{given.port}"
    host = asked_at(given.host)
    if not given.port:
        found.faces.append(Face(DIMSE, where, False, "it takes any port, so that it cannot be asked"))
        return
    tls = None
    try:
        if given.tls_certificate_file is not None and not given.tls_or_clear:
            ours = DestinationSettings(
                host=host, port=given.port, tls=True, tls_ca_file=given.tls_certificate_file, tls_check_name=False
            )
            tls = certificates.to_peer(given, ours)
            if tls is not None:
                tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        echoing.echo(Address(given.ae_title, host, given.port), given, tls)
    except NotAssociated as error:
        # Who rejects us by policy is there all the same.
        is_there = error.rejected
        detail = "knows no AE title of ours that may ask, as the policy has it" if is_there else _why_not(error)
        found.faces.append(Face(DIMSE, where, is_there, detail))
    except (Ended, InvalidSettings) as error:
        found.faces.append(Face(DIMSE, where, False, str(error)))
    else:
        found.faces.append(Face(DIMSE, where, True, "over TLS" if tls is not None else ""))


def _metrics_face(settings: Settings, found: Standing) -> None:
    given = settings.metrics
    where = f"http://{given.host}:{given.port}"
    try:
        status, body = _asked(given.host, given.port or 0, "/health/ready")
        told = _health(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        found.faces.append(Face(METRICS, where, False, _why(error)))
        return
    if status != http.client.OK:
        found.fault = str(told.get("detail") or told.get("status"))
    found.faces.append(Face(METRICS, where, True))


def _asked(host: str, port: int, path: str, tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    host = asked_at(host)
    if not port:
        raise OSError("it takes any port, so that it cannot be asked")
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection(host, port, timeout=_WITHIN_S)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=_WITHIN_S, context=tls)
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_BODY_BYTES)


def _health(body: bytes) -> Mapping[str, Any]:
    """What a face tells of itself. Raises ValueError for what no gateway answers."""
    told = json.loads(body)
    if not isinstance(told, dict):
        raise ValueError("no object")
    return told


def _own_tls(given: TlsSettings) -> ssl.SSLContext:
    """Trusts the certificate that the face shows, and no other; its name is not that of the loopback."""
    context = ssl.create_default_context(cafile=given.tls_certificate_file)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if given.tls_client_certificates == "required" and given.tls_certificate_file is not None:
        context.load_cert_chain(given.tls_certificate_file, given.tls_key_file, password=b"")
    return context


def _why(error: Exception) -> str:
    if isinstance(error, ValueError):
        return "something else answers there"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _why_not(error: NotAssociated) -> str:
    cause = error.__cause__
    return _why(cause) if isinstance(cause, OSError) else str(error)


def _place(name: str, directory: Path) -> Place:
    here = next((each for each in (directory, *directory.absolute().parents) if each.exists()), Path("/"))
    try:
        return Place(name, free_bytes(here))
    except StorageError:
        return Place(name, None)


def _ask_index(settings: Settings, found: Standing) -> None:
    """What each tenant has; an index that is not there is not made, and one of an earlier release not changed."""
    try:
        version = assembly.index_version(settings)
        if version < SCHEMA_VERSION:
            earlier = (
                f"of an earlier release (schema {version}): the start of this one brings it up to {SCHEMA_VERSION}"
            )
            found.index_fault = earlier if version else "there is none yet"
            return
        with closing(assembly.index(settings)) as index:
            usage = index.usage()
            for name in sorted({"main", *settings.tenants, *usage}):
                tenant = ids.Tenant(name)
                used = usage.get(tenant)
                found.held.append(
                    Held(
                        name,
                        index.count(Search(tenant, Level.STUDY)),
                        used.objects if used else 0,
                        used.bytes if used else 0,
                        len(index.quarantined(tenant)),
                    )
                )
            if found.runs:
                found.work = {"commitments": len(index.open_commitments(time.time()))}
    except (StorageError, InvalidSettings) as error:
        found.index_fault = str(error)
        found.fault = found.fault or f"the index: {error}"


def _count(settings: Settings, found: Standing) -> None:
    told = counted.ask(settings.metrics.host, settings.metrics.port)
    if told is None:
        return
    found.work = {**told.depths(), **(found.work or {})}
    found.failures = told.failures()
    found.workers = {each.face: f"{each.ready} of {each.wanted}" for each in told.workers()}
    found.version = told.version


def _peers(settings: Settings) -> list[Contact]:
    """The last contact of each AE title within the last records of the trail."""
    found = Contacts(settings.dimse.ae_title)
    contacts.each_of_the_last(assembly.audit_directories(settings), found.take)
    return found.found


def _associations(settings: Settings) -> list[Association]:
    """The last ones of every tenant and of nobody, latest first; a control state that is not there is not made."""
    if settings.index.engine == "sqlite" and not assembly.control_path(settings).exists():
        return []
    try:
        with closing(assembly.control(settings)) as control:
            found = [
                each
                for tenant in ("", "main", *settings.tenants)
                for each in associations.logged(control, tenant, _ASSOCIATIONS)
            ]
    except (StorageError, InvalidSettings, OSError):
        return []
    return sorted(found, key=lambda each: each.ended_s, reverse=True)[:_ASSOCIATIONS]
