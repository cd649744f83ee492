"""Transitions: studies that grow old move into another storage class, where they are read as before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.audit.events import AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.config.keeping import ARCHIVE_CLASSES, TransitionRule
from gateway.context import Caller
from gateway.services import rules as about
from gateway.services.rules import Day, Look, Uncovered, arrived, before_day, days_before
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.errors import ObjectNotFound, StorageError
from storage.index.questions import Ageing
from storage.index.stored import AgedStudy, Holding, Placed
from storage.objects.condensed import condensed_key

_TOGETHER = 8
_OBJECTS_PER_STEP = 64
ANOTHER_CHANGE = -1
"""That no study is at: one that was moved at it is looked at again."""


class StorageClasses(Protocol):
    """What moves the objects of a tenant, see ``storage.objects.s3_classes``."""

    def move(self, key: str, storage_class: str, stays: Collection[str]) -> bool:
        """Move an object, unless it may stay where it is; whether it moved. Raises ObjectNotFound."""
        ...


@dataclass(frozen=True, slots=True)
class Due:
    """A study that is to move by a rule, and what came up to ``through``: so many versions and bytes."""

    tenant: ids.Tenant
    study: AgedStudy
    rule: TransitionRule
    through: ids.Version
    versions: int
    size: int


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a round: objects of a study that moved. ``done`` says that all are, ``failed`` why not."""

    due: Due | None = None
    objects: int = 0
    size: int = 0
    done: bool = False
    failed: str = ""


def due_rule(
    rules: Sequence[TransitionRule], tenant: ids.Tenant, modalities: Sequence[str | None], last_arrival: Day, today: Day
) -> TransitionRule | Uncovered | None:
    """The rule that says where a study has to be, None when it is too young for any.

    Each of its series has to be in a rule that is due; of these the oldest counts, of equals the first.
    """
    found = about.covering(rules, tenant, modalities)
    if isinstance(found, Uncovered):
        return found
    age_days = (today - last_arrival).days
    over = about.covering([rule for rule in found if rule.after_days <= age_days], tenant, modalities)
    return None if isinstance(over, Uncovered) else max(over, key=lambda rule: rule.after_days)


