"""Columns that a newer schema brings, filled for the rows of an older one from the stored metadata."""

from __future__ import annotations

from storage.dicom import json_model
from storage.index import rows
from storage.index.database import rows_of
from storage.index.transaction import Transaction
from storage.index.voices import Voices, instance_values


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
