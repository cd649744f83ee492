"""Delete: a study, series or instance becomes a tombstone, by a durable record."""

from __future__ import annotations

from gateway.access.door import Door
from gateway.access.policy import Action
from gateway.context import Caller
from gateway.errors import Gone, NotFound
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.index.base import Existence, Target


class DeleteService:
    """Deletes what a caller may delete."""

    def __init__(self, archive: Archive, door: Door) -> None:
        self._archive = archive
        self._door = door

    def delete(
        self,
        caller: Caller,
        study_uid: ids.StudyUid,
        series_uid: ids.SeriesUid | None = None,
        sop_uid: ids.SopUid | None = None,
    ) -> int:
        """Delete everything under a target that the caller's scope holds; the number of versions it was.

        Raises
        ------
        NotFound, Gone
            Nothing is there, or no longer.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        subject = tuple(uid for uid in (study_uid, series_uid, sop_uid) if uid is not None)
        decision = self._door.enter(caller, Action.DELETE, subject)
        target = Target(decision.tenant, study_uid, series_uid, sop_uid)
        versions = self._archive.index.versions(target, decision.scope)
        if not versions:
            existence = self._archive.index.existence(target, decision.scope)
            raise Gone("deleted before") if existence is Existence.DELETED else NotFound("nothing to delete")
        self._archive.delete(target, versions)
        return len(versions)
