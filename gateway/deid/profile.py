"""A profile: the options chosen, a site's recipe and its safe private attributes, resolved to one rule for each tag."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from gateway.config import InvalidSettings
from gateway.deid import recipe as recipes
from gateway.deid.recipe import Recipe
from gateway.deid.safe_private import SafePrivate
from gateway.deid.table import Action, ContentItemKey, Option, Row, digest_source, table
from gateway.deid.uids import NAMES_A_KIND
from storage.dicom import vr as vrs

__all__ = ["ENGINE_VERSION", "Option", "Profile", "Rule"]

ENGINE_VERSION = 1
"""Counts up whenever the engine gives something else for the same input."""

# URLs name servers and have UIDs in them, so what is no code goes, though the table does not list them.
_URI_CODES = frozenset((0x0008010E, 0x00080120))
# Length to End, retired: a count of bytes that no longer holds.
_STALE = frozenset((0x00080001,))
_DATE_OPTIONS = {Option.RETAIN_FULL_DATES: Action.K, Option.RETAIN_MODIFIED_DATES: Action.C}


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done to an attribute, and on whose word: "basic", an option, "recipe", or why we are stricter.

    ``basic`` is what is done where cleaning leaves nothing.
    """

    action: Action
    why: str
    basic: Action
    vr: str
    own: recipes.Rule | None = None
    listed: bool = True


@dataclass(frozen=True)
class Profile:
    """PS3.15 E.2 "Basic Application Level Confidentiality Profile" with options; independent of any key."""

    options: frozenset[Option] = frozenset()
    recipe: Recipe = field(default_factory=Recipe)
    safe_private: SafePrivate = field(default_factory=SafePrivate)

    @classmethod
    def of(
        cls, options: Iterable[str], recipe: Recipe | None = None, safe_private: SafePrivate | None = None
    ) -> Profile:
        """A profile with options by their names; raises InvalidSettings for one that is unknown."""
        known = {option.value for option in Option}
        faults = [f"option {name}: is none of {', '.join(sorted(known))}" for name in options if name not in known]
        if faults:
            raise InvalidSettings(faults)
        return cls(frozenset(map(Option, options)), recipe or Recipe(), safe_private or SafePrivate())

    @cached_property
    def version(self) -> str:
        """Names everything that decides an outcome but the key; the same in every process."""
        identity = [
            ENGINE_VERSION,
            hashlib.sha256(digest_source().encode()).hexdigest(),
            sorted(self.options),
            self.recipe.model_dump(mode="json"),
            self.safe_private.identity(),
        ]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def departs(self) -> bool:
        """Whether a rule of the recipe leaves more than the table, so that the Basic Profile may not be claimed."""
        attributes = table().attributes
        return any(
            rule.leaves_more_than(self._resolved(attributes[rule.tag]).action)
            for rule in self.recipe.rule
            if rule.tag in attributes
        )

    def rule(self, tag: int) -> Rule:
        """What is done to an attribute that is not private."""
        found = self._rules.get(tag)
        return _unlisted(tag, self.options) if found is None else found

    def content_item(self, key: ContentItemKey) -> Rule | None:
        """What is done to a content item (PS3.15 E.3.4); None for one that Table E.3.4-1 does not list."""
        row = table().content_items.get(key)
        return None if row is None else self._resolved(row)

    @cached_property
    def _rules(self) -> dict[int, Rule]:
        rules = {tag: self._resolved(row) for tag, row in table().attributes.items()}
        for own in self.recipe.rule:
            below = rules.get(own.tag) or _unlisted(own.tag, self.options)
            rules[own.tag] = Rule(_OWN[own.action], "recipe", below.basic, own.vr, own)
        return rules

    def _resolved(self, row: Row) -> Rule:
        """The table's own rule, with ours for a row in which one option keeps and another cleans: the safer holds."""
        chosen = [(action, option) for option, action in row.options.items() if option in self.options]
        for wanted in (Action.C, Action.K):
            for action, option in chosen:
                if action is wanted:
                    return Rule(action, option.value, row.basic, row.vr)
        return Rule(row.basic, "basic", row.basic, row.vr)


_OWN = {
    recipes.RuleAction.KEEP: Action.K,
    recipes.RuleAction.REMOVE: Action.X,
    recipes.RuleAction.REPLACE: Action.D,
    recipes.RuleAction.HASH: Action.D,
    recipes.RuleAction.SHIFT: Action.C,
}


@lru_cache(maxsize=65_536)
def _unlisted(tag: int, options: frozenset[Option]) -> Rule:
    """What is done to an attribute that the table does not list: it is kept, but for these."""
    group, element = tag >> 16, tag & 0xFFFF
    for (masked, number), row in table().groups.items():
        if group & 0xFF00 == masked:
            # An overlay without its data, or a curve without some of it, is no valid plane: it goes as a whole.
            why = "basic" if number in (None, element) else "goes with its group"
            return Rule(Action.X, why, Action.X, row.vr)
    if element == 0:
        return _stricter(Action.X, "group length")
    if tag in _STALE:
        return _stricter(Action.X, "length of the old data set")
    if group in (0x0000, 0x0002) or group >= 0xFFF0:
        return _stricter(Action.X, "not of a data set")
    vr = vrs.of_tag(tag)
    if vr == "UN":
        return _stricter(Action.X, "in no dictionary")
    if vr == "UI":
        if tag in NAMES_A_KIND or Option.RETAIN_UIDS in options:
            return Rule(Action.K, "not in the table", Action.K, vr, listed=False)
        return _stricter(Action.U, "a UID", vr)
    if vr == "PN":
        return _stricter(Action.Z, "a name", vr)
    if vr == "UR" and tag not in _URI_CODES:
        return _stricter(Action.X, "a URI", vr)
    if vr in ("DA", "DT", "TM"):
        for option, action in sorted(_DATE_OPTIONS.items(), key=lambda each: each[1]):
            if option in options:
                return Rule(action, option.value, Action.X, vr)
        return _stricter(Action.X, "a date or time", vr)
    return Rule(Action.K, "not in the table", Action.K, vr, listed=False)


def _stricter(action: Action, why: str, vr: str = "UN") -> Rule:
    return Rule(action, why, action, vr)
