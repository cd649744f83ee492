"""What rules about whole studies have in common: which studies they are about, and the days that they count from."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.config.keeping import Rule
from storage.dicom import identifiers as ids
from storage.index.base import Index

Day = datetime.date
AnyRule = TypeVar("AnyRule", bound=Rule)


@dataclass(frozen=True, slots=True)
class Uncovered:
    """No rule is about series of a modality (None: without one), so a study that has such a series stays as it is."""

    modality: str | None


@dataclass(slots=True)
class Look:
    """What a look at the older studies of a tenant met beside those that are due.

    ``uncovered`` counts studies that stay since no rule is about series of a modality ("" for none).
    """

    studies: int = 0
    uncovered: Counter[str] = field(default_factory=Counter)


def of_tenant(rules: Sequence[AnyRule], tenant: ids.Tenant) -> list[AnyRule]:
    """Those of the rules that are for a tenant."""
    return [rule for rule in rules if not rule.tenants or tenant in rule.tenants]


def tenants_with(rules: Sequence[Rule], index: Index) -> list[ids.Tenant]:
    """Tenants that have something stored, and a rule."""
    return [tenant for tenant in sorted(index.usage()) if of_tenant(rules, tenant)]


def covering(
    rules: Sequence[AnyRule], tenant: ids.Tenant, modalities: Sequence[str | None]
) -> list[AnyRule] | Uncovered:
    """The rules that one or another of a study's series is in, in their order; each series has to be in one."""
    here = of_tenant(rules, tenant)
    found = [rule for rule in here if not rule.modalities or {*modalities} & {*rule.modalities}]
    for modality in modalities or (None,):
        if not any(not rule.modalities or modality in rule.modalities for rule in found):
            return Uncovered(modality)
    return found


def today() -> Day:
    """The day in UTC."""
    return datetime.datetime.now(datetime.UTC).date()


def days_before(day: Day, days: int) -> Day:
    """So many days earlier."""
    return day - datetime.timedelta(days=days)


def arrived(version: ids.Version, on: Day) -> Day:
    """The day on which a version came; one from a clock that was ahead came today, which is ``on``."""
    moment_s = min(ids.version_time_s(version), _midnight_s(on + datetime.timedelta(days=1)))
    return datetime.datetime.fromtimestamp(moment_s, datetime.UTC).date()


def before_day(day: Day) -> str:
    """A text that comes after every version given before a day, see ``identifiers.before_time``."""
    return ids.before_time(max(0.0, _midnight_s(day)))


def _midnight_s(day: Day) -> float:
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()
