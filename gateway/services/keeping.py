"""How long a study is kept by the rules of retention: a function of its dates and modalities alone."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.config.keeping import RetentionRule
from gateway.services.rules import Day, Uncovered, covering
from storage.dicom import identifiers as ids

_FIRST_EXAMINATION = Day(1895, 11, 8)
"""No study is older than X-rays."""
_OLDEST_YEARS = 120
"""An older patient has no date of birth but a placeholder, such as 19000101."""


@dataclass(frozen=True, slots=True)
class Dates:
    """What is known of when; the texts are dates (YYYYMMDD), or what a modality sent in place of one."""

    last_arrival: Day
    study_date: str | None
    birth_date: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """The last day on which a study is kept, and the rule that keeps it for so long."""

    until: Day
    rule: str

    def is_over(self, today: Day) -> bool:
        """Whether the day is over everywhere, with ``today`` in UTC."""
        return self.until + datetime.timedelta(days=1) < today


def keep(
    rules: Sequence[RetentionRule], tenant: ids.Tenant, modalities: Sequence[str | None], dates: Dates, today: Day
) -> Kept | Uncovered:
    """How long a study is kept.

    Every rule that one of its series is in has to let it go, and every series has to be in one. Of rules that keep
    equally long the first counts.
    """
    found = covering(rules, tenant, modalities)
    if isinstance(found, Uncovered):
        return found
    return max((Kept(_until(rule, dates, today), rule.name) for rule in found), key=lambda kept: kept.until)


def _until(rule: RetentionRule, dates: Dates, today: Day) -> Day:
    studied, born = _credible(dates, today)
    start = studied if studied and rule.count_from == "study_date" else dates.last_arrival
    until = start + datetime.timedelta(days=rule.keep_days)
    if rule.keep_until_age is None:
        return until
    if studied and born and _birthday(born, rule.minors_under) <= studied:
        return until
    # Nobody knows that he was none: a patient without a date of birth may have been born on that day.
    return max(until, _birthday(born or studied or dates.last_arrival, rule.keep_until_age))


def _credible(dates: Dates, today: Day) -> tuple[Day | None, Day | None]:
    """Study date and date of birth, None where there is none that can be right: it must not shorten anything."""
    studied, born = _day(dates.study_date), _day(dates.birth_date)
    if studied and not _FIRST_EXAMINATION <= studied <= today + datetime.timedelta(days=1):
        studied = None
    if studied and born and born > studied:
        # One of them is wrong.
        return max(studied, dates.last_arrival), None
    examined = studied or dates.last_arrival
    if born and (born > examined or _birthday(born, _OLDEST_YEARS) <= examined):
        born = None
    return studied, born


def _day(text: str | None) -> Day | None:
    try:
        return datetime.datetime.strptime(text or "", "%Y%m%d").date()
    except ValueError:
        return None


def _birthday(born: Day, years: int) -> Day:
    """The day on which somebody is so many years old; who was born on 29 February waits until 1 March."""
    try:
        return born.replace(year=born.year + years)
    except ValueError:
        return Day(born.year + years, 3, 1)
