"""Delete: a study, series or instance becomes a tombstone by a durable record, and may come back for a grace time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.audit.events import AuditEvent
from gateway.context import Caller
from gateway.errors import Gone, NotFound, UnderHold
from gateway.services.hold import refuse_held
from storage import records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.index.questions import Target
from storage.index.stored import DeletionState, Existence, StoredVersion


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion: its record, what it named, how many versions of those sent it took, and until when it can be undone.

    ``undo_until_s`` is Unix time; ``undoable`` is False once the objects are being removed. ``reason`` names the rule
    by which the gateway itself deleted it.
    """

    record: ids.Version
    study_uid: str
    series_uid: str | None
    sop_uid: str | None
    versions: int
    deleted_s: float
    undo_until_s: float
    undoable: bool
    reason: str


class DeleteService:
    """Deletes what a caller may delete, and undoes it."""

    def __init__(self, archive: Archive, door: Door, grace_s: float) -> None:
        self._archive = archive
        self._door = door
        self._grace_s = grace_s

    def delete(
        self,
        caller: Caller,
        study_uid: ids.StudyUid,
        series_uid: ids.SeriesUid | None = None,
        sop_uid: ids.SopUid | None = None,
    ) -> ids.Version:
        """Delete everything under a target that the caller's scope holds; the deletion's record.

        Raises
        ------
        NotFound, Gone
            Nothing is there, or no longer.
        UnderHold
            A legal hold is on the study or its patient.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        subject = tuple(uid for uid in (study_uid, series_uid, sop_uid) if uid is not None)
        decision = self._door.enter(caller, Action.DELETE, subject)
        target = Target(decision.tenant, study_uid, series_uid, sop_uid)
        versions = self._archive.index.versions(target, decision.scope)
        if not versions:
            existence = self._archive.index.existence(target, decision.scope)
            raise Gone("deleted before") if existence is Existence.DELETED else NotFound("nothing to delete")
        return self._delete(decision, target, versions)

    def expire(
        self, caller: Caller, tenant: ids.Tenant, study_uid: ids.StudyUid, versions: Sequence[StoredVersion], rule: str
    ) -> ids.Version | None:
        """Delete a study by a rule of the settings, of which these versions were all there was; the deletion's record.

        None where something else came meanwhile: then the study is as if this had not been asked for.

        Raises
        ------
        UnderHold
        AuditUnavailable, storage.errors.StorageUnavailable
        """
        decision = self._door.enter_by_itself(caller, Action.DELETE, tenant, (study_uid,), rule)
        target = Target(tenant, study_uid)
        record = self._delete(decision, target, versions, rule)
        if not self._archive.index.versions(target, decision.scope):
            return record
        # What came was not named and is there. But it makes the whole study younger.
        self._archive.restore(tenant, record)
        detail = f"{record}: something came into the study"
        self._door.record(AuditEvent(Action.DELETE.value, "undone", caller, tenant, (study_uid,), detail))
        return None

    def _delete(
        self, decision: Decision, target: Target, versions: Sequence[StoredVersion], rule: str = ""
    ) -> ids.Version:
        caller, tenant = decision.caller, decision.tenant
        subject = tuple(uid for uid in (target.study_uid, target.series_uid, target.sop_uid) if uid is not None)
        try:
            refuse_held(self._archive, tenant, [target.study_uid])
        except UnderHold:
            self._door.record(AuditEvent(Action.DELETE.value, "refused", caller, tenant, subject, "UnderHold"))
            raise
        record = self._archive.delete(target, versions, rule)
        detail = f"{record} by {rule}" if rule else record
        self._door.record(AuditEvent(Action.DELETE.value, "deleted", caller, tenant, subject, detail))
        return record

    def deletions(self, caller: Caller) -> Sequence[Deletion]:
        """Deletions, latest first, of which the caller's scope holds everything and whose objects may be there yet."""
        decision = self._door.enter(caller, Action.DELETE, ("deletions",))
        return [self._of(state) for state in self._archive.index.deletions(decision.tenant, decision.scope)]

    def undo(self, caller: Caller, record: ids.Version) -> int:
        """Make live again what a deletion took; how many versions of those sent.

        Some may stay deleted: others took their place.

        Raises
        ------
        NotFound, Gone
            There is no such deletion, or its objects are being removed.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        decision = self._door.enter(caller, Action.DELETE, ("deletions", record))
        found = self._archive.index.deletions(decision.tenant, decision.scope, record)
        if not found:
            raise NotFound("no such deletion, or it was undone")
        (state,) = found
        if not state.undoable:
            raise Gone("the time to undo the deletion is over")
        restored = self._archive.restore(decision.tenant, record)
        detail = f"{restored} of {state.versions} versions of {record}"
        self._door.record(AuditEvent(Action.DELETE.value, "undone", caller, decision.tenant, (), detail))
        return restored

    def _of(self, state: DeletionState) -> Deletion:
        named = records.loads(state.body)
        assert isinstance(named, records.Deletion)
        deleted_s = ids.version_time_s(state.record)
        return Deletion(
            state.record,
            named.study_uid,
            named.series_uid,
            named.sop_uid,
            state.versions,
            deleted_s,
            deleted_s + self._grace_s,
            state.undoable,
            named.reason,
        )
