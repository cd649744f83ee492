"""Those who send and read while a gateway is hurt, the book of what they were told, and what is true afterwards."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from storage.archive import Archive
from storage.dicom import file_meta, part10
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import InvalidIdentifier, StorageError
from storage.index.arrivals import Conflicts
from storage.index.base import Index
from storage.index.questions import Search, Target
from storage.objects.base import ObjectStore
from storage.reconcile import adopt_orphans
from tests.faults.modality import Broken, Modality
from tests.instances import CT, data_set, encode, part10_file
from tests.serving import Gateway

_TIMEOUT_S = 60
_TENANT = ids.tenant("main")
_WHOLE = {"Accept": "application/dicom; transfer-syntax=*"}


@dataclass(frozen=True, slots=True)
class Sent:
    """An instance that was sent: where it is retrieved, and what its data set was."""

    path: str
    length: int
    sha256: str

    @classmethod
    def of(cls, uid: str, body: bytes) -> Sent:
        """By its data set."""
        found = part10.extract(io.BytesIO(body), file_meta.EXPLICIT_VR_LITTLE_ENDIAN, Limits(), part10.Announced())
        path = f"/studies/{found.study_uid}/series/{found.series_uid}/instances/{uid}"
        return cls(path, len(body), hashlib.sha256(body).hexdigest())

    def is_in(self, whole: bytes) -> bool:
        """Whether a Part 10 file holds this data set."""
        return hashlib.sha256(whole[-self.length :]).hexdigest() == self.sha256


@dataclass(slots=True)
class Book:
    """What was sent and what was answered.

    ``acknowledged`` has each acknowledged instance by its SOP Instance UID. ``answers`` counts what
    other answers there were, ``lies`` those that no gateway may give: a failure that is neither 0xA700 nor 503 with
    Retry-After, or "not found" to who asks for something acknowledged.
    """

    acknowledged: dict[str, Sent] = field(default_factory=dict)
    sent: int = 0
    read: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    lies: list[str] = field(default_factory=list)


class Crowd:
    """Modalities and web clients that send without end, and one that reads what was acknowledged."""

    def __init__(self, gateway: Gateway, book: Book, dimse: int = 2, web: int = 2, readers: int = 1) -> None:
        self._gateway = gateway
        self._book = book
        self._stop = threading.Event()
        work = [self._send_by_dimse] * dimse + [self._send_by_web] * web + [self._read] * readers
        self._threads = [threading.Thread(target=each, daemon=True) for each in work]
        self._defects: list[BaseException] = []

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S + 10)
            assert not thread.is_alive(), "somebody still waits for an answer"

    def _instances(self) -> Iterator[tuple[str, bytes, bytes]]:
        """UID, Part 10 file and data set of ever new instances, a few of them to a series."""
        while not self._stop.is_set():
            first = data_set(PixelData=os.urandom(8192), Rows=64, Columns=64)
            for number in range(8):
                found = data_set(
                    StudyInstanceUID=first.StudyInstanceUID,
                    SeriesInstanceUID=first.SeriesInstanceUID,
                    InstanceNumber=number,
                    PixelData=os.urandom(8192),
                    Rows=64,
                    Columns=64,
                )
                self._book.sent += 1
                yield found.SOPInstanceUID, part10_file(found), encode(found)

    def _send_by_dimse(self) -> None:
        modality: Modality | None = None
        for uid, _, body in self._instances():
            try:
                modality = modality or Modality(
                    self._gateway.dimse_port, CT, file_meta.EXPLICIT_VR_LITTLE_ENDIAN, _TIMEOUT_S
                )
                status = modality.store(uid, body)
            except Broken:
                if modality is not None:
                    modality.close()
                modality = None
                time.sleep(0.05)
                continue
            self._book.answers[f"C-STORE {status:04X}"] += 1
            if status == 0:
                self._book.acknowledged[uid] = Sent.of(uid, body)
            elif status == 0xA700:
                time.sleep(0.02)
            else:
                self._book.lies.append(f"C-STORE {status:04X}")
        if modality is not None:
            modality.close()

    def _send_by_web(self) -> None:
        client = _Client(self._gateway)
        for uid, whole, body in self._instances():
            answer = client.ask("POST", "/studies", whole, {"Content-Type": "application/dicom"})
            if answer is None:
                continue
            self._book.answers[f"STOW {answer.status}"] += 1
            if answer.status == 200:
                self._book.acknowledged[uid] = Sent.of(uid, body)
            elif answer.may_be_repeated:
                time.sleep(0.02)
            else:
                self._book.lies.append(f"STOW {answer.status}: {answer.body[:300]!r}")

    def _read(self) -> None:
        client, chance = _Client(self._gateway), random.Random(1)
        while not self._stop.wait(0.01):
            if not self._book.acknowledged:
                continue
            uid = chance.choice(list(self._book.acknowledged))
            sent = self._book.acknowledged[uid]
            for asked, headers in ((f"/instances?SOPInstanceUID={uid}", {}), (sent.path, _WHOLE)):
                answer = client.ask("GET", asked, None, headers)
                if answer is None:
                    continue
                self._book.read += 1
                self._book.answers[f"GET {answer.status}"] += 1
                good = answer.status == 200 and (asked != sent.path or sent.is_in(answer.body))
                if not good and not answer.may_be_repeated:
                    self._book.lies.append(f"GET {asked.split('?')[0]} {answer.status}: {answer.body[:300]!r}")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    retry_after: str | None

    @property
    def may_be_repeated(self) -> bool:
        """Whether the answer says that there is no room, or that the request may succeed later."""
        return self.status == 507 or (self.status == 503 and self.retry_after is not None)


class _Client:
    """A web client that connects again when its connection broke."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> _Answer | None:
        """The answer; None when the connection broke."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._gateway.http_port, timeout=_TIMEOUT_S)
        try:
            self._connection.request(method, f"/dicomweb{path}", body, headers)
            response = self._connection.getresponse()
            return _Answer(response.status, response.read(), response.getheader("Retry-After"))
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            time.sleep(0.05)
            return None


@dataclass(slots=True)
class Findings:
    """What was wrong afterwards; all empty when the promise held."""

    lost: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    rows_without_object: list[str] = field(default_factory=list)
    not_reaped: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)
    orphans: int = 0

    def told(self, title: str, book: Book) -> str:
        """The whole result."""
        answers = ", ".join(f"{count} x {answer}" for answer, count in sorted(book.answers.items()))
        return (
            f"{title}: {book.sent} sent, {len(book.acknowledged)} acknowledged, {book.read} read meanwhile; "
            f"{len(self.lost)} lost, {len(self.changed)} changed, {len(self.partial)} partial, "
            f"{len(self.rows_without_object)} rows without object, {len(self.lies)} wrong answers, "
            f"{self.orphans} orphans of which {len(self.not_reaped)} were left\n  ({answers})"
        )

    @property
    def ok(self) -> bool:
        return not (
            self.lost or self.changed or self.partial or self.rows_without_object or self.not_reaped or self.lies
        )

    def add(self, other: Findings) -> None:
        """Take in what was found later."""
        for name in ("lost", "changed", "partial", "rows_without_object", "not_reaped", "lies"):
            known = getattr(self, name)
            known.extend(each for each in getattr(other, name) if each not in known)
        self.orphans += other.orphans


def examine(gateway: Gateway, book: Book) -> Findings:
    """Ask a running gateway for everything acknowledged, look behind its back, then have the orphans reaped."""
    findings = Findings(lies=list(book.lies))
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=_TIMEOUT_S)
    for uid, sent in book.acknowledged.items():
        connection.request("GET", f"/dicomweb/instances?SOPInstanceUID={uid}")
        response = connection.getresponse()
        rows = response.read()
        connection.request("GET", f"/dicomweb{sent.path}", headers=_WHOLE)
        answer = connection.getresponse()
        whole = answer.read()
        if response.status != 200 or len(json.loads(rows)) != 1 or answer.status != 200:
            findings.lost.append(uid)
        elif not sent.is_in(whole):
            findings.changed.append(uid)
    connection.close()
    with gateway.engines.objects(gateway.directory) as objects, gateway.engines.index(gateway.directory) as index:
        _look_behind(objects, index, findings)
        _reap(Archive(objects, index, Limits()), findings)
    return findings


def _instance_keys(objects: ObjectStore) -> Iterator[str]:
    for info in objects.list(""):
        try:
            ids.parse_object_key(info.key)
        except InvalidIdentifier:
            continue
        yield info.key


def _look_behind(objects: ObjectStore, index: Index, findings: Findings) -> None:
    keys = list(_instance_keys(objects))
    located = {
        each.object_key: each.size
        for row in index.search(Search(_TENANT, Level.STUDY, limit=1_000_000))
        for each in index.locate(Target(_TENANT, row.study_uid), EVERYTHING)
    }
    for key in keys:
        whole = objects.get(key)
        stream = io.BytesIO(whole)
        try:
            meta, offset, _ = file_meta.read(stream, Limits())
            stream.seek(offset)
            part10.extract(stream, meta.transfer_syntax_uid, Limits(), part10.Announced())
        except StorageError:
            findings.partial.append(key)
            continue
        if located.get(key, len(whole)) != len(whole):
            findings.partial.append(key)
    findings.orphans = len(set(keys) - index.known_objects(keys))
    findings.rows_without_object.extend(sorted(located.keys() - set(keys)))


def _reap(archive: Archive, findings: Findings) -> None:
    """What the background work does when the grace time is over, done now."""
    adopt_orphans(archive, 0.0, Conflicts(), now_s=time.time() + 3600)
    keys = list(_instance_keys(archive.objects))
    findings.not_reaped.extend(sorted(set(keys) - archive.index.known_objects(keys)))
