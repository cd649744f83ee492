"""Retention: studies that every rule has let go are deleted, as DELETE would, by the gateway itself or by a command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.audit.events import AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.config.keeping import LifecycleSettings, RetentionRule
from gateway.context import Caller
from gateway.errors import UnderHold
from gateway.services import rules as about
from gateway.services.delete import DeleteService
from gateway.services.keeping import Dates, Kept, keep
from gateway.services.rules import Day, Uncovered, arrived, before_day, days_before
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Ageing, Cost, Search, Target
from storage.index.stored import AgedStudy

_PAGE = 200
_COUNTING = Cost(timeout_s=60.0)


@dataclass(frozen=True, slots=True)
class Due:
    """A study that every rule has let go: by which rule last, and how many versions and bytes it has."""

    tenant: ids.Tenant
    study: AgedStudy
    kept: Kept
    versions: int
    size: int

    @property
    def reason(self) -> str:
        """What its deletion is recorded with."""
        return f"retention: {self.kept.rule}"


@dataclass(slots=True)
class Look(about.Look):
    """What a look met; ``held`` counts studies that are due and under a legal hold."""

    held: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a round: what it removed of a tenant.

    ``waiting`` studies are so many that a person has to agree; None while they are being counted.
    """

    tenant: ids.Tenant
    removed: Sequence[Due] = ()
    waiting: int | None = None


class RetentionService:
    """Looks what is due, and removes it.

    Parameters
    ----------
    today
        The day in UTC; for tests.
    """

    def __init__(
        self,
        archive: Archive,
        delete: DeleteService,
        trail: AuditTrail,
        rules: Sequence[RetentionRule],
        bounds: LifecycleSettings,
        today: Day | None = None,
    ) -> None:
        self._archive = archive
        self._delete = delete
        self._trail = trail
        self._rules = rules
        self._bounds = bounds
        self._fixed = today

    def tenants(self) -> list[ids.Tenant]:
        """Tenants that have something stored, and a rule."""
        return about.tenants_with(self._rules, self._archive.index)

    def look(self, tenant: ids.Tenant, look: Look) -> Iterator[list[Due]]:
        """Studies of a tenant that are due, page by page, some of them empty; what else was met goes into ``look``."""
        today = self._today()
        asked = self._ageing(tenant, today)
        while page := self._archive.index.aged(asked):
            look.studies += len(page)
            found = [due for study in page if (due := self._due(tenant, study, today, look)) is not None]
            held = self._archive.index.held(tenant, [due.study.study_uid for due in found]) if found else frozenset()
            look.held += len(held)
            yield [due for due in found if due.study.study_uid not in held]
            asked = replace(asked, after=page[-1].version)

    def remove(self, caller: Caller, due: Due) -> bool:
        """Delete a study, unless it is not due any more: something came, or it was held, or somebody else deleted it.

        Raises
        ------
        AuditUnavailable, storage.errors.StorageUnavailable
        """
        study = due.study
        versions = self._archive.index.versions(Target(due.tenant, study.study_uid), EVERYTHING)
        if self._let_go(due.tenant, study, [each.version for each in versions], self._today()) is None:
            return False
        try:
            return self._delete.expire(caller, due.tenant, study.study_uid, versions, due.reason) is not None
        except UnderHold:
            return False

    def round(self, caller: Caller) -> Iterator[Step]:
        """One round over all tenants in steps, between which others have their turn.

        Of a tenant of which more is due than ``max_percent`` nothing is removed: the rules, or the clock, may be wrong.
        """
        left = self._bounds.max_studies_per_round
        for tenant in self.tenants():
            if left <= 0:
                return
            found: list[Due] = []
            most, many = self._allowed(tenant), 0
            for page in self.look(tenant, Look()):
                many += len(page)
                found += page[: left - len(found)]
                yield Step(tenant)
                if many > most:
                    break
            if many > most:
                detail = f"more than {most} studies are due, {self._bounds.max_percent:g} % of them"
                self._trail.write(AuditEvent("retention", "waiting", caller, tenant, (), detail))
                yield Step(tenant, waiting=many)
                continue
            yield Step(tenant, waiting=0)
            size = self._bounds.batch_studies
            for start in range(0, len(found), size):
                removed = [due for due in found[start : start + size] if self.remove(caller, due)]
                left -= len(removed)
                yield Step(tenant, removed)

    def _allowed(self, tenant: ids.Tenant) -> int:
        studies = self._archive.index.count(Search(tenant, Level.STUDY, cost=_COUNTING))
        return max(1, int(studies * self._bounds.max_percent / 100))

    def _today(self) -> Day:
        return self._fixed or about.today()

    def _ageing(self, tenant: ids.Tenant, today: Day) -> Ageing:
        """Studies that the shortest rule may have let go; the rest of the archive is not looked at."""
        rules = about.of_tenant(self._rules, tenant)
        dated = [rule.keep_days for rule in rules if rule.count_from == "study_date"]
        settled = days_before(today, self._bounds.settled_days)
        before = min(days_before(today, min(rule.keep_days for rule in rules) + 1), settled)
        date = f"{days_before(today, min(dated) + 1):%Y%m%d}" if dated else ""
        return Ageing(tenant, before_day(before), date, before_day(settled) if dated else "", limit=_PAGE)

    def _due(self, tenant: ids.Tenant, study: AgedStudy, today: Day, look: Look) -> Due | None:
        # What it speaks through came first: if that keeps it, its versions need not be looked at.
        kept = self._kept(tenant, study, study.version, today)
        if isinstance(kept, Uncovered):
            look.uncovered[kept.modality or ""] += 1
            return None
        if not kept.is_over(today):
            return None
        there = [each for each in self._archive.index.everything_of(tenant, study.study_uid) if not each.deleted]
        over = self._let_go(tenant, study, [each.version for each in there], today)
        return Due(tenant, study, over, len(there), sum(each.size for each in there)) if over is not None else None

    def _let_go(self, tenant: ids.Tenant, study: AgedStudy, versions: Sequence[ids.Version], today: Day) -> Kept | None:
        """The rule that let a study with these versions go last; None when it stays."""
        if not versions:
            return None
        last = max(versions)
        if arrived(last, today) >= days_before(today, self._bounds.settled_days):
            return None
        kept = self._kept(tenant, study, last, today)
        return kept if isinstance(kept, Kept) and kept.is_over(today) else None

    def _kept(self, tenant: ids.Tenant, study: AgedStudy, last: ids.Version, today: Day) -> Kept | Uncovered:
        dates = Dates(arrived(last, today), study.study_date, study.birth_date)
        return keep(self._rules, tenant, study.modalities, dates, today)
