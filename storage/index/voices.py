"""Through which of its instances a study or series speaks, and what it says in its columns.

A series speaks through its lowest current version. A study speaks through its lowest current version that has a
Patient ID, and through its lowest one only when none has: modalities send both within one study, and the study is to
be found by the ID that it has, in whatever order the instances come.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from storage.dicom import json_model
from storage.dicom.attributes import Level
from storage.dicom.json_model import JsonDataSet
from storage.index import rows


class Rows:
    """Inserts and updates rows given as columns and values."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def insert(self, table: str, values: dict[str, object]) -> int:
        """Insert a row; its id."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        cursor = self._db.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",
            tuple(values.values()),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def update(self, table: str, identifier: int, values: dict[str, object]) -> None:
        """Update a row."""
        assignments = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(
            f"UPDATE {table} SET {assignments} WHERE id = ?",
            (*values.values(), identifier),
        )


class Voices:
    """Keeps studies and series speaking through the right instance, inside a writing transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._rows = Rows(connection)

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
        self, study: int, series: int, data_set: JsonDataSet, version: str, change: int, superseded: Collection[str]
    ) -> None:
        """Take note of a version that has become current in place of others."""
        blank = is_blank(data_set)
        for table, identifier in (("study", study), ("series", series)):
            blank_now = "(SELECT p.patient_id = '' FROM patient p WHERE p.id = patient)" if table == "study" else "0"
            live, source, voice_blank = self._db.execute(
                f"SELECT live, source_version, {blank_now} FROM {table} WHERE id = ?",
                (identifier,),
            ).fetchone()
            better = (blank, version) < (bool(voice_blank), source) if table == "study" else version < source
            if live and source in superseded:
                self.choose(table, identifier, change)
            elif not live or better:
                self._speak(table, identifier, data_set, version, {} if live else {"live": 1, "appeared": change})

    def choose(self, table: str, identifier: int, change: int) -> None:
        """Let a study or series speak through its right instance; mark it dead when it has none."""
        order = "i.blank_patient, v.version" if table == "study" else "v.version"
        found = self._db.execute(
            f"SELECT v.version, d.metadata FROM instance i JOIN version v ON v.id = i.current_version"
            f" JOIN document d ON d.version = v.id WHERE i.{table} = ? ORDER BY {order} LIMIT 1",
            (identifier,),
        ).fetchone()
        if found is None:
            self._rows.update(table, identifier, {"live": 0})
            return
        (live,) = self._db.execute(f"SELECT live FROM {table} WHERE id = ?", (identifier,)).fetchone()
        data_set = json_model.loads(rows.unpack(found[1]))
        self._speak(table, identifier, data_set, found[0], {} if live else {"live": 1, "appeared": change})

    def _speak(self, table: str, identifier: int, data_set: JsonDataSet, version: str, more: dict[str, object]) -> None:
        if table == "series":
            self._rows.update(table, identifier, {**series_values(data_set, version), **more})
            self.keep_items(identifier, data_set)
            return
        values = study_values(data_set, version)
        tenant, study_uid = self._db.execute(
            "SELECT tenant, study_uid FROM study WHERE id = ?", (identifier,)
        ).fetchone()
        patient = self.patient_row(tenant, rows.patient_key(data_set, study_uid))
        self._rows.update(table, identifier, {**values, "patient": patient, **more})
        self.keep_names(identifier, data_set)

    def keep_names(self, study: int, data_set: JsonDataSet) -> None:
        """Write the keys by which fuzzy matching finds a study."""
        self._db.execute("DELETE FROM name_key WHERE study = ?", (study,))
        self._db.executemany(
            "INSERT INTO name_key (attribute, key, study) VALUES (?, ?, ?)",
            [(*each, study) for each in rows.name_keys(rows.columns(data_set, Level.PATIENT, Level.STUDY))],
        )

    def keep_items(self, series: int, data_set: JsonDataSet) -> None:
        """Write the items of a series' Request Attributes Sequence."""
        self._db.execute("DELETE FROM request_item WHERE series = ?", (series,))
        for number, item in enumerate(rows.request_items(data_set)):
            names, marks = ", ".join(item), ", ".join("?" * len(item))
            self._db.execute(
                f"INSERT INTO request_item (series, item, {names}) VALUES (?, ?, {marks})",
                (series, number, *item.values()),
            )


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
