"""Legal holds: what may not be removed, whoever asks."""

from __future__ import annotations

from storage.dicom import identifiers as ids
from storage.index.database import Among, Database, Sql
from storage.index.removal import ON_STUDY, keep_record
from storage.index.stored import Held, HoldState
from storage.index.writing import Writer


def hold(writer: Writer, tenant: str, record: str, body: bytes, held: Held) -> None:
    """Keep a hold; one that was released before it was known here stays so."""
    keep_record(writer, tenant, record, body)
    writer.db.write(
        "INSERT INTO hold (record, tenant, study_uid, issuer, patient_id, reason) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (record, tenant, held.study_uid, held.issuer, held.patient_id, held.reason),
    )


def release(writer: Writer, tenant: str, record: str, body: bytes, ended: str) -> None:
    """End a hold."""
    keep_record(writer, tenant, record, body)
    writer.db.write("UPDATE hold SET released = ? WHERE record = ? AND tenant = ?", (record, ended, tenant))


def in_force(db: Database, tenant: str | None) -> list[tuple[ids.Tenant, HoldState]]:
    """Holds that have not ended, oldest first."""
    statement = Sql().add("SELECT tenant, record, study_uid, issuer, patient_id, reason FROM hold WHERE released = ''")
    if tenant is not None:
        statement.add("AND tenant = ?", tenant)
    return [
        (ids.Tenant(name), HoldState(ids.Version(record), Held(study, issuer, patient, reason)))
        for name, record, study, issuer, patient, reason in db.run(statement.add("ORDER BY record"))
    ]


def held(db: Database, tenant: str, study_uids: list[ids.StudyUid]) -> frozenset[ids.StudyUid]:
    """Those of the studies that a hold is on, also one that names a study which is not there."""
    by_itself = Sql().add("SELECT study_uid FROM hold WHERE released = '' AND tenant = ? AND", tenant)
    by_patient = (
        Sql()
        .add(f"SELECT s.study_uid FROM study s JOIN patient p ON p.id = s.patient JOIN hold h ON {ON_STUDY}")
        .add("WHERE s.tenant = ? AND", tenant)
    )
    found = db.run(by_itself.put(Among("study_uid", study_uids)))
    found += db.run(by_patient.put(Among("s.study_uid", study_uids)))
    return frozenset(ids.StudyUid(uid) for (uid,) in found)
