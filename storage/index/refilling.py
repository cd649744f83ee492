"""What a newer schema brings, filled for the rows of an older one from what is stored with them.

Who sent an instance is told by its object alone: see ``storage.reconcile.sources``.
"""

from __future__ import annotations

from storage.dicom import json_model
from storage.dicom.attributes import BY_KEYWORD
from storage.index import rows
from storage.index.database import rows_of
from storage.index.transaction import Transaction
from storage.index.voices import Voices, instance_values

_READING_PHYSICIAN = f'"{BY_KEYWORD["NameOfPhysiciansReadingStudy"].tag}"'.encode()
_AT_ONCE = 1000


def refill(transaction: Transaction) -> None:
    """Write every row's attribute columns again, inside the transaction of the caller.

    One pass over the current versions, then one over series and studies: about a minute for a million instances.
    """
    db, voices = transaction.db, Voices(transaction)
    instances = db.execute(
        "SELECT i.id, i.sop_class_uid, d.metadata FROM instance i JOIN document d ON d.version = i.current_version"
    )
    for identifier, sop_class_uid, metadata in rows_of(instances):
        data_set = json_model.loads(rows.unpack(metadata))
        transaction.update("instance", identifier, instance_values(data_set, sop_class_uid))
    for name in ("series", "study"):
        for (identifier,) in db.execute(f"SELECT id FROM {name} WHERE live").fetchall():
            # As if it had been there from the beginning: no snapshot is older than this schema.
            voices.choose(name, identifier, 0)


def keep_names(transaction: Transaction) -> None:
    """Write the names of the studies that name who reads them, from the attributes that stand in their rows."""
    db, voices, after = transaction.db, Voices(transaction), 0
    while found := db.execute(
        "SELECT id, attributes FROM study WHERE id > ? ORDER BY id LIMIT ?", (after, _AT_ONCE)
    ).fetchall():
        for study, attributes in found:
            if _READING_PHYSICIAN in bytes(attributes):
                voices.keep_names(study, json_model.loads(bytes(attributes)))
        after = found[-1][0]
