"""Everything that an index holds of its archive, without the numbers that it gives itself.

Left out: the change feed, its epoch and sequence (a reindex begins them anew), bodies that are kept to be quick, and
commitment requests, which are the gateway's own. Of a version whose object is gone nothing is known but that it was;
what a study or series that no instance stands in says, nobody can ask.
"""

from __future__ import annotations

from typing import Any

from storage.dicom.identifiers import parse_object_key
from storage.index.relational import RelationalIndex

_OWN_NUMBERS = frozenset(
    (
        "id",
        "study",
        "series",
        "instance",
        "patient",
        "current_version",
        "change",
        "appeared",
        "committed",
        "version_row",
    )
)
_DIRECT = ("quarantine", "record")
_JOINED = {
    "study": "SELECT s.*, p.issuer AS of_issuer, p.patient_id AS of_patient_id, p.of_study FROM study s"
    " JOIN patient p ON p.id = s.patient WHERE EXISTS (SELECT 1 FROM instance i WHERE i.study = s.id)",
    "series": "SELECT s.tenant, s.study_uid, e.* FROM series e JOIN study s ON s.id = e.study"
    " WHERE EXISTS (SELECT 1 FROM instance i WHERE i.series = e.id)",
    "instance": "SELECT s.study_uid, e.series_uid, c.version AS current_ulid, i.*, (SELECT count(*) FROM version v"
    " JOIN document d ON d.version = v.id WHERE v.instance = i.id) AS kept FROM instance i"
    " JOIN study s ON s.id = i.study JOIN series e ON e.id = i.series LEFT JOIN version c ON c.id = i.current_version",
    "version": "SELECT i.tenant, i.sop_uid, v.* FROM version v JOIN instance i ON i.id = v.instance",
    "document": "SELECT v.version AS ulid, d.metadata, d.layout FROM document d JOIN version v ON v.id = d.version",
    "frame_chunk": "SELECT v.version AS ulid, f.chunk, f.body FROM frame_chunk f JOIN version v ON v.id = f.version",
    "request_item": "SELECT s.tenant, s.study_uid, e.series_uid, r.* FROM request_item r"
    " JOIN series e ON e.id = r.series JOIN study s ON s.id = e.study",
    "reading_physician": "SELECT s.tenant, s.study_uid, r.* FROM reading_physician r JOIN study s ON s.id = r.study",
    "series_source": "SELECT s.tenant, s.study_uid, e.series_uid, x.source_ae_title FROM series_source x"
    " JOIN series e ON e.id = x.series JOIN study s ON s.id = e.study",
    "name_key": "SELECT s.tenant, s.study_uid, n.* FROM name_key n JOIN study s ON s.id = n.study",
}


def dump(index: RelationalIndex) -> dict[str, list[dict[str, Any]]]:
    """The rows of each table, in an order of their own."""
    found: dict[str, list[dict[str, Any]]] = {}
    with index._reader() as db:
        for table, query in {**{name: f"SELECT * FROM {name}" for name in _DIRECT}, **_JOINED}.items():
            cursor: Any = db.execute(query)
            names = [column[0] for column in cursor.description]
            rows = [_normal(table, dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
            found[table] = sorted(rows, key=repr)
    return found


def _normal(table: str, row: dict[str, Any]) -> dict[str, Any]:
    values = {
        name: bytes(value) if isinstance(value, memoryview) else int(value) if isinstance(value, bool) else value
        for name, value in row.items()
        if name not in _OWN_NUMBERS
    }
    if table == "version":
        values["deleted"] = values["deleted"] is not None
        if values["purge"] == "done":
            key, version = parse_object_key(values["object_key"])
            return {"key": key, "version": version, "record": values["deletion_record"], "purge": "done"}
    return values
