"""The rules of sameness, conflict and deletion, applied to rows inside one writing transaction.

Whatever the order in which processes commit, the rows are a function of the set of objects: roles follow from the
versions' own order, studies and series speak through one of their current versions (``storage.index.voices``). So a
reindex comes to the same answers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.file_meta import NATIVE
from storage.dicom.part10 import EXTRACTOR_VERSION
from storage.index import feed, rows, voices
from storage.index.base import Action, Arrival, Commit, Conflict, Outcome, Role, Target


class _Version(NamedTuple):
    id: int
    version: str
    header: str
    transfer_syntax: str
    canonical: str


def arrange(versions: Sequence[_Version]) -> dict[int, Role]:
    """The role of each version that is not deleted, from the versions alone.

    In their own order: the first is current; a later one with the same header in another transfer syntax is an
    alternative of the current one, any other becomes current in its place.
    """
    roles: dict[int, Role] = {}
    current: _Version | None = None
    for version in sorted(versions, key=lambda each: each.version):
        if current is None:
            roles[version.id], current = Role.CURRENT, version
        elif _is_alternative(current, version.header, version.transfer_syntax):
            roles[version.id] = Role.ALTERNATIVE
        else:
            roles[current.id], roles[version.id], current = Role.SUPERSEDED, Role.CURRENT, version
    return roles


def _is_alternative(current: _Version, header: str, transfer_syntax: str) -> bool:
    """Whether data with a header may be the current data, compressed otherwise.

    Between two native syntaxes the canonical digest sees through the encoding: there, other content is other content.
    """
    native = current.transfer_syntax in NATIVE and transfer_syntax in NATIVE
    return header == current.header and transfer_syntax != current.transfer_syntax and not native


class Writer:
    """Applies changes on a connection that is inside BEGIN IMMEDIATE."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.db = connection
        self.rows = voices.Rows(connection)
        self.voices = voices.Voices(connection)

    def next_change(self) -> int:
        """The next change sequence number; the one writing transaction at a time makes it commit order."""
        return feed.next_change(self.db)

    def store(self, arrival: Arrival) -> Commit:
        """Give one arrival its rows, or say why it gets none."""
        key, extract = arrival.key, arrival.extract
        patient = rows.patient_key(extract.data_set, key.study_uid)
        study = self.db.execute(
            "SELECT id FROM study WHERE tenant = ? AND study_uid = ?", (key.tenant, key.study_uid)
        ).fetchone()
        instance = self.db.execute(
            "SELECT i.id, s.study_uid, e.series_uid, i.sop_class_uid, i.current_version FROM instance i"
            " JOIN study s ON s.id = i.study JOIN series e ON e.id = i.series WHERE i.tenant = ? AND i.sop_uid = ?",
            (key.tenant, key.sop_uid),
        ).fetchone()
        versions: list[_Version] = []
        if instance is not None:
            if instance[4] is not None and not arrival.deletion_record:
                reason = _misplaced(instance, arrival)
                if reason:
                    return Commit(Outcome.MISPLACED, reason)
            versions = self.live_versions(instance[0])
        if study is not None and not arrival.deletion_record and self.of_another(study[0], patient):
            return Commit(Outcome.MISPLACED, "the study belongs to another patient")
        if not arrival.deletion_record:
            if any(version.canonical == extract.canonical_digest for version in versions):
                return Commit(Outcome.DUPLICATE)
            refused = _refused(arrival, versions)
            if refused is not None:
                return refused
        return self._insert(arrival, study, instance, versions, patient)

    def move(self, instance: int, object_key: str) -> None:
        """Let an instance stand where a version of it belongs: an instance that was deleted may come back elsewhere."""
        key, _ = ids.parse_object_key(object_key)
        self.db.execute(
            "UPDATE instance SET (study, series) = (SELECT s.id, e.id FROM study s JOIN series e ON e.study = s.id"
            " WHERE s.tenant = ? AND s.study_uid = ? AND e.series_uid = ?) WHERE id = ?",
            (key.tenant, key.study_uid, key.series_uid, instance),
        )

    def settle(self, instance: int) -> None:
        """Let a tombstone stand where its latest version did, whatever happened in which order."""
        (object_key,) = self.db.execute(
            "SELECT object_key FROM version WHERE instance = ? ORDER BY version DESC LIMIT 1", (instance,)
        ).fetchone()
        self.move(instance, object_key)

    def of_another(self, study: int, patient: tuple[str, str, str]) -> bool:
        """Whether a study is another patient's.

        A blank Patient ID says nothing about who the patient is; modalities send both in one study. But a study whose
        IDs were all replaced by blank ones is still of the patient whom its earlier versions name.
        """
        live, issuer, patient_id = self.db.execute(
            "SELECT s.live, p.issuer, p.patient_id FROM study s JOIN patient p ON p.id = s.patient WHERE s.id = ?",
            (study,),
        ).fetchone()
        if not live or not patient[1]:
            return False
        if patient_id:
            return (issuer, patient_id) != patient[:2]
        earlier = self.db.execute(
            "SELECT d.metadata FROM instance i JOIN version v ON v.instance = i.id JOIN document d ON d.version = v.id"
            " WHERE i.study = ? AND v.deleted IS NULL AND v.id <> i.current_version",
            (study,),
        )
        keys = (rows.patient_key(json_model.loads(rows.unpack(body)), "") for (body,) in earlier)
        return any(key[1] and key[:2] != patient[:2] for key in keys)

    def live_versions(self, instance: int) -> list[_Version]:
        """An instance's versions that are not deleted."""
        return [
            _Version(*row)
            for row in self.db.execute(
                "SELECT id, version, header, transfer_syntax, canonical FROM version"
                " WHERE instance = ? AND deleted IS NULL",
                (instance,),
            )
        ]

    def _insert(
        self,
        arrival: Arrival,
        study: Sequence[object] | None,
        instance: Sequence[object] | None,
        versions: list[_Version],
        patient: tuple[str, str, str],
    ) -> Commit:
        key, extract = arrival.key, arrival.extract
        change = self.next_change()
        study_row = self._study_row(arrival, study, patient)
        series_row = self._series_row(arrival, study_row)
        instance_row = self._instance_row(arrival, instance, study_row, series_row, change)
        cursor = self.db.execute(
            "INSERT INTO version (instance, version, role, object_key, data_offset, size, sha256, canonical, header,"
            " transfer_syntax, extractor, committed, deleted, deletion_record)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                instance_row, arrival.version, Role.SUPERSEDED.value, key.object_key(arrival.version),
                arrival.data_offset, arrival.size, arrival.sha256, extract.canonical_digest, extract.header_digest,
                extract.transfer_syntax_uid, EXTRACTOR_VERSION, change,
                change if arrival.deletion_record else None, arrival.deletion_record or None,
            ),
        )  # fmt: skip
        assert cursor.lastrowid is not None
        row = cursor.lastrowid
        self.db.execute(
            "INSERT INTO document (version, metadata, layout) VALUES (?, ?, ?)",
            (row, rows.pack(extract.metadata), rows.layout_document(extract)),
        )
        self.db.executemany(
            "INSERT INTO frame_chunk (version, chunk, body) VALUES (?, ?, ?)",
            [(row, number, body) for number, body in enumerate(extract.frame_chunks)],
        )
        if arrival.deletion_record:
            if instance is None or instance[4] is None:
                self.settle(instance_row)
            return Commit(Outcome.STORED)
        place = feed.Place(key.tenant, study_row, series_row, instance_row, arrival.version)
        ours = _Version(
            row, arrival.version, extract.header_digest, extract.transfer_syntax_uid, extract.canonical_digest
        )
        roles = arrange([*versions, ours])
        for identifier, role in roles.items():
            if identifier == row or len(roles) > 1:
                self.db.execute("UPDATE version SET role = ? WHERE id = ?", (role.value, identifier))
        if roles[row] is Role.CURRENT:
            self._make_current(arrival, row, study_row, series_row, instance_row, versions)
        else:
            self.db.execute("UPDATE instance SET change = ? WHERE id = ?", (change, instance_row))
        if roles[row] is Role.ALTERNATIVE:
            feed.record(self.db, change, Action.ALTERNATIVE, place)
            return Commit(Outcome.ALTERNATIVE)
        feed.record(self.db, change, Action.UPDATED if versions else Action.CREATED, place)
        return Commit(Outcome.NEW_VERSION if versions else Outcome.STORED)

    def _study_row(self, arrival: Arrival, study: Sequence[object] | None, patient: tuple[str, str, str]) -> int:
        if study is not None:
            return int(str(study[0]))
        values = {
            "tenant": arrival.key.tenant,
            "patient": self.voices.patient_row(arrival.key.tenant, patient),
            "live": 0,
            "study_uid": arrival.key.study_uid,
            **voices.study_values(arrival.extract.data_set, arrival.version),
        }
        return self.rows.insert("study", values)

    def _series_row(self, arrival: Arrival, study: int) -> int:
        found = self.db.execute(
            "SELECT id FROM series WHERE study = ? AND series_uid = ?", (study, arrival.key.series_uid)
        ).fetchone()
        if found is not None:
            return int(found[0])
        values = {
            "study": study,
            "live": 0,
            "series_uid": arrival.key.series_uid,
            **voices.series_values(arrival.extract.data_set, arrival.version),
        }
        return self.rows.insert("series", values)

    def _instance_row(
        self, arrival: Arrival, instance: Sequence[object] | None, study: int, series: int, change: int
    ) -> int:
        if instance is not None:
            identifier = int(str(instance[0]))
            if instance[4] is None and not arrival.deletion_record:
                # A tombstone that comes back may stand elsewhere now.
                self.db.execute("UPDATE instance SET study = ?, series = ? WHERE id = ?", (study, series, identifier))
            return identifier
        values = {
            "tenant": arrival.key.tenant,
            "study": study,
            "series": series,
            "current_version": None,
            "change": change,
            "sop_uid": arrival.key.sop_uid,
            **voices.instance_values(arrival.extract.data_set, arrival.extract.sop_class_uid),
        }
        return self.rows.insert("instance", values)

    def _make_current(
        self, arrival: Arrival, row: int, study: int, series: int, instance: int, before: list[_Version]
    ) -> None:
        """Let the instance, and if it is their voice the series and study, speak through a new version."""
        (change,) = self.db.execute("SELECT committed FROM version WHERE id = ?", (row,)).fetchone()
        (current,) = self.db.execute("SELECT current_version FROM instance WHERE id = ?", (instance,)).fetchone()
        values = {
            "current_version": row,
            "change": change,
            **voices.instance_values(arrival.extract.data_set, arrival.extract.sop_class_uid),
        }
        if current is None:
            values["appeared"] = change
        self.rows.update("instance", instance, values)
        self.voices.heard(
            study, series, arrival.extract.data_set, arrival.version, change, {version.version for version in before}
        )

    def quarantine(self, values: Sequence[str]) -> None:
        """Keep a row for a misplaced arrival; the values are the table's columns in their order."""
        version, tenant, object_key, study_uid, series_uid, sop_uid, reason = values
        self.db.execute(
            "INSERT INTO quarantine (version, tenant, object_key, study_uid, series_uid, sop_uid, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (version, tenant, object_key, study_uid, series_uid, sop_uid, reason),
        )

    def keep_series_metadata(self, target: Target, base: str, generation: int, body: bytes) -> None:
        """Keep a consolidated body, unless a later one is there."""
        self.db.execute(
            "INSERT INTO series_metadata (series, base, generation, body)"
            " SELECT e.id, ?, ?, ? FROM series e JOIN study s ON s.id = e.study"
            " WHERE s.tenant = ? AND s.study_uid = ? AND e.series_uid = ?"
            " ON CONFLICT (series) DO UPDATE"
            " SET base = excluded.base, generation = excluded.generation, body = excluded.body"
            " WHERE excluded.generation >= series_metadata.generation",
            (base, generation, body, target.tenant, target.study_uid, target.series_uid),
        )


def _misplaced(instance: Sequence[object], arrival: Arrival) -> str:
    """Why a live instance's UID may not arrive with these identifiers; "" when it may."""
    if instance[1] != arrival.key.study_uid:
        return "the SOP Instance UID is in use in another study"
    if instance[2] != arrival.key.series_uid:
        return "the SOP Instance UID is in use in another series"
    if instance[3] != arrival.extract.sop_class_uid:
        return "the SOP Instance UID is in use with another SOP class"
    return ""


def _refused(arrival: Arrival, versions: Sequence[_Version]) -> Commit | None:
    if arrival.conflict is not Conflict.REJECT or not versions:
        return None
    roles = arrange(versions)
    current = next(version for version in versions if roles[version.id] is Role.CURRENT)
    if _is_alternative(current, arrival.extract.header_digest, arrival.extract.transfer_syntax_uid):
        return None
    return Commit(Outcome.REJECTED, "the SOP Instance UID is in use with other content")
