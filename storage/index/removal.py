"""Tombstones: deletion, its undoing within the grace time, and what is left after it.

Like ``storage.index.writing`` these work inside one writing transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.index import feed, rows, voices
from storage.index.base import Action, Role
from storage.index.writing import Writer, arrange


def delete(writer: Writer, tenant: str, record: str, body: bytes, versions: Sequence[str]) -> None:
    """Turn versions into tombstones; a record that was applied before changes nothing."""
    if not _keep_record(writer, tenant, record, body):
        return
    touched = _Touched(writer)
    for version in versions:
        change = writer.next_change()
        found = writer.db.execute(
            "UPDATE version SET deleted = ?, deletion_record = ? WHERE version = ? AND deleted IS NULL"
            " RETURNING instance",
            (change, record, version),
        ).fetchone()
        if found is not None:
            place = touched.rearrange(tenant, found[0], change, version)
            feed.record(writer.db, change, Action.DELETED, place)
    touched.revoice()


def restore(writer: Writer, tenant: str, record: str, body: bytes, deletion: str) -> int:
    """Undo a deletion where nothing stands in the way; how many versions are live again."""
    if not _keep_record(writer, tenant, record, body):
        return 0
    found = writer.db.execute(
        "SELECT v.id, v.version, v.instance, v.object_key, d.metadata"
        " FROM version v JOIN document d ON d.version = v.id"
        " WHERE v.deletion_record = ? AND v.purge IS NULL ORDER BY v.version",
        (deletion,),
    ).fetchall()
    touched, restored = _Touched(writer), 0
    for row, version, instance, object_key, metadata in found:
        if not _has_room(writer, instance, object_key, metadata):
            continue
        change = writer.next_change()
        writer.db.execute("UPDATE version SET deleted = NULL, deletion_record = NULL WHERE id = ?", (row,))
        place = touched.rearrange(tenant, instance, change, version)
        feed.record(writer.db, change, Action.RESTORED, place)
        # At once, so that the next one is compared with a living study.
        touched.revoice()
        restored += 1
    return restored


def _keep_record(writer: Writer, tenant: str, record: str, body: bytes) -> bool:
    inserted = writer.db.execute(
        "INSERT INTO record (record, tenant, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (record, tenant, body)
    )
    return bool(inserted.rowcount)


def _has_room(writer: Writer, instance: int, object_key: str, metadata: bytes) -> bool:
    """Whether a version still belongs where its instance stands: others may have taken the UID or the study since."""
    key, _ = ids.parse_object_key(object_key)
    study_uid, series_uid, live, issuer, patient_id = writer.db.execute(
        "SELECT s.study_uid, e.series_uid, s.live, p.issuer, p.patient_id FROM instance i"
        " JOIN study s ON s.id = i.study JOIN series e ON e.id = i.series JOIN patient p ON p.id = s.patient"
        " WHERE i.id = ?",
        (instance,),
    ).fetchone()
    if (study_uid, series_uid) != (key.study_uid, key.series_uid):
        return False
    theirs = rows.patient_key(json_model.loads(rows.unpack(metadata)), study_uid)
    return not live or not patient_id or not theirs[1] or theirs[:2] == (issuer, patient_id)


class _Touched:
    """Studies and series whose instances changed."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._rows: dict[str, set[int]] = {"study": set(), "series": set()}
        self._change = 0

    def rearrange(self, tenant: str, instance: int, change: int, version: str) -> feed.Place:
        """Give an instance's versions their roles anew."""
        db = self._writer.db
        roles = arrange(self._writer.live_versions(instance))
        current = next((identifier for identifier, role in roles.items() if role is Role.CURRENT), None)
        for identifier, role in roles.items():
            db.execute("UPDATE version SET role = ? WHERE id = ?", (role.value, identifier))
        study, series, before, sop_class_uid = db.execute(
            "SELECT study, series, current_version, sop_class_uid FROM instance WHERE id = ?", (instance,)
        ).fetchone()
        values: dict[str, object] = {"current_version": current, "change": change}
        if current is not None and current != before:
            (body,) = db.execute("SELECT metadata FROM document WHERE version = ?", (current,)).fetchone()
            values |= voices.instance_values(json_model.loads(rows.unpack(body)), sop_class_uid)
        if current is not None and before is None:
            values["appeared"] = change
        self._writer.rows.update("instance", instance, values)
        self._rows["study"].add(study)
        self._rows["series"].add(series)
        self._change = change
        return feed.Place(tenant, study, series, instance, version)

    def revoice(self) -> None:
        """Let them speak through what they hold now."""
        for table, identifiers in self._rows.items():
            for identifier in sorted(identifiers):
                self._writer.voices.choose(table, identifier, self._change)
            identifiers.clear()


