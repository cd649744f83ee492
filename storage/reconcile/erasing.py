"""Erasure: everything of a patient or study is removed for good, and is told not to come back.

The order: the record of the erasure, which names versions and nothing else; the rows, study by study, after which
nobody sees anything; the objects; the older records that named nothing but them. What a crash leaves of the objects has
no row, and the background work, which knows the record, removes it instead of giving it one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from storage import records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier, ObjectDamaged, ObjectNotFound
from storage.index import rows
from storage.reconcile import reading, recorded

_AT_ONCE = 8
_ARRIVING_S = 600.0
"""An object without a row that is younger may be about to get one."""


@dataclass(frozen=True, slots=True)
class Patient:
    """Who a patient is within a tenant."""

    issuer: str
    patient_id: str


@dataclass(frozen=True, slots=True)
class Doomed:
    """A version that is to be erased; its object may be gone already, then size and digest are those of its row."""

    object_key: str
    version: ids.Version
    size: int
    sha256: str
    quarantined: bool = False


@dataclass(slots=True)
class Found:
    """What an erasure would remove: versions, and records that name nothing else. ``arriving`` objects are left."""

    tenant: ids.Tenant
    studies: list[ids.StudyUid]
    versions: list[Doomed] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    arriving: list[str] = field(default_factory=list)


def find(archive: Archive, tenant: ids.Tenant, whose: Patient | ids.StudyUid) -> Found:
    """Look for everything of a patient, or of a study. Changes nothing.

    Of a patient's studies everything goes, but not what is in quarantine there because it names somebody else.
    """
    if isinstance(whose, Patient):
        studies = list(archive.index.studies_of(tenant, whose.issuer, whose.patient_id))
    else:
        studies = [whose]
    found = Found(tenant, studies)
    doomed: dict[str, Doomed] = {}
    spared = _quarantined(archive, found, whose, doomed)
    for study_uid in studies:
        for held in archive.index.everything_of(tenant, study_uid):
            doomed[held.object_key] = Doomed(held.object_key, held.version, held.size, held.sha256)
        _without_row(archive, found, study_uid, doomed, spared)
    found.versions = [doomed[key] for key in sorted(doomed)]
    keys = frozenset(doomed)
    for key, body in recorded.bodies(
        archive.objects, (info.key for info in archive.objects.list(records.prefix(tenant)))
    ):
        if _names_only(body, keys):
            found.records.append(key)
    return found


def _quarantined(
    archive: Archive, found: Found, whose: Patient | ids.StudyUid, doomed: dict[str, Doomed]
) -> frozenset[str]:
    """Take in what is in quarantine and meant; what is somebody else's comes back."""
    spared = set()
    for item in archive.index.quarantined(found.tenant):
        if isinstance(whose, Patient):
            meant = _is_of(archive, item.object_key, whose, otherwise=item.key.study_uid in found.studies)
        else:
            meant = item.key.study_uid == whose
        if meant:
            size, sha256 = _described(archive, item.object_key)
            doomed[item.object_key] = Doomed(item.object_key, item.version, size, sha256, quarantined=True)
        else:
            spared.add(item.object_key)
    return frozenset(spared)


def _is_of(archive: Archive, object_key: str, patient: Patient, *, otherwise: bool) -> bool:
    """Whether an object names a patient; ``otherwise`` where it names nobody, or cannot be read."""
    arrival = reading.read(archive.objects, archive.limits, object_key)
    if isinstance(arrival, reading.Unfit):
        return otherwise
    issuer, patient_id, of_study = rows.patient_key(arrival.extract.data_set, arrival.key.study_uid)
    return otherwise if of_study else (issuer, patient_id) == (patient.issuer, patient.patient_id)


def _without_row(
    archive: Archive, found: Found, study_uid: ids.StudyUid, doomed: dict[str, Doomed], spared: frozenset[str]
) -> None:
    """Take in objects of a study that no row of it names: orphans, and those whose instance stands elsewhere now."""
    before_s = time.time() - _ARRIVING_S
    for info in archive.objects.list(f"{found.tenant}/{study_uid}/"):
        if info.key in doomed or info.key in spared:
            continue
        try:
            _, version = ids.parse_object_key(info.key)
        except InvalidIdentifier:
            continue  # none of ours
        known = archive.index.known_objects([info.key])
        if not known and ids.version_time_s(version) > before_s:
            found.arriving.append(info.key)
        else:
            doomed[info.key] = Doomed(info.key, version, *_described(archive, info.key))


def _described(archive: Archive, object_key: str) -> tuple[int, str]:
    try:
        info = archive.objects.head(object_key)
    except ObjectNotFound:
        return 0, ""
    return info.size, info.sha256 or ""


def _names_only(body: bytes, keys: frozenset[str]) -> bool:
    """Whether a record tells of some of the objects, and of no other."""
    try:
        record = records.loads(body)
    except ObjectDamaged:
        return False
    if isinstance(record, records.Quarantine):
        return record.object_key in keys
    if isinstance(record, records.Deletion | records.Restoration):
        return bool(record.objects) and keys.issuperset(record.objects)
    return False


def erase(archive: Archive, found: Found) -> ids.Version:
    """Remove what was found, for good; the record of it.

    Raises
    ------
    StorageUnavailable
        Nothing is erased; or the record is there, and the background work removes what is left.
    """
    record = archive.new_version()
    versions = tuple(doomed.version for doomed in found.versions)
    body = records.Erasure(versions).dumps()
    archive.objects.put(records.key(found.tenant, record), [body])
    late: list[str] = []
    for part in _by_study(found.versions):
        late += archive.index.erase(found.tenant, record, body, part)
    with ThreadPoolExecutor(_AT_ONCE, "erase") as pool:
        for _ in pool.map(archive.objects.delete, (*late, *(doomed.object_key for doomed in found.versions))):
            pass
        for _ in pool.map(archive.objects.delete, found.records):
            pass
    archive.index.forget_records([recorded.name_of(key) for key in found.records])
    return record


def _by_study(versions: Sequence[Doomed]) -> list[list[ids.Version]]:
    """Versions of one study together: one transaction each. At least one, which keeps the record."""
    parts: dict[str, list[ids.Version]] = {}
    for doomed in versions:
        parts.setdefault(doomed.object_key.rpartition("/")[0].rpartition("/")[0], []).append(doomed.version)
    return list(parts.values()) or [[]]
