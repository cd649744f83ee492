"""Through which of its instances a study or series speaks, and what it says in its columns.

A series speaks through its lowest current version. A study speaks through its lowest current version that has a
Patient ID, and through its lowest one only when none has: modalities send both within one study, and the study is to
be found by the ID that it has, in whatever order the instances come. What is deleted speaks on, since scopes are asked
about it: an instance through its highest version of which anything is kept, a series or study through the lowest of
those. So what is said is a function of what is kept, however it came to be so.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from storage.dicom import json_model
from storage.dicom.attributes import Level
from storage.dicom.json_model import JsonDataSet
from storage.index import rows
from storage.index.transaction import Transaction

SOP_CLASS_UID = "00080016"


class Speaker(NamedTuple):
    """A study's or series' row, whether it is live, and the version that it speaks through.

    ``blank`` says that a study speaks without a Patient ID.
    """

    row: int
    live: bool
    source: str
    blank: bool = False


class Voices:
    """Keeps studies and series speaking through the right instance, inside a writing transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._in = transaction
        self._db = transaction.db

    def patient_row(self, tenant: str, patient: tuple[str, str, str]) -> int:
        """The surrogate of a patient, made when there is none."""
        found = self._db.execute(
            "SELECT id FROM patient WHERE tenant = ? AND issuer = ? AND patient_id = ? AND of_study = ?",
            (tenant, *patient),
        ).fetchone()
        if found is None:
            found = self._db.execute(
                "INSERT INTO patient (tenant, issuer, patient_id, of_study) VALUES (?, ?, ?, ?) RETURNING id",
                (tenant, *patient),
            ).fetchone()
        return int(found[0])

    def heard(
        self, table: str, speaker: Speaker, data_set: JsonDataSet, version: str, change: int, before: Collection[str]
    ) -> bool:
        """Take note of a version that has become current in place of those ``before``; whether it changed the row."""
        blank = table == "study" and is_blank(data_set)
        if speaker.live and speaker.source in before:
            self.choose(table, speaker.row, change)
            return True
        if not speaker.live or (blank, version) < (speaker.blank, speaker.source):
            begins: dict[str, object] = {} if speaker.live else {"live": True, "appeared": change}
            self._speak(table, speaker.row, data_set, version, begins)
            return True
        return False

    def choose(self, table: str, identifier: int, change: int) -> None:
        """Let a study or series speak through its right instance; mark it dead when it has none."""
        order = "i.blank_patient, v.version" if table == "study" else "v.version"
        found = self._db.execute(
            f"SELECT v.version, d.metadata FROM instance i JOIN version v ON v.id = i.current_version"
            f" JOIN document d ON d.version = v.id WHERE i.{table} = ? ORDER BY {order} LIMIT 1",
            (identifier,),
        ).fetchone()
        if found is None:
            self._choose_deleted(table, identifier)
            return
        (live,) = self._db.execute(f"SELECT live FROM {table} WHERE id = ?", (identifier,)).fetchone()
        data_set = json_model.loads(rows.unpack(found[1]))
        self._speak(table, identifier, data_set, found[0], {} if live else {"live": True, "appeared": change})

    def _choose_deleted(self, table: str, identifier: int) -> None:
        """Let what holds nothing live speak through what is kept of it, or say nothing."""
        place = "s.tenant || '/' || s.study_uid || '/'" + (" || e.series_uid || '/'" if table == "series" else "")
        order = "i.blank_patient, v.version" if table == "study" else "v.version"
        found = self._db.execute(
            "SELECT v.version, d.metadata FROM instance i JOIN study s ON s.id = i.study"
            " JOIN series e ON e.id = i.series JOIN version v ON v.version = (SELECT max(w.version) FROM version w"
            " JOIN document k ON k.version = w.id WHERE w.instance = i.id) JOIN document d ON d.version = v.id"
            f" WHERE i.{table} = ? AND substr(v.object_key, 1, length({place})) = {place} ORDER BY {order} LIMIT 1",
            (identifier,),
        ).fetchone()
        version, data_set = (found[0], json_model.loads(rows.unpack(found[1]))) if found is not None else ("", {})
        self._speak(table, identifier, data_set, version, {"live": False})

    def choose_instance(self, identifier: int) -> None:
        """Let an instance without a current version speak through its highest one that is kept, or say nothing."""
        found = self._db.execute(
            "SELECT d.metadata FROM version v JOIN document d ON d.version = v.id WHERE v.instance = ?"
            " ORDER BY v.version DESC LIMIT 1",
            (identifier,),
        ).fetchone()
        data_set = json_model.loads(rows.unpack(found[0])) if found is not None else {}
        self._in.update("instance", identifier, instance_values(data_set, json_model.text_of(data_set, SOP_CLASS_UID)))

    def _speak(self, table: str, identifier: int, data_set: JsonDataSet, version: str, more: dict[str, object]) -> None:
        if table == "series":
            self._in.update(table, identifier, {**series_values(data_set, version), **more})
            self.keep_requests(identifier, data_set)
            return
        values = study_values(data_set, version)
        tenant, study_uid = self._db.execute(
            "SELECT tenant, study_uid FROM study WHERE id = ?", (identifier,)
        ).fetchone()
        patient = self.patient_row(tenant, rows.patient_key(data_set, study_uid))
        self._in.update(table, identifier, {**values, "patient": patient, **more})
        self.keep_names(identifier, data_set)

    def keep_names(self, study: int, data_set: JsonDataSet) -> None:
        """Write a study's names of which there may be several, and the keys by which fuzzy matching finds it."""
        self._db.write("DELETE FROM name_key WHERE study = ?", (study,))
        self._db.write(
            "INSERT INTO name_key (attribute, key, study) VALUES (?, ?, ?)",
            *((*each, study) for each in rows.name_keys(data_set)),
        )
        self._keep_items("study", study, data_set)

    def keep_requests(self, series: int, data_set: JsonDataSet) -> None:
        """Write the items of a series' Request Attributes Sequence."""
        self._keep_items("series", series, data_set)

    def _keep_items(self, owner: str, identifier: int, data_set: JsonDataSet) -> None:
        for table, found in rows.items(data_set, Level[owner.upper()]).items():
            self._db.write(f"DELETE FROM {table} WHERE {owner} = ?", (identifier,))
            for number, item in enumerate(found):
                self._in.insert(table, {owner: identifier, "item": number, **item})


