"""A site's own rules on top of the profile, each with its reason, from a TOML file.

.. code-block:: toml

    name = "cardiology research 2026"

    [[rule]]
    attribute = "StationName"           # keyword, or "(0008,1010)"
    action = "hash"
    reason = "scanners have to be told apart for the calibration study"

    [[rule]]
    attribute = "InstitutionName"
    action = "replace"
    value = "Site 7"
    reason = "site number of the study protocol"

A rule holds at every depth and goes before the table. One that leaves more than the table would is refused for what no
option of the standard leaves (names, identifiers, birth date), and where it is allowed, the result no longer claims to
follow the Basic Profile.
"""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydicom import config
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.valuerep import validate_value

from gateway.config import InvalidSettings
from gateway.deid.table import Action, table
from storage.dicom import vr as vrs


class RuleAction(StrEnum):
    """What a rule does."""

    KEEP = "keep"
    REMOVE = "remove"
    REPLACE = "replace"
    HASH = "hash"
    SHIFT = "shift"


_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_TEXT = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_DATES = frozenset(("DA", "DT", "TM"))
# What the engine itself writes or needs: encoding, class, markers.
_OURS = frozenset((0x00080005, 0x00080016, 0x00120062, 0x00120063, 0x00120064, 0x00280301, 0x00280302, 0x00280303))
_NOT_REMOVABLE = frozenset((0x0020000D, 0x0020000E, 0x00080018))


class Rule(BaseModel):
    """One rule. ``tag`` and ``vr`` come from ``attribute``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    action: RuleAction
    value: Annotated[str, Field(max_length=1024)] | None = None
    reason: Annotated[str, Field(min_length=3, max_length=500)]

    @property
    def tag(self) -> int:
        """The attribute's tag."""
        return _tag_of(self.attribute)

    @property
    def vr(self) -> str:
        """The attribute's VR."""
        row = table().attributes.get(self.tag)
        return row.vr if row is not None else vrs.of_tag(self.tag)

    @model_validator(mode="after")
    def _makes_sense(self) -> Rule:
        tag, vr = self.tag, self.vr
        if tag in _OURS or tag >> 16 <= 2 or tag >> 16 == 0x7FE0:
            raise ValueError(f"{self.attribute} is written by the engine itself")
        if (self.value is not None) != (self.action is RuleAction.REPLACE):
            raise ValueError("a value goes with the action replace, and only with it")
        check = {
            RuleAction.KEEP: self._keepable,
            RuleAction.REMOVE: self._removable,
            RuleAction.REPLACE: self._replaceable,
            RuleAction.HASH: self._hashable,
            RuleAction.SHIFT: self._shiftable,
        }[self.action]
        check(tag, vr)
        return self

    def _keepable(self, tag: int, _vr: str) -> None:
        row = table().attributes.get(tag)
        if row is not None and not set(row.options.values()) & {Action.K, Action.C}:
            raise ValueError(f"{self.attribute} identifies the patient: no option of PS3.15 Table E.1-1 keeps it")

    def _removable(self, tag: int, _vr: str) -> None:
        if tag in _NOT_REMOVABLE:
            raise ValueError(f"no instance can be without {self.attribute}")

    def _replaceable(self, _tag: int, vr: str) -> None:
        if vr not in vrs.TEXT or vr == "UI":
            raise ValueError(f"{self.attribute} has VR {vr}: replace is for text, numbers in text, dates and codes")
        validate_value(vr, self.value, config.RAISE)

    def _hashable(self, _tag: int, vr: str) -> None:
        if vr not in _TEXT and vr != "UI":
            raise ValueError(f"{self.attribute} has VR {vr}: hash is for text and UIDs")

    def _shiftable(self, tag: int, vr: str) -> None:
        if vr not in _DATES:
            raise ValueError(f"{self.attribute} has VR {vr}: shift is for dates and times")
        self._keepable(tag, vr)

    def leaves_more_than(self, action: Action) -> bool:
        """Whether it leaves something of the value that the table's action would not."""
        if self.action is RuleAction.KEEP:
            return action is not Action.K
        if self.action is RuleAction.SHIFT:
            return action not in (Action.K, Action.C)
        return self.action is RuleAction.HASH and action not in (Action.K, Action.C, Action.U)


class Recipe(BaseModel):
    """The rules, by the name that goes to De-identification Method (0012,0063)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=56, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")] = "none"
    rule: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _one_rule_each(self) -> Recipe:
        seen: set[int] = set()
        for rule in self.rule:
            if rule.tag in seen:
                raise ValueError(f"{rule.attribute} has more than one rule")
            seen.add(rule.tag)
        return self

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """The recipe of a file; raises InvalidSettings with every fault."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise InvalidSettings([f"{path}: {error.strerror or error}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidSettings([f"{path}: not TOML: {error}"]) from error
        except ValidationError as error:
            raise InvalidSettings([f"{path}: {_fault(each)}" for each in error.errors()]) from error


def _tag_of(attribute: str) -> int:
    match = _TAG.fullmatch(attribute)
    tag = int(match[1] + match[2], 16) if match else tag_for_keyword(attribute)
    if tag is None or (match and not keyword_for_tag(tag) and tag not in table().attributes):
        raise ValueError(f"{attribute} is no attribute of the data dictionary")
    return tag


def _fault(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where or 'recipe'}: {error['msg']}"
