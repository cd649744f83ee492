"""A gateway that is hurt while it ingests, and the book of what it acknowledged."""

from __future__ import annotations

import http.client
import io
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE

from storage.dicom import file_meta, part10
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import InvalidIdentifier
from storage.index.base import Target
from storage.index.sqlite import SqliteIndex
from storage.objects.local import LocalObjectStore
from tests.instances import CT, data_set, encode, part10_file
from tests.serving import Gateway


@dataclass(slots=True)
class Book:
    """SOP Instance UID of each acknowledged instance, with its data set; and how many were sent."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    sent: int = 0


class Senders:
    """Modalities and web clients that send without end, and note what was acknowledged."""

    def __init__(self, gateway: Gateway, book: Book, dimse: int = 2, web: int = 2) -> None:
        self._gateway = gateway
        self._book = book
        self._stop = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._by_dimse, daemon=True) for _ in range(dimse)),
            *(threading.Thread(target=self._by_web, daemon=True) for _ in range(web)),
        ]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

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

    def _by_dimse(self) -> None:
        ae = AE(ae_title="FAULTS")
        ae.add_requested_context(CT, file_meta.EXPLICIT_VR_LITTLE_ENDIAN)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        association = None
        for uid, whole, body in self._instances():
            if association is None or not association.is_established:
                association = ae.associate("127.0.0.1", self._gateway.dimse_port, ae_title="GATEWAY")
                if not association.is_established:
                    time.sleep(0.05)
                    continue
            try:
                status = association.send_c_store(dcmread(io.BytesIO(whole)))
            except (RuntimeError, OSError):
                continue
            if "Status" in status and status.Status == 0:
                self._book.acknowledged[uid] = body
        if association is not None and association.is_established:
            association.release()

    def _by_web(self) -> None:
        connection: http.client.HTTPConnection | None = None
        headers = {"Content-Type": "application/dicom"}
        for uid, whole, body in self._instances():
            connection = connection or http.client.HTTPConnection("127.0.0.1", self._gateway.http_port, timeout=20)
            try:
                connection.request("POST", "/dicomweb/studies", whole, headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
                time.sleep(0.05)
                continue
            if response.status == 200:
                self._book.acknowledged[uid] = body


@dataclass(slots=True)
class Findings:
    """What was wrong afterwards; all empty when the promise held."""

    lost: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    rows_without_object: list[str] = field(default_factory=list)
    orphans: int = 0

    def told(self, title: str, book: Book) -> str:
        """The whole result on a line."""
        return (
            f"{title}: {book.sent} sent, {len(book.acknowledged)} acknowledged, {len(self.lost)} lost, "
            f"{len(self.changed)} changed, {len(self.partial)} partial, {len(self.rows_without_object)} rows without "
            f"object, {self.orphans} orphans"
        )

    @property
    def ok(self) -> bool:
        return not (self.lost or self.changed or self.partial or self.rows_without_object)


def examine(gateway: Gateway, book: Book) -> Findings:
    """Ask a running gateway for everything acknowledged, and look into the bucket behind its back."""
    findings = Findings()
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=30)
    for uid, body in book.acknowledged.items():
        found = part10.extract(io.BytesIO(body), file_meta.EXPLICIT_VR_LITTLE_ENDIAN, Limits(), part10.Announced())
        path = f"/dicomweb/studies/{found.study_uid}/series/{found.series_uid}/instances/{uid}"
        connection.request("GET", f"/dicomweb/instances?SOPInstanceUID={uid}")
        response = connection.getresponse()
        response.read()
        connection.request("GET", path, headers={"Accept": "application/dicom; transfer-syntax=*"})
        answer = connection.getresponse()
        whole = answer.read()
        if response.status != 200 or answer.status != 200:
            findings.lost.append(uid)
        elif not whole.endswith(body):
            findings.changed.append(uid)
    connection.close()
    _look_behind(gateway.directory, findings)
    return findings


def _look_behind(directory: Path, findings: Findings) -> None:
    objects, index = LocalObjectStore(directory / "archive"), SqliteIndex(directory / "index.sqlite")
    keys = []
    for info in objects.list(""):
        try:
            key, _ = ids.parse_object_key(info.key)
        except InvalidIdentifier:
            continue
        keys.append(info.key)
        whole = objects.get(info.key)
        try:
            stream = io.BytesIO(whole)
            meta, offset, _ = file_meta.read(stream, Limits())
            stream.seek(offset)
            part10.extract(stream, meta.transfer_syntax_uid, Limits(), part10.Announced())
        except Exception:
            findings.partial.append(info.key)
            continue
        for located in index.locate(Target(key.tenant, key.study_uid, key.series_uid, key.sop_uid), EVERYTHING):
            if located.object_key == info.key and located.size != info.size:
                findings.partial.append(info.key)
    known = index.known_objects(keys)
    findings.orphans = len(set(keys) - known)
    from storage.dicom.attributes import Level
    from storage.index.base import Search

    for row in index.search(Search(ids.tenant("main"), Level.STUDY, limit=1_000_000)):
        for located in index.locate(Target(ids.tenant("main"), row.study_uid), EVERYTHING):
            if located.object_key not in known:
                findings.rows_without_object.append(located.object_key)
    index.close()
    objects.close()
