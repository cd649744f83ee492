"""What is in quarantine is removed from there, with its record: it has been stored anew, or nobody wants it."""

from __future__ import annotations

from collections.abc import Iterator

from storage import records
from storage.archive import Archive
from storage.errors import ObjectDamaged, ObjectNotFound
from storage.index.arrivals import Quarantined
from storage.reconcile import erasing
from storage.reconcile.erasing import Doomed, Found


def remove(archive: Archive, item: Quarantined) -> None:
    """Erase an object of the quarantine, and its record, which names nothing else.

    Raises
    ------
    StorageUnavailable
        It is where it was; or the record of the erasure is there, and the background work removes what is left.
    """
    tenant = item.key.tenant
    found = Found(tenant, [item.key.study_uid], [Doomed(item.object_key, item.version, 0, "", quarantined=True)])
    found.records = list(_record_of(archive, item))
    erasing.erase(archive, found)


def _record_of(archive: Archive, item: Quarantined) -> Iterator[str]:
    """The key of the record that put it there: written after the object, so mostly among the first that follow."""
    prefix = records.prefix(item.key.tenant)
    later = archive.objects.list(prefix, start_after=f"{prefix}{item.version}")
    for info in later:
        try:
            record = records.loads(archive.objects.get(info.key))
        except (ObjectDamaged, ObjectNotFound):
            continue
        if isinstance(record, records.Quarantine) and record.object_key == item.object_key:
            yield info.key
            return
