"""Tombstones: deletion, its undoing within the grace time, and what is left after it.

Like ``storage.index.writing`` these work inside one writing transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.index import feed, recompressing, rows, sources, voices
from storage.index.arrivals import Role
from storage.index.changes import Action
from storage.index.database import Among, Sql
from storage.index.writing import Writer, arrange

ON_STUDY = (
    "h.released = '' AND h.tenant = s.tenant AND (h.study_uid = s.study_uid"
    " OR (h.study_uid = '' AND h.patient_id = p.patient_id AND h.issuer = p.issuer))"
)
"""That hold ``h`` is on study ``s`` of patient ``p``."""


def delete(writer: Writer, tenant: str, record: str, body: bytes, versions: Sequence[str]) -> list[str]:
    """Turn versions into tombstones; a record that was applied before changes nothing.

    What was recompressed from them after the record's author had looked has no place in it: its row goes, and the key
    of its object comes back.
    """
    if not keep_record(writer, tenant, record, body):
        return []
    late = recompressing.beside_but_not_named(writer, versions, live=True)
    for version in late:
        _withdraw(writer, tenant, version)
    touched = Touched(writer)
    for version in versions:
        change = writer.transaction.next_change()
        found = writer.db.execute(
            "UPDATE version SET deleted = ?, deletion_record = ?, role = ? WHERE version = ? AND deleted IS NULL"
            " RETURNING instance, beside",
            (change, record, Role.SUPERSEDED.value, version),
        ).fetchone()
        # Of two deletions at once the later record counts, as it does in the bucket.
        writer.db.write(
            "UPDATE version SET deletion_record = ? WHERE version = ? AND deletion_record < ? AND purge IS NULL",
            (record, version, record),
        )
        if found is not None:
            place = touched.rearrange(tenant, found[0], change, version)
            if found[1] is None:
                feed.record(writer.transaction, change, Action.DELETED, place)
    touched.revoice()
    return list(late.values())


class _Deleted(NamedTuple):
    id: int
    version: str
    object_key: str
    canonical: str
    instance: int
    metadata: bytes
    beside: str | None


def _undoable(writer: Writer, tenant: str, which: Sql) -> list[_Deleted]:
    """Those of some deleted versions ``v`` that no purge has begun to remove, oldest first."""
    found = (
        Sql()
        .add("SELECT v.id, v.version, v.object_key, v.canonical, v.instance, d.metadata, v.beside")
        .add("FROM version v JOIN document d ON d.version = v.id JOIN instance i ON i.id = v.instance WHERE")
        .extend(which)
        .add("AND v.purge IS NULL AND i.tenant = ? ORDER BY v.version", tenant)
    )
    return [_Deleted(*row) for row in writer.db.run(found)]


def restorable(writer: Writer, tenant: str, deletion: str) -> list[tuple[str, str, bool]]:
    """Versions and object keys of what an undoing would bring back, and whether it stands beside something."""
    found = _undoable(writer, tenant, Sql().add("v.deletion_record = ?", deletion))
    back: dict[str, tuple[str, str, bool]] = {}
    for each in found:
        if (each.beside in back and _is_free(writer, each)) if each.beside else _has_room(writer, each):
            back[each.version] = each.version, each.object_key, each.beside is not None
    return list(back.values())


def restore(
    writer: Writer, tenant: str, record: str, body: bytes, deletion: str, versions: Collection[str]
) -> list[str]:
    """Undo a deletion of some versions where nothing stands in the way; those that are live now, by whoever's doing."""
    if keep_record(writer, tenant, record, body):
        _restore(writer, tenant, deletion, versions)
    live = (
        Sql().add("SELECT version FROM version WHERE").put(Among("version", list(versions))).add("AND deleted IS NULL")
    )
    return [version for (version,) in writer.db.run(live)]


def _restore(writer: Writer, tenant: str, deletion: str, wanted: Collection[str]) -> None:
    # With a deletion those before it are undone: of two at once this index may have heard of the first one only.
    which = Sql().put(Among("v.version", list(wanted))).add("AND v.deletion_record <= ?", deletion)
    touched = Touched(writer)
    for each in _undoable(writer, tenant, which):
        if not _has_room(writer, each):
            continue
        change = writer.transaction.next_change()
        writer.move(each.instance, each.object_key)
        writer.db.write("UPDATE version SET deleted = NULL, deletion_record = NULL WHERE id = ?", (each.id,))
        place = touched.rearrange(tenant, each.instance, change, each.version)
        if each.beside is None:
            feed.record(writer.transaction, change, Action.RESTORED, place)
        # At once, so that the next one is compared with a living study.
        touched.revoice()