class TransitionService:
    """Looks what is due, and moves it.

    Parameters
    ----------
    classes
        Gives what moves a tenant's objects.
    today
        The day in UTC; for tests.
    """

    def __init__(
        self,
        archive: Archive,
        classes: Callable[[ids.Tenant], StorageClasses],
        trail: AuditTrail,
        rules: Sequence[TransitionRule],
        today: Day | None = None,
    ) -> None:
        self._archive = archive
        self._classes = classes
        self._trail = trail
        self._rules = rules
        self._fixed = today

    def tenants(self) -> list[ids.Tenant]:
        """Tenants that have something stored, and a rule."""
        return about.tenants_with(self._rules, self._archive.index)

    def look(self, tenant: ids.Tenant, look: Look) -> Iterator[list[Due]]:
        """Studies of a tenant that are due, page by page, some of them empty; what else was met goes into ``look``."""
        today = self._fixed or about.today()
        first = min(rule.after_days for rule in about.of_tenant(self._rules, tenant))
        asked = Ageing(tenant, before_day(days_before(today, first - 1)))
        while page := self._archive.index.aged(asked):
            look.studies += len(page)
            yield [due for study in page if (due := self._due(tenant, study, today, look)) is not None]
            asked = replace(asked, after=page[-1].version)

    def move(self, caller: Caller, due: Due) -> Iterator[Step]:
        """Move what of a study had come when it was looked at, in steps. Anything may come, or go, meanwhile.

        What was moved before stays so when it is broken off, and is not moved again.

        Raises
        ------
        AuditUnavailable, storage.errors.StorageError
        """
        there = [each for each in self._stored(due.tenant, due.study.study_uid) if each.version <= due.through]
        rule, objects = due.rule, 0
        # Before anything moves: what a crash leaves half moved is on the trail too.
        self._audit(caller, due, "allowed", f"rule {rule.name}: to {rule.storage_class}")
        for start in range(0, len(there), _OBJECTS_PER_STEP):
            moved = self._move(due, there[start : start + _OBJECTS_PER_STEP])
            objects += len(moved)
            yield Step(due, len(moved), sum(each.size for each in moved))
        if objects:
            self._audit(caller, due, "moved", f"rule {rule.name}: {objects} objects to {rule.storage_class}")
        placed = Placed(rule.storage_class, due.through, due.study.change)
        self._archive.index.place(due.tenant, due.study.study_uid, placed)
        if len(self._stored(due.tenant, due.study.study_uid)) > len(there):
            # What was recompressed meanwhile is no change of the study, but has to be moved too.
            self._archive.index.place(due.tenant, due.study.study_uid, replace(placed, change=ANOTHER_CHANGE))
        yield Step(due, done=objects > 0)

    def round(self, caller: Caller, tenants: Sequence[ids.Tenant], look: Look) -> Iterator[Step]:
        """One round over tenants in steps, between which others have their turn.

        A study that fails is for the next round, as long as the engines answer. Raises as ``move`` when they do not.
        """
        for tenant in tenants:
            for page in self.look(tenant, look):
                yield Step()
                for due in page:
                    try:
                        yield from self.move(caller, due)
                    except StorageError as error:
                        self._archive.ping()
                        yield Step(due, failed=str(error))

    def _audit(self, caller: Caller, due: Due, outcome: str, detail: str) -> None:
        self._trail.write(AuditEvent("transition", outcome, caller, due.tenant, (due.study.study_uid,), detail))

    def _due(self, tenant: ids.Tenant, study: AgedStudy, today: Day, look: Look) -> Due | None:
        placed = study.placed
        unchanged = placed is not None and placed.change == study.change
        # As far as it is known without its versions: what it speaks through came first.
        last = placed.through if placed is not None and unchanged else study.version
        rule = due_rule(self._rules, tenant, study.modalities, arrived(last, today), today)
        if isinstance(rule, Uncovered):
            look.uncovered[rule.modality or ""] += 1
            return None
        if rule is None or (placed is not None and unchanged and placed.storage_class == rule.storage_class):
            return None
        there = self._stored(tenant, study.study_uid)
        if not there:
            return None
        last = max(each.version for each in there)
        rule = due_rule(self._rules, tenant, study.modalities, arrived(last, today), today)
        if not isinstance(rule, TransitionRule):
            return None
        return Due(tenant, study, rule, last, len(there), sum(each.size for each in there))

    def _stored(self, tenant: ids.Tenant, study_uid: ids.StudyUid) -> list[Holding]:
        """Versions of a study, without deleted ones: these go."""
        return [each for each in self._archive.index.everything_of(tenant, study_uid) if not each.deleted]

    def _move(self, due: Due, part: Sequence[Holding]) -> list[Holding]:
        """Move some objects; those that were not there yet."""
        classes, storage_class = self._classes(due.tenant), due.rule.storage_class
        stays = self._stays(due)
        gone: list[str] = []

        def move(each: Holding) -> bool:
            for kept in (each.object_key, condensed_key(each.object_key)):
                try:
                    return classes.move(kept, storage_class, stays)
                except ObjectNotFound:
                    continue
            gone.append(each.object_key)
            return False

        with ThreadPoolExecutor(_TOGETHER, "transition") as pool:
            moved = [each for each, was_moved in zip(part, pool.map(move, part), strict=True) if was_moved]
        known = self._archive.index.known_objects([each.object_key for each in part])
        for each in moved:
            if each.object_key not in known:
                # Erased while it was copied: a store without If-Match has it back.
                self._archive.objects.delete(each.object_key)
        if known.intersection(gone):
            raise ObjectNotFound(f"{len(known.intersection(gone))} objects of a study are not in the bucket")
        return moved

    def _stays(self, due: Due) -> frozenset[str]:
        """Classes that an object is not fetched back from: those of later rules, and those that cannot be read."""
        found = about.covering(self._rules, due.tenant, due.study.modalities)
        later = () if isinstance(found, Uncovered) else found
        return frozenset(r.storage_class for r in later if r.after_days > due.rule.after_days).union(ARCHIVE_CLASSES)