def is_blank(data_set: JsonDataSet) -> bool:
    """Whether a data set has no Patient ID."""
    return not rows.patient_key(data_set, "")[1]


def study_values(data_set: JsonDataSet, version: str) -> dict[str, object]:
    """What a study says through an instance."""
    levels = (Level.PATIENT, Level.STUDY)
    found = rows.columns(data_set, *levels)
    return {
        "source_version": version,
        "attributes": rows.attributes(data_set, *levels),
        "rank": rows.study_rank(found["study_date"], found["study_time"]),
        **found,
    }


def series_values(data_set: JsonDataSet, version: str) -> dict[str, object]:
    """What a series says through an instance."""
    found = rows.columns(data_set, Level.SERIES)
    return {
        "source_version": version,
        "attributes": rows.attributes(data_set, Level.SERIES),
        "rank": rows.number_rank(found["series_number"]),
        **found,
    }


def instance_values(data_set: JsonDataSet, sop_class_uid: str) -> dict[str, object]:
    """What an instance says."""
    found = rows.columns(data_set, Level.INSTANCE)
    return {
        "attributes": rows.attributes(data_set, Level.INSTANCE),
        "sop_class_uid": sop_class_uid,
        "blank_patient": is_blank(data_set),
        "rank": rows.number_rank(found["instance_number"]),
        **found,
    }
