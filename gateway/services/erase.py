"""Erasure of a patient or study on request, and the certificate of what was erased."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.audit.events import AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.context import Caller
from gateway.errors import NotFound, UnderHold
from gateway.services.hold import refuse_held
from storage import reconcile
from storage.archive import Archive
from storage.control.steps import Steps
from storage.dicom import identifiers as ids
from storage.index.base import Index

ELSEWHERE = (
    "backups and copies of the objects, the index and the audit trail made before, until they are overwritten; "
    "a gateway that reads this archive restores nothing from them: the record keeps the objects out",
    "versions that the bucket itself keeps, where its versioning is on",
    "read caches of other hosts, below cache in their storage directory, until they compare them with the index, every "
    "s3.cache_compare_interval_s; of a host that is off, until it is started again. Nothing leads there any more",
    "pictures of it that HTTP workers rendered, in their memory, for ten minutes",
    "free pages of the database, until they are used again: VACUUM rewrites them",
    "whoever retrieved the images before",
)
"""What may still hold it, and is not the gateway's to remove."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was erased, or with ``record`` None would be. It names studies and digests, and nobody."""

    tenant: ids.Tenant
    found: reconcile.Found
    record: ids.Version | None
    by: str
    at: datetime.datetime
    kept_indexes: Sequence[str]
    views: Mapping[str, int]
    """Objects that were erased from each view."""
    steps: int
    """Procedure steps, scheduled and performed."""

    def document(self) -> Mapping[str, object]:
        """As JSON values."""
        versions = self.found.versions
        return {
            "certificate": "erasure" if self.record else "rehearsal of an erasure: nothing was erased",
            "record": self.record,
            "tenant": self.tenant,
            "at": self.at.isoformat(timespec="seconds"),
            "by": self.by,
            "studies": list(self.found.studies),
            "versions": len(versions),
            "quarantined": sum(each.quarantined for each in versions),
            "bytes": sum(each.size for each in versions),
            "records_removed": len(self.found.records),
            "objects_of_views": dict(self.views),
            "procedure_steps": self.steps,
            "sha256_of_objects": sorted(each.sha256 for each in versions if each.sha256),
            "left_since_they_are_arriving": len(self.found.arriving),
            "may_still_be_in": [*(f"the index kept by a reindex: {name}" for name in self.kept_indexes), *ELSEWHERE],
        }


class View(Protocol):
    """A de-identified view, as far as an erasure needs it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def erasure(self, index: Index, studies: Sequence[ids.StudyUid]) -> Callable[[], int]:
        """What removes all that was made of studies, whose they are asked now; it tells how many objects there were."""
        ...


class EraseService:
    """Erases, for who administers the gateway.

    Parameters
    ----------
    kept_indexes
        Older indexes that a reindex left beside.
    views
        The de-identified views of the tenant.
    """

    def __init__(
        self,
        archive: Archive,
        trail: AuditTrail,
        steps: Steps,
        kept_indexes: Sequence[str] = (),
        views: Sequence[View] = (),
    ) -> None:
        self._archive = archive
        self._steps = steps
        self._trail = trail
        self._kept_indexes = kept_indexes
        self._views = views

    def erase(
        self, caller: Caller, tenant: ids.Tenant, whose: reconcile.Patient | ids.StudyUid, *, rehearse: bool = False
    ) -> Certificate:
        """Remove everything of a patient or study for good: there is no undo.

        Parameters
        ----------
        rehearse
            Only look what would go.

        Raises
        ------
        NotFound
            There is nothing.
        UnderHold
            A hold is on one of the studies, or on the patient. Nothing is erased then.
        AuditUnavailable, storage.errors.StorageUnavailable
        """
        subject = () if isinstance(whose, reconcile.Patient) else (whose,)
        self._trail.write(AuditEvent("erase", "rehearsed" if rehearse else "allowed", caller, tenant, subject))
        found = reconcile.find(self._archive, tenant, whose)
        patient = (whose.patient_id, whose.issuer) if isinstance(whose, reconcile.Patient) else None
        studies = [*found.studies, *subject]
        steps = self._steps.erase(tenant, studies, patient, rehearse=True)
        try:
            self._refuse(tenant, whose, found, steps)
        except (UnderHold, NotFound) as error:
            self._trail.write(AuditEvent("erase", "refused", caller, tenant, subject, type(error).__name__))
            raise
        views: dict[str, int] = {}
        record = None
        if not rehearse:
            erasures = {each.name: each.erasure(self._archive.index, found.studies) for each in self._views}
            # Before the archive's, so that the command can be given again; and after, since a view follows it.
            views = {name: erase() for name, erase in erasures.items()}
            record = reconcile.erase(self._archive, found)
            steps = self._steps.erase(tenant, studies, patient)
            for name, erase in erasures.items():
                views[name] += erase()
            detail = f"{len(found.versions)} versions and {steps} procedure steps by record {record}"
            self._trail.write(AuditEvent("erase", "erased", caller, tenant, tuple(found.studies), detail))
        now = datetime.datetime.now(datetime.UTC)
        return Certificate(tenant, found, record, caller.principal.name, now, self._kept_indexes, views, steps)

    def _refuse(
        self, tenant: ids.Tenant, whose: reconcile.Patient | ids.StudyUid, found: reconcile.Found, steps: int
    ) -> None:
        refuse_held(self._archive, tenant, found.studies)
        if isinstance(whose, reconcile.Patient):
            named = [state.held for _, state in self._archive.index.in_force(tenant)]
            if any((each.issuer, each.patient_id) == (whose.issuer, whose.patient_id) for each in named):
                raise UnderHold("a legal hold is on the patient; what is held stays")
        if not found.versions and not steps:
            raise NotFound("there is nothing to erase: neither rows nor objects nor anything in quarantine")