def purge_due(writer: Writer, before_s: float) -> list[tuple[str, str]]:
    """Versions and object keys of deletions before a time; none of them can be undone any more."""
    found = writer.db.execute(
        "SELECT DISTINCT deletion_record FROM version WHERE deletion_record IS NOT NULL AND purge IS NOT 'done'"
    ).fetchall()
    due: list[tuple[str, str]] = []
    for (record,) in found:
        if ids.version_time_s(ids.Version(record)) < before_s:
            due += writer.db.execute(
                "UPDATE version SET purge = 'due' WHERE deletion_record = ? AND purge IS NOT 'done'"
                " RETURNING version, object_key",
                (record,),
            ).fetchall()
    return due


def purged(writer: Writer, versions: Iterable[str]) -> None:
    """Forget what the objects held: nothing but UIDs stays of an instance, and of a study without any other one."""
    db = writer.db
    series_rows, study_rows = set(), set()
    for version in versions:
        found = db.execute(
            "UPDATE version SET purge = 'done' WHERE version = ? RETURNING id, instance", (version,)
        ).fetchone()
        if found is None:
            continue
        row, instance = found
        db.execute("DELETE FROM document WHERE version = ?", (row,))
        db.execute("DELETE FROM frame_chunk WHERE version = ?", (row,))
        series, study = db.execute("SELECT series, study FROM instance WHERE id = ?", (instance,)).fetchone()
        series_rows.add(series)
        study_rows.add(study)
        kept = db.execute("SELECT 1 FROM version WHERE instance = ? AND purge IS NOT 'done'", (instance,)).fetchone()
        if kept is None:
            _blank_instance(writer, instance)
    for series in series_rows:
        # The consolidated body is stale, and still holds what was deleted.
        db.execute("DELETE FROM series_metadata WHERE series = ?", (series,))
        if not _holds(writer, "series", series):
            writer.rows.update("series", series, voices.series_values({}, ""))
            writer.voices.keep_items(series, {})
    for study in study_rows:
        if not _holds(writer, "study", study):
            _blank_study(writer, study)


def _holds(writer: Writer, table: str, row: int) -> bool:
    """Whether anything of a series or study is still kept."""
    found = writer.db.execute(
        f"SELECT 1 FROM instance i JOIN version v ON v.instance = i.id WHERE i.{table} = ? AND v.purge IS NOT 'done'",
        (row,),
    ).fetchone()
    return found is not None


def _blank_instance(writer: Writer, instance: int) -> None:
    (sop_class_uid,) = writer.db.execute("SELECT sop_class_uid FROM instance WHERE id = ?", (instance,)).fetchone()
    writer.rows.update("instance", instance, voices.instance_values({}, sop_class_uid))


def _blank_study(writer: Writer, study: int) -> None:
    """Let an empty study belong to a patient without a name, and remove the one that has no study left."""
    writer.rows.update("study", study, voices.study_values({}, ""))
    writer.voices.keep_names(study, {})
    tenant, study_uid, patient = writer.db.execute(
        "SELECT tenant, study_uid, patient FROM study WHERE id = ?", (study,)
    ).fetchone()
    nobody = writer.voices.patient_row(tenant, ("", "", study_uid))
    writer.db.execute("UPDATE study SET patient = ? WHERE id = ?", (nobody, study))
    writer.db.execute(
        "DELETE FROM patient WHERE id = ? AND NOT EXISTS (SELECT 1 FROM study WHERE patient = ?)", (patient, patient)
    )


def bury(writer: Writer, key: ids.InstanceKey, version: str, record: str) -> None:
    """A tombstone for a version whose object is gone: it was, and nothing more is known."""
    db = writer.db
    if db.execute("SELECT 1 FROM version WHERE version = ?", (version,)).fetchone() is not None:
        return
    change = writer.next_change()
    patient = writer.voices.patient_row(key.tenant, ("", "", key.study_uid))
    nothing = {**voices.study_values({}, ""), "patient": patient, "live": 0}
    study = _row(writer, "study", {"tenant": key.tenant, "study_uid": key.study_uid}, nothing)
    nothing = {**voices.series_values({}, ""), "live": 0}
    series = _row(writer, "series", {"study": study, "series_uid": key.series_uid}, nothing)
    found = db.execute("SELECT id FROM instance WHERE tenant = ? AND sop_uid = ?", (key.tenant, key.sop_uid)).fetchone()
    if found is None:
        place = {"tenant": key.tenant, "study": study, "series": series, "change": change, "sop_uid": key.sop_uid}
        found = (writer.rows.insert("instance", {**place, **voices.instance_values({}, "")}),)
    db.execute(
        "INSERT INTO version (instance, version, role, object_key, data_offset, size, sha256, canonical, header,"
        " transfer_syntax, extractor, committed, deleted, deletion_record, purge)"
        " VALUES (?, ?, ?, ?, 0, 0, '', '', '', '', 0, ?, ?, ?, 'done')",
        (found[0], version, Role.SUPERSEDED.value, key.object_key(ids.Version(version)), change, change, record),
    )


def _row(writer: Writer, table: str, key: dict[str, object], more: dict[str, object]) -> int:
    where = " AND ".join(f"{name} = ?" for name in key)
    found = writer.db.execute(f"SELECT id FROM {table} WHERE {where}", tuple(key.values())).fetchone()
    return int(found[0]) if found is not None else writer.rows.insert(table, {**more, **key})