def keep_record(writer: Writer, tenant: str, record: str, body: bytes) -> bool:
    """Keep a record's row; False when it was there."""
    inserted = writer.db.execute(
        "INSERT INTO record (record, tenant, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING record",
        (record, tenant, body),
    )
    return inserted.fetchone() is not None


def _has_room(writer: Writer, deleted: _Deleted) -> bool:
    """Whether a version may stand at its place again: what it stands beside has to be there, see also ``_is_free``."""
    source = "SELECT 1 FROM version WHERE version = ? AND deleted IS NULL"
    if deleted.beside and writer.db.execute(source, (deleted.beside,)).fetchone() is None:
        return False
    return _is_free(writer, deleted)


def _is_free(writer: Writer, deleted: _Deleted) -> bool:
    """Whether a version's place is: others may have taken the UID, the content or the study since."""
    key, _ = ids.parse_object_key(deleted.object_key)
    data_set = json_model.loads(rows.unpack(deleted.metadata))
    study_uid, series_uid, sop_class_uid, current = writer.db.execute(
        "SELECT s.study_uid, e.series_uid, i.sop_class_uid, i.current_version FROM instance i"
        " JOIN study s ON s.id = i.study JOIN series e ON e.id = i.series WHERE i.id = ?",
        (deleted.instance,),
    ).fetchone()
    if current is not None:
        there = (study_uid, series_uid, sop_class_uid)
        if there != (key.study_uid, key.series_uid, json_model.text_of(data_set, voices.SOP_CLASS_UID)):
            return False
        if any(version.canonical == deleted.canonical for version in writer.live_versions(deleted.instance)):
            return False
    (study,) = writer.db.execute(
        "SELECT id FROM study WHERE tenant = ? AND study_uid = ?", (key.tenant, key.study_uid)
    ).fetchone()
    return not writer.of_another(study, rows.patient_key(data_set, key.study_uid))


class Touched:
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
            db.write("UPDATE version SET role = ? WHERE id = ?", (role.value, identifier))
        study, series, before = db.execute(
            "SELECT study, series, current_version FROM instance WHERE id = ?", (instance,)
        ).fetchone()
        values: dict[str, object] = {"current_version": current, "change": change}
        if current is not None and current != before:
            (body,) = db.execute("SELECT metadata FROM document WHERE version = ?", (current,)).fetchone()
            data_set = json_model.loads(rows.unpack(body))
            values |= voices.instance_values(data_set, json_model.text_of(data_set, voices.SOP_CLASS_UID))
        if current is not None and before is None:
            values["appeared"] = change
        self._writer.transaction.update("instance", instance, values)
        if current is None:
            self._writer.settle(instance)
        self._rows["study"].add(study)
        self._rows["series"].add(series)
        self._change = change
        return feed.Place(tenant, study, series, instance, version)

    def stays(self, table: str, identifier: int, change: int) -> None:
        """Note a study or series of which something went and something is left."""
        self._rows[table].add(identifier)
        self._change = max(self._change, change)

    def gone(self, table: str, identifier: int) -> None:
        """Note that a study or series has no row any more."""
        self._rows[table].discard(identifier)

    def leave(self, study: int, series: int, change: int) -> None:
        """Note that an instance has gone from a series and study; those that hold nothing else go too."""
        db = self._writer.db
        self._change = change
        study_key, series_key = self._keys(study, series)
        if db.execute("SELECT 1 FROM instance WHERE series = ?", (series,)).fetchone() is not None:
            # The generation of the series must rise, or a body made before would be taken for the present one.
            db.write(
                "UPDATE instance SET change = ? WHERE id = (SELECT max(id) FROM instance WHERE series = ?)",
                (change, series),
            )
            self._rows["series"].add(series)
        elif self._named(series_key):
            self._rows["series"].add(series)
        else:
            for table in ("series_metadata", "request_item"):
                db.write(f"DELETE FROM {table} WHERE series = ?", (series,))
            # By study, by which changes are found.
            db.write("DELETE FROM change WHERE study = ? AND series = ?", (study, series))
            self._writer.gone(series)
            db.write("DELETE FROM series WHERE id = ?", (series,))
        held = db.execute("SELECT 1 FROM instance WHERE study = ?", (study,)).fetchone()
        series_left = db.execute("SELECT 1 FROM series WHERE study = ?", (study,)).fetchone()
        if held is not None or series_left is not None or self._named(study_key):
            self._rows["study"].add(study)
            return
        (patient,) = db.execute("SELECT patient FROM study WHERE id = ?", (study,)).fetchone()
        for table in ("name_key", "reading_physician", "change", "study_class"):
            db.write(f"DELETE FROM {table} WHERE study = ?", (study,))
        db.write("DELETE FROM study WHERE id = ?", (study,))
        forget_patient(self._writer, patient)

    def _keys(self, study: int, series: int) -> tuple[str, str]:
        tenant, study_uid, series_uid = self._writer.db.execute(
            "SELECT s.tenant, s.study_uid, e.series_uid FROM study s JOIN series e ON e.study = s.id"
            " WHERE s.id = ? AND e.id = ?",
            (study, series),
        ).fetchone()
        return f"{tenant}/{study_uid}/", f"{tenant}/{study_uid}/{series_uid}/"

    def _named(self, prefix: str) -> bool:
        """Whether a version belongs at a place, wherever its instance stands: an undoing may bring it back there."""
        found = self._writer.db.execute(
            "SELECT 1 FROM version WHERE substr(object_key, 1, ?) = ? LIMIT 1", (len(prefix), prefix)
        ).fetchone()
        return found is not None

    def revoice(self) -> None:
        """Let them speak through what they hold now."""
        for table, identifiers in self._rows.items():
            for identifier in sorted(identifiers):
                self._writer.voices.choose(table, identifier, self._change)
            identifiers.clear()
        self._writer.revoice()


