"""How long a study is kept: by its dates, by the patient's age, and by the rule of several that keeps longest."""

from __future__ import annotations

import datetime
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.keeping import RetentionRule
from gateway.services.keeping import Dates, Kept, Uncovered, keep

TODAY = date(2026, 6, 1)


def rule(name: str = "rule", **values: Any) -> RetentionRule:
    return RetentionRule.model_validate({"name": name, "keep_days": 10, **values})


def until(given: RetentionRule, arrived: str, studied: str | None = None, born: str | None = None) -> str:
    found = keep([given], "main", ["CT"], Dates(date.fromisoformat(arrived), studied, born), TODAY)
    assert isinstance(found, Kept)
    assert found.rule == given.name
    return found.until.isoformat()


BY_DATE = rule(count_from="study_date")
LAW = rule(count_from="study_date", keep_days=3653, keep_until_age=28)


@pytest.mark.parametrize(
    ("given", "arrived", "studied", "born", "expected"),
    [
        (rule(), "2020-01-01", "19990101", None, "2020-01-11"),
        (BY_DATE, "2020-01-01", "19990101", None, "1999-01-11"),
        # Without a date, or with one that cannot be right, the arrival counts.
        (BY_DATE, "2020-01-01", None, None, "2020-01-11"),
        (BY_DATE, "2020-01-01", "19990231", None, "2020-01-11"),
        (BY_DATE, "2020-01-01", "00000000", None, "2020-01-11"),
        (BY_DATE, "2020-01-01", "18950101", None, "2020-01-11"),
        (BY_DATE, "2020-01-01", "20260603", None, "2020-01-11"),
        (BY_DATE, "2020-01-01", "19790101", "19800101", "2020-01-11"),
        # Dated after it arrived, and not to come: it keeps longer.
        (BY_DATE, "2020-01-01", "20250101", None, "2025-01-11"),
        # A minor until 28, everybody else ten years.
        (LAW, "2015-06-01", "20150601", "20100701", "2038-07-01"),
        (LAW, "2015-06-01", "20150601", "19970602", "2025-06-02"),
        (LAW, "2015-06-01", "20150601", "19970601", "2025-06-01"),
        (LAW, "2015-06-01", "20150601", "19500101", "2025-06-01"),
        (rule(keep_until_age=28, minors_under=21), "2015-06-01", "20150601", "19960101", "2024-01-01"),
        (rule(keep_until_age=28), "2015-06-01", "20150601", "19960101", "2015-06-11"),
        # Born on 29 February.
        (LAW, "2015-06-01", "20150601", "20080229", "2036-02-29"),
        (rule(keep_until_age=27), "2015-06-01", "20150601", "20080229", "2035-03-01"),
        # Nobody knows how old: as if born on the day, and without one on the day it arrived.
        (LAW, "2015-06-01", "20150601", None, "2043-06-01"),
        (LAW, "2015-06-01", "20150601", "19000101x", "2043-06-01"),
        (LAW, "2025-06-01", "20250601", "19000101", "2053-06-01"),
        (LAW, "2015-06-01", None, None, "2043-06-01"),
        (LAW, "2015-06-01", None, "20000101", "2028-01-01"),
        (LAW, "2015-06-01", "20150601", "20150602", "2043-06-01"),
    ],
)
def test_how_long(given: RetentionRule, arrived: str, studied: str | None, born: str | None, expected: str) -> None:
    assert until(given, arrived, studied, born) == expected


DATES = Dates(date(2020, 1, 1), "20200101", "19800101")


