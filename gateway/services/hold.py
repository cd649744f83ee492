"""Legal holds: what is held cannot be deleted, purged or erased, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.audit.events import AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.context import Caller
from gateway.errors import InvalidParameter, NotFound, UnderHold
from storage import records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.index.stored import Held, HoldState


def refuse_held(archive: Archive, tenant: ids.Tenant, study_uids: Sequence[ids.StudyUid]) -> None:
    """Raise UnderHold where a hold is on one of the studies, or on the patient of one."""
    if archive.index.held(tenant, study_uids):
        raise UnderHold("a legal hold is on it; what is held stays")


class HoldService:
    """Adds, ends and lists holds, for who administers the gateway."""

    def __init__(self, archive: Archive, trail: AuditTrail) -> None:
        self._archive = archive
        self._trail = trail

    def add(self, caller: Caller, tenant: ids.Tenant, held: Held) -> ids.Version:
        """Put a hold on a study or patient, there or not; its record.

        Raises
        ------
        InvalidParameter
            Not exactly one of study and patient is named.
        AuditUnavailable, storage.errors.StorageUnavailable
        """
        if bool(held.study_uid) == bool(held.patient_id):
            raise InvalidParameter("a hold is on a study or on a patient")
        subject = (str(ids.study_uid(held.study_uid)),) if held.study_uid else ()
        self._trail.write(AuditEvent("hold", "allowed", caller, tenant, subject))
        record = self._archive.new_version()
        body = records.Hold(held).dumps()
        self._archive.objects.put(records.key(tenant, record), [body])
        self._archive.index.hold(tenant, record, body, held)
        self._trail.write(AuditEvent("hold", "added", caller, tenant, subject, record))
        return record

    def remove(self, caller: Caller, tenant: ids.Tenant, hold: ids.Version) -> None:
        """End a hold, by its record. Raises NotFound, AuditUnavailable, storage.errors.StorageUnavailable."""
        self._trail.write(AuditEvent("hold", "allowed", caller, tenant, (), hold))
        if not any(state.record == hold for state in self.in_force(tenant)):
            raise NotFound("there is no such hold, or it has ended; `gateway hold list` lists those in force")
        record = self._archive.new_version()
        body = records.Release(hold).dumps()
        self._archive.objects.put(records.key(tenant, record), [body])
        self._archive.index.release(tenant, record, body, hold)
        self._trail.write(AuditEvent("hold", "removed", caller, tenant, (), hold))

    def in_force(self, tenant: ids.Tenant) -> list[HoldState]:
        """A tenant's holds that have not ended, oldest first."""
        return [state for _, state in self._archive.index.in_force(tenant)]