def purge_due(writer: Writer, before_s: float) -> list[tuple[str, str]]:
    """Versions and object keys of deletions before a time; none of them can be undone any more."""
    found = writer.db.execute(
        "SELECT DISTINCT deletion_record FROM version"
        " WHERE deletion_record IS NOT NULL AND coalesce(purge, '') <> 'done'"
    ).fetchall()
    due: list[tuple[str, str]] = []
    for (record,) in found:
        if ids.version_time_s(ids.Version(record)) < before_s:
            due += writer.db.execute(
                "UPDATE version SET purge = 'due' WHERE deletion_record = ? AND coalesce(purge, '') <> 'done'"
                f" AND NOT EXISTS (SELECT 1 FROM instance i JOIN study s ON s.id = i.study"
                f" JOIN patient p ON p.id = s.patient JOIN hold h ON {ON_STUDY} WHERE i.id = version.instance)"
                " RETURNING version, object_key",
                (record,),
            ).fetchall()
    return due


def purged(writer: Writer, versions: Iterable[str]) -> None:
    """Forget what the objects held: nothing but UIDs stays of an instance, and of a study without any other one."""
    db = writer.db
    touched: dict[str, set[int]] = {"instance": set(), "series": set(), "study": set()}
    for version in versions:
        found = db.execute(
            "UPDATE version SET purge = 'done', source_ae_title = ''"
            " WHERE version = ? AND coalesce(purge, '') <> 'done'"
            " RETURNING id, instance, size, object_key",
            (version,),
        ).fetchone()
        if found is None:
            continue
        row, instance, size, object_key = found
        writer.transaction.used(ids.parse_object_key(object_key)[0].tenant, -1, -size)
        db.write("DELETE FROM document WHERE version = ?", (row,))
        db.write("DELETE FROM frame_chunk WHERE version = ?", (row,))
        series, study = db.execute("SELECT series, study FROM instance WHERE id = ?", (instance,)).fetchone()
        for table, identifier in (("instance", instance), ("series", series), ("study", study)):
            touched[table].add(identifier)
    for instance in sorted(touched["instance"]):
        (current,) = db.execute("SELECT current_version FROM instance WHERE id = ?", (instance,)).fetchone()
        if current is None:
            writer.voices.choose_instance(instance)
    for series in touched["series"]:
        # The consolidated body is stale, and still holds what was deleted.
        db.write("DELETE FROM series_metadata WHERE series = ?", (series,))
        sources.tell(writer.transaction, series)
    change = 0  # nothing begins to live by this
    for table in ("series", "study"):
        for identifier in sorted(touched[table]):
            (patient,) = _patient_of(writer, identifier) if table == "study" else (None,)
            writer.voices.choose(table, identifier, change)
            if patient is not None:
                forget_patient(writer, patient)