@pytest.mark.parametrize(
    ("rules", "modalities", "expected"),
    [
        ([rule("all")], ["CT", None], Kept(date(2020, 1, 11), "all")),
        ([rule("all"), rule("ct", modalities=["CT"], keep_days=5)], ["CT"], Kept(date(2020, 1, 11), "all")),
        ([rule("all"), rule("ct", modalities=["CT"], keep_days=20)], ["CT"], Kept(date(2020, 1, 21), "ct")),
        ([rule("all"), rule("ct", modalities=["CT"], keep_days=20)], ["US"], Kept(date(2020, 1, 11), "all")),
        # One series that has to be kept keeps the study.
        ([rule("all"), rule("ct", modalities=["CT"], keep_days=20)], ["US", "CT"], Kept(date(2020, 1, 21), "ct")),
        # One series that no rule is about keeps it too.
        ([rule("ct", modalities=["CT"])], ["CT", "SR"], Uncovered("SR")),
        ([rule("ct", modalities=["CT"])], [None], Uncovered(None)),
        ([rule("ct", modalities=["CT", "SR"])], ["CT", "SR"], Kept(date(2020, 1, 11), "ct")),
        # Of another tenant.
        ([rule("other", tenants=["other"])], ["CT"], Uncovered("CT")),
        ([rule("other", tenants=["other"], keep_days=99), rule("all")], ["CT"], Kept(date(2020, 1, 11), "all")),
        ([rule("first"), rule("second")], ["CT"], Kept(date(2020, 1, 11), "first")),
        ([], ["CT"], Uncovered("CT")),
    ],
)
def test_which_rule(rules: list[RetentionRule], modalities: list[str | None], expected: Kept | Uncovered) -> None:
    assert keep(rules, "main", modalities, DATES, TODAY) == expected


def test_a_day_is_over_when_it_is_so_in_every_time_zone() -> None:
    kept = Kept(date(2026, 5, 30), "rule")
    assert [kept.is_over(date(2026, month, day)) for month, day in ((5, 30), (5, 31), (6, 1))] == [False, False, True]


MODALITIES = st.sampled_from(["CT", "MR", "US", None])
RULES = st.lists(
    st.builds(
        lambda days, which, tenants, age, minors, by: RetentionRule.model_validate(
            {
                "name": "rule",
                "keep_days": days,
                "modalities": which,
                "tenants": tenants,
                "count_from": by,
                **({"keep_until_age": age, "minors_under": minors} if age else {}),
            }
        ),
        st.integers(1, 20_000),
        st.lists(st.sampled_from(["CT", "MR"]), max_size=2),
        st.sampled_from([[], ["main"], ["other"]]),
        st.none() | st.integers(1, 120),
        st.integers(1, 120),
        st.sampled_from(["arrival", "study_date"]),
    ),
    max_size=4,
)
TEXTS = (
    st.none()
    | st.dates(date(1880, 1, 1), date(2030, 1, 1)).map(lambda day: f"{day:%Y%m%d}")
    | st.sampled_from(["", "0", "00000000", "99999999", "19000101", "20260230", "99991231"])
)
ARRIVALS = st.dates(date(1990, 1, 1), TODAY)


@given(RULES, st.lists(MODALITIES, min_size=1, max_size=3), ARRIVALS, TEXTS, TEXTS)
def test_the_longest_wins_and_nothing_shortens_what_the_others_keep(
    rules: list[RetentionRule], modalities: list[str | None], arrived: date, studied: str | None, born: str | None
) -> None:
    """Of each series alone and each rule alone, none keeps longer; and what one of them does not let go stays."""
    dates = Dates(arrived, studied, born)
    found = keep(rules, "main", modalities, dates, TODAY)
    alone = [keep([each], "main", [modality], dates, TODAY) for each in rules for modality in modalities]
    covered = [keep(rules, "main", [modality], dates, TODAY) for modality in modalities]
    if isinstance(found, Uncovered):
        assert found in covered
    else:
        assert all(isinstance(each, Kept) for each in covered)
        assert found.until == max(each.until for each in alone if isinstance(each, Kept))


@given(RULES.filter(bool), ARRIVALS, ARRIVALS, TEXTS, TEXTS)
def test_what_comes_later_never_shortens_it_nor_does_a_broken_date(
    rules: list[RetentionRule], arrived: date, later: date, studied: str | None, born: str | None
) -> None:
    everywhere = [each.model_copy(update={"modalities": (), "tenants": ()}) for each in rules]
    first, last = sorted((arrived, later))

    def end(day: date, *texts: str | None) -> date:
        found = keep(everywhere, "main", ["CT"], Dates(day, *texts), TODAY)
        assert isinstance(found, Kept)
        return found.until

    assert end(first, studied, born) <= end(last, studied, born)
    shortest = datetime.timedelta(days=max(each.keep_days for each in everywhere))
    # Whoever was born in 1700 was too old on the day of the first examination there ever was.
    for broken in (None, "", "20260230", "99991231", "17000101"):
        assert end(first, broken, born) >= first + shortest
        assert end(first, studied, broken) >= end(first, studied, None)
