"""What became of a study: who saw it, and which versions of an instance there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.access.actions import Action
from gateway.access.door import Door
from gateway.audit import report
from gateway.audit.reading import Wanted
from gateway.context import Caller
from gateway.errors import Gone, NotFound
from gateway.services.audit import AuditService
from storage.dicom import identifiers as ids
from storage.index.base import Index
from storage.index.questions import Target
from storage.index.stored import Existence

MOST_RECORDS = 2000
"""Records of the trail that one question looks at; later ones say more of who looks now."""


@dataclass(frozen=True, slots=True)
class Looks:
    """Who saw a study; ``more`` where older records were not looked at, ``gap`` as in ``services.audit.Page``."""

    seen: Sequence[report.Seen]
    more: bool
    gap: str


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version of an instance that is kept. One that is not current was replaced, or came in another encoding."""

    version: ids.Version
    is_current: bool

    @property
    def received_s(self) -> float:
        """When it came, in Unix time."""
        return ids.version_time_s(self.version)


class HistoryService:
    """Asks the trail and the index.

    Parameters
    ----------
    names
        A study by every name that it has in records of a tenant.
    """

    def __init__(
        self,
        index: Index,
        door: Door,
        audit: AuditService,
        names: Callable[[str, ids.StudyUid], Mapping[str, str]],
    ) -> None:
        self._index = index
        self._door = door
        self._audit = audit
        self._names = names

    def looks(self, caller: Caller, study_uid: ids.StudyUid) -> Looks:
        """Who saw a study of the tenant, also through views. Raises Forbidden, AuditUnavailable, StorageUnavailable."""
        names = self._names(caller.principal.tenant, study_uid)
        wanted = Wanted(actions=report.SEEING, studies=frozenset(names))
        page = self._audit.search(caller, wanted, limit=MOST_RECORDS, asked=f"who saw {study_uid}")
        return Looks(report.seen(page.records, names), page.after is not None, page.gap)

    def versions(
        self, caller: Caller, study_uid: ids.StudyUid, series_uid: ids.SeriesUid, sop_uid: ids.SopUid
    ) -> Sequence[KeptVersion]:
        """The versions of an instance that are not deleted, latest first.

        Raises
        ------
        NotFound, Gone
            It is not there, or not for the caller; or was deleted.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        decision = self._door.enter(caller, Action.READ, (study_uid, series_uid, sop_uid))
        target = Target(decision.tenant, study_uid, series_uid, sop_uid)
        found = {each.version for each in self._index.versions(target, decision.scope)}
        if not found:
            existence = self._index.existence(target, decision.scope)
            raise Gone("deleted") if existence is Existence.DELETED else NotFound("no such instance")
        current = {each.version for each in self._index.locate(target, decision.scope)}
        made = {ids.version_beside(each) for each in found}  # of what was sent, kept in another encoding
        return [KeptVersion(each, each in current) for each in sorted(found - made, reverse=True)]