def _patient_of(writer: Writer, study: int) -> tuple[int]:
    found: tuple[int] = writer.db.execute("SELECT patient FROM study WHERE id = ?", (study,)).fetchone()
    return found


def forget_patient(writer: Writer, patient: int) -> None:
    """Remove a patient who has no study left."""
    writer.db.write(
        "DELETE FROM patient WHERE id = ? AND NOT EXISTS (SELECT 1 FROM study WHERE patient = ?)", (patient, patient)
    )


def bury(writer: Writer, key: ids.InstanceKey, version: str, record: str) -> None:
    """A tombstone for a version whose object is gone: it was, and nothing more is known."""
    db = writer.db
    if db.execute("SELECT 1 FROM version WHERE version = ?", (version,)).fetchone() is not None:
        return
    change = writer.transaction.next_change()
    patient = writer.voices.patient_row(key.tenant, ("", "", key.study_uid))
    nothing = {**voices.study_values({}, ""), "patient": patient, "live": False}
    study = _row(writer, change, "study", {"tenant": key.tenant, "study_uid": key.study_uid}, nothing)
    nothing = {**voices.series_values({}, ""), "live": False}
    series = _row(writer, change, "series", {"study": study, "series_uid": key.series_uid}, nothing)
    found = db.execute(
        "SELECT id, current_version FROM instance WHERE tenant = ? AND sop_uid = ?", (key.tenant, key.sop_uid)
    ).fetchone()
    if found is None:
        found = (change, None)
        place = {"tenant": key.tenant, "study": study, "series": series, "change": change, "sop_uid": key.sop_uid}
        writer.transaction.insert("instance", {"id": change, **place, **voices.instance_values({}, "")})
    instance, current = found
    writer.transaction.insert(
        "version",
        {
            "id": change, "instance": instance, "version": version, "role": Role.SUPERSEDED.value,
            "object_key": key.object_key(ids.Version(version)), "data_offset": 0, "size": 0, "sha256": "",
            "canonical": "", "header": "", "transfer_syntax": "", "extractor": 0, "committed": change,
            "deleted": change, "deletion_record": record, "purge": "done", "source_ae_title": "",
        },
    )  # fmt: skip
    if current is None:
        writer.settle(instance)
        writer.revoice()


def _row(writer: Writer, change: int, table: str, key: dict[str, object], more: dict[str, object]) -> int:
    where = " AND ".join(f"{name} = ?" for name in key)
    found = writer.db.execute(f"SELECT id FROM {table} WHERE {where}", tuple(key.values())).fetchone()
    if found is not None:
        return int(found[0])
    writer.transaction.insert(table, {"id": change, **more, **key})
    return change


def withdraw(writer: Writer, tenant: str, version: str) -> None:
    """Take a version's row back, and those of what it stood in as far as nothing else does."""
    for each in (*recompressing.beside_but_not_named(writer, [version]), version):
        _withdraw(writer, tenant, each)


def _withdraw(writer: Writer, tenant: str, version: str) -> None:
    db = writer.db
    found = db.execute(
        "SELECT v.id, v.instance, i.study, i.series, i.current_version, v.size, v.purge FROM version v"
        " JOIN instance i ON i.id = v.instance WHERE v.version = ? AND i.tenant = ?",
        (version, tenant),
    ).fetchone()
    if found is None:
        return
    row, instance, study, series, current, size, purge = found
    if purge != "done":
        writer.transaction.used(tenant, -1, -size)
    change = writer.transaction.next_change()
    if current == row:
        db.write("UPDATE instance SET current_version = NULL WHERE id = ?", (instance,))
    db.write("DELETE FROM change WHERE instance = ? AND version = ?", (instance, version))
    for table in ("document", "frame_chunk"):
        db.write(f"DELETE FROM {table} WHERE version = ?", (row,))
    db.write("DELETE FROM version WHERE id = ?", (row,))
    db.write("DELETE FROM series_metadata WHERE series = ?", (series,))
    touched = Touched(writer)
    if db.execute("SELECT 1 FROM version WHERE instance = ?", (instance,)).fetchone() is not None:
        touched.rearrange(tenant, instance, change, version)
    else:
        db.write("DELETE FROM change WHERE instance = ?", (instance,))
        db.write("DELETE FROM instance WHERE id = ?", (instance,))
    writer.left(series)
    touched.leave(study, series, change)
    touched.revoice()
