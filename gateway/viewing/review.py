"""Review of what a view withholds: somebody has looked at an instance, and answers for it."""

from __future__ import annotations

from gateway.audit.events import AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.context import Caller
from gateway.errors import InvalidParameter, NotFound
from gateway.viewing.following import Follower, Report
from gateway.viewing.writing import SUSPECT
from storage.archive import Archive


class Review:
    """Releases instances into one view."""

    def __init__(self, shown: Archive, follower: Follower, trail: AuditTrail) -> None:
        self._shown = shown
        self._follower = follower
        self._trail = trail

    def release(self, caller: Caller, sop_uid: str, reason: str) -> None:
        """Show an instance that was withheld since text may be burned in: its pixels go as they are.

        Raises
        ------
        NotFound
            It is not withheld.
        InvalidParameter
            It is withheld for another reason, which nobody can answer for, or for such a one now.
        AuditUnavailable, storage.errors.StorageUnavailable
        """
        tenant = self._follower.definition.tenant
        found = next((each for each in self._shown.index.quarantined(tenant) if each.key.sop_uid == sop_uid), None)
        if found is None:
            raise NotFound("the view does not withhold such an instance")
        if not found.reason.startswith(SUSPECT):
            raise InvalidParameter(f"only what may have text burned in can be released, and here {found.reason}")
        subject = (found.key.study_uid, found.key.series_uid, found.key.sop_uid)
        view = self._follower.definition.name
        self._trail.write(AuditEvent("export", "released", caller, tenant, subject, reason, view=view))
        self._follower.release(found, Report())
        for again in self._shown.index.quarantined(tenant, found.key.study_uid):
            if again.key.sop_uid == sop_uid:
                raise InvalidParameter(f"it is withheld all the same: {again.reason}")
