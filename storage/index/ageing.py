"""Studies that have been there for long, oldest arrivals first."""

from __future__ import annotations

from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.index.database import Database, Listed, Sql
from storage.index.questions import Ageing
from storage.index.stored import AgedStudy


def statement(asked: Ageing) -> Sql:
    """A page of studies through the index of arrivals, each with the modalities of its series."""
    return (
        Sql()
        .add("SELECT s.study_uid, s.source_version, s.study_date, s.patient_birth_date, (SELECT")
        .put(Listed("e.modality"))
        .add("FROM series e WHERE e.study = s.id AND e.live) FROM study s WHERE s.live AND s.tenant = ?", asked.tenant)
        .add("AND s.source_version > ?", asked.after)
        .add("AND s.source_version < ?", max(asked.arrived_before, asked.settled_before))
        .add("AND (s.source_version < ? OR s.study_date < ?)", asked.arrived_before, asked.dated_before)
        .add("ORDER BY s.source_version LIMIT ?", asked.limit)
    )


def aged(db: Database, asked: Ageing) -> list[AgedStudy]:
    """The studies of a page."""
    return [
        AgedStudy(ids.StudyUid(study), ids.Version(version), date, birth, tuple(json_model.loads(modalities)))
        for study, version, date, birth, modalities in db.run(statement(asked))
    ]
