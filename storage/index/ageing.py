"""Studies that have been there for long, oldest arrivals first, and the storage class that they were moved into."""

from __future__ import annotations

from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.index.database import Database, Listed, Sql
from storage.index.questions import Ageing
from storage.index.stored import AgedStudy, Placed
from storage.index.writing import Writer

_PLACED = ("storage_class", "through", "change")
"""Asked for one by one: of a join PostgreSQL reads the whole table where a page is a large part of it."""


def statement(asked: Ageing) -> Sql:
    """A page of studies through the index of arrivals, each with the modalities of its series."""
    return (
        Sql()
        .add("SELECT s.study_uid, s.source_version, s.study_date, s.patient_birth_date, (SELECT")
        .put(Listed("e.modality"))
        .add("FROM series e WHERE e.study = s.id AND e.live),")
        .add("(SELECT max(c.sequence) FROM change c WHERE c.study = s.id),")
        .add(", ".join(f"(SELECT k.{name} FROM study_class k WHERE k.study = s.id)" for name in _PLACED))
        .add("FROM study s WHERE s.live AND s.tenant = ?", asked.tenant)
        .add("AND s.source_version > ?", asked.after)
        .add("AND s.source_version < ?", max(asked.arrived_before, asked.settled_before))
        .add("AND (s.source_version < ? OR s.study_date < ?)", asked.arrived_before, asked.dated_before)
        .add("ORDER BY s.source_version LIMIT ?", asked.limit)
    )


def aged(db: Database, asked: Ageing) -> list[AgedStudy]:
    """The studies of a page."""
    return [
        AgedStudy(
            ids.StudyUid(study), ids.Version(version), date, birth, tuple(json_model.loads(modalities)), change or 0,
            Placed(placed[0], ids.Version(placed[1]), placed[2]) if placed[0] is not None else None,
        )
        for study, version, date, birth, modalities, change, *placed in db.run(statement(asked))
    ]  # fmt: skip


def place(writer: Writer, tenant: str, study_uid: str, placed: Placed) -> None:
    """Remember where a study is; one that is gone meanwhile is forgotten."""
    writer.db.write(
        "INSERT INTO study_class (study, storage_class, through, change)"
        " SELECT id, ?, ?, ? FROM study WHERE tenant = ? AND study_uid = ? ON CONFLICT (study) DO UPDATE"
        " SET storage_class = excluded.storage_class, through = excluded.through, change = excluded.change",
        (placed.storage_class, placed.through, placed.change, tenant, study_uid),
    )
