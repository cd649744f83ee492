"""Scopes: the part of a tenant that a rule is about, as conditions on attributes of patient, study and series.

.. code-block:: toml

    scope = { Modality = ["CT", "MR"], StudyDate = ["last 365 days"], ReferringPhysicianName = ["${person}"] }

Every attribute has to have one of its values: a value as in a search (wildcards, ranges of dates), ``last N days`` for
dates, or ``${NAME}``, which stands for what is known of the principal, taken literally. Of an attribute that may be
there several times one suffices (NameOfPhysiciansReadingStudy), except for who sent a series: every one of its sources
has to be known and to be among the values (SourceApplicationEntityTitle).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence

from gateway.context import Principal
from storage.dicom.attributes import BY_KEYWORD, SOURCE_AE, Attribute, Level
from storage.dicom.keys import condition, of_one_name, single
from storage.dicom.matching import EVERYTHING, NOTHING, AllOf, AnyOf, Condition, InItem, Not, Range, Wildcard
from storage.errors import InvalidCondition

Scope = Mapping[str, Sequence[str]]
"""Keywords of attributes, and the values of which each has to have one."""

_VARIABLE = re.compile(r"\$\{([a-z_]{1,32})\}")
_LAST_DAYS = re.compile(r"last (\d{1,5}) days?")


def check(scope: Scope) -> None:
    """Raise ValueError, which names the attribute, for what is no scope."""
    today = datetime.datetime.now(datetime.UTC).date()
    for keyword, values in scope.items():
        attribute = BY_KEYWORD.get(keyword)
        if attribute is None or not attribute.column or attribute.level is Level.INSTANCE:
            raise ValueError(f"scope.{keyword}: not a matchable attribute of patient, study or series")
        if not values:
            raise ValueError(f"scope.{keyword}: needs at least one value")
        for value in values:
            if "${" in value and not _VARIABLE.fullmatch(value):
                raise ValueError(f'scope.{keyword}: a variable stands alone, as in "${{person}}"')
            try:
                if "${" not in value:
                    _one(attribute, value, today)
            except InvalidCondition as error:
                raise ValueError(f"scope.{error}") from error


def compiled(scope: Scope, principal: Principal, today: datetime.date) -> Condition:
    """The condition of a scope that was checked, for a principal on a day (UTC)."""
    known = dict(principal.attributes)
    found: list[Condition] = []
    for keyword, values in scope.items():
        attribute = BY_KEYWORD[keyword]
        choices: list[Condition] = []
        for value in values:
            variable = _VARIABLE.fullmatch(value)
            if variable is None:
                choices.append(_one(attribute, value, today))
                continue
            for text in known.get(variable[1], ()):
                # A name may have several component groups, as in "Yamada^Tarou=山田^太郎": each has to be found.
                groups = [group for group in text.split("=") if group] if attribute.vr == "PN" else [text]
                try:
                    literally = [single(attribute, group) for group in groups]
                except InvalidCondition:
                    continue  # what is known of the principal cannot be a value of the attribute: nothing has it
                choices.append(of_one_name(attribute, literally) if literally else NOTHING)
        found.append(_of_every_source(any_of(choices)) if attribute is SOURCE_AE else any_of(choices))
    return all_of(found)


def _of_every_source(choice: Condition) -> Condition:
    """That a series has sources and all of them are of a choice; what is not known is of none, not even of "*"."""
    if choice == NOTHING:
        return NOTHING
    if choice == EVERYTHING:
        choice = Wildcard(SOURCE_AE.keyword, "?*")
    return AllOf((InItem(choice), Not(InItem(Not(choice)))))


def _one(attribute: Attribute, value: str, today: datetime.date) -> Condition:
    days = _LAST_DAYS.fullmatch(value)
    if days is not None and attribute.vr == "DA":
        return Range(attribute.keyword, f"{today - datetime.timedelta(days=int(days[1])):%Y%m%d}", None)
    return condition(attribute, value)


def all_of(conditions: Sequence[Condition]) -> Condition:
    """All conditions together, as simply as can be said: everything, when there is nothing to say."""
    said = [each for each in conditions if each != EVERYTHING]
    if NOTHING in said:
        return NOTHING
    return said[0] if len(said) == 1 else AllOf(tuple(said))


def any_of(conditions: Sequence[Condition]) -> Condition:
    """Any of some conditions, as simply as can be said."""
    if EVERYTHING in conditions:
        return EVERYTHING
    said = tuple(dict.fromkeys(each for each in conditions if each != NOTHING))
    return said[0] if len(said) == 1 else AnyOf(said)
