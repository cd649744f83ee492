"""Erasure: versions, and everything that was known of them, leave the index without a tombstone.

Inside one writing transaction, like ``storage.index.removal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from storage.dicom import identifiers as ids
from storage.index.database import Among, Found, Sql
from storage.index.recompressing import beside_but_not_named
from storage.index.removal import Touched, forget_patient, keep_record
from storage.index.writing import Writer

_CHUNK = 500


class _Row(NamedTuple):
    id: int
    object_key: str
    instance: int
    size: int
    purge: str | None
    study: int
    series: int


def erase(writer: Writer, tenant: str, record: str, body: bytes, versions: Sequence[str]) -> list[str]:
    """Remove versions, and the instances, series, studies and patients that hold nothing else.

    What was recompressed from them after the record's author had looked goes too, and the keys of its objects come
    back.
    """
    keep_record(writer, tenant, record, body)
    late = beside_but_not_named(writer, versions)
    _erase(writer, tenant, [*versions, *late])
    return list(late.values())


def _erase(writer: Writer, tenant: str, versions: Sequence[str]) -> None:
    found = _rows(writer, tenant, versions)
    _among(writer, "DELETE FROM quarantine WHERE", "version", versions)
    if not found:
        return
    for row in found:
        if row.purge != "done":
            writer.transaction.used(tenant, -1, -row.size)
    instances = sorted({row.instance for row in found})
    rows = [row.id for row in found]
    # A current version that goes is nobody's any more before its row is.
    _among(writer, "UPDATE instance SET current_version = NULL WHERE", "current_version", rows)
    for table, column in (("document", "version"), ("frame_chunk", "version"), ("version", "id")):
        _among(writer, f"DELETE FROM {table} WHERE", column, rows)
    touched = Touched(writer)
    change = writer.transaction.next_change()
    kept = {row[0] for row in _among_rows(writer, "SELECT DISTINCT instance FROM version WHERE", "instance", instances)}
    for instance in kept:
        touched.rearrange(tenant, instance, change, "")
    _among(writer, "DELETE FROM instance WHERE", "id", [each for each in instances if each not in kept])
    _leave_series({row.series for row in found}, touched, writer, change)
    _leave_studies(_studies(writer, tenant, found), touched, writer, versions)
    touched.revoice()


def _rows(writer: Writer, tenant: str, versions: Sequence[str]) -> list[_Row]:
    found = _among_rows(
        writer,
        "SELECT v.id, v.object_key, v.instance, v.size, v.purge, i.study, i.series"
        " FROM version v JOIN instance i ON i.id = v.instance WHERE",
        "v.version",
        versions,
    )
    rows = [_Row(*row) for row in found]
    return [row for row in rows if row.object_key.startswith(f"{tenant}/")]


def _studies(writer: Writer, tenant: str, found: Iterable[_Row]) -> set[int]:
    """Studies that the versions stood in, or belonged to by their keys."""
    uids = sorted({ids.parse_object_key(row.object_key)[0].study_uid for row in found})
    named = _among_rows(writer, f"SELECT id FROM study WHERE tenant = '{ids.tenant(tenant)}' AND", "study_uid", uids)
    return {row.study for row in found} | {identifier for (identifier,) in named}


def _leave_series(series: set[int], touched: Touched, writer: Writer, change: int) -> None:
    db = writer.db
    for identifier in sorted(series):
        db.write("DELETE FROM series_metadata WHERE series = ?", (identifier,))
        if db.execute("SELECT 1 FROM instance WHERE series = ? LIMIT 1", (identifier,)).fetchone() is not None:
            # The generation of the series must rise, or a body made before would be taken for the present one.
            db.write(
                "UPDATE instance SET change = ? WHERE id = (SELECT max(id) FROM instance WHERE series = ?)",
                (change, identifier),
            )
            touched.stays("series", identifier, change)
            writer.left(identifier)
            continue
        touched.gone("series", identifier)
        db.write("DELETE FROM request_item WHERE series = ?", (identifier,))
        writer.gone(identifier)
        db.write("DELETE FROM series WHERE id = ?", (identifier,))


def _leave_studies(studies: set[int], touched: Touched, writer: Writer, versions: Sequence[str]) -> None:
    db = writer.db
    for identifier in sorted(studies):
        if db.execute("SELECT 1 FROM series WHERE study = ? LIMIT 1", (identifier,)).fetchone() is not None:
            touched.stays("study", identifier, 0)
            db.write(
                "DELETE FROM change WHERE study = ? AND instance IS NOT NULL"
                " AND NOT EXISTS (SELECT 1 FROM instance i WHERE i.id = change.instance)",
                (identifier,),
            )
            _among(writer, f"DELETE FROM change WHERE study = {identifier} AND", "version", versions)
            continue
        touched.gone("study", identifier)
        (patient,) = db.execute("SELECT patient FROM study WHERE id = ?", (identifier,)).fetchone()
        for table in ("name_key", "reading_physician", "change", "study_class"):
            db.write(f"DELETE FROM {table} WHERE study = ?", (identifier,))
        db.write("DELETE FROM study WHERE id = ?", (identifier,))
        forget_patient(writer, patient)


def _among_rows(writer: Writer, select: str, column: str, values: Sequence[object]) -> list[Found]:
    found: list[Found] = []
    for start in range(0, len(values), _CHUNK):
        found += writer.db.run(Sql().add(select).put(Among(column, list(values[start : start + _CHUNK]))))
    return found


def _among(writer: Writer, statement: str, column: str, values: Sequence[object]) -> None:
    """Run a statement without rows for many values at once."""
    for start in range(0, len(values), _CHUNK):
        chosen = Among(column, list(values[start : start + _CHUNK]))
        writer.db.run(Sql().add(statement).put(chosen).add(f"RETURNING {column}"))
