"""From the claims of a proven token to a principal, and SMART on FHIR scopes to what bounds it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.access.actions import Action
from gateway.config.access import IssuerSettings
from gateway.context import Bounds, Principal, PrincipalKind
from gateway.errors import Unauthenticated
from storage.dicom import identifiers as ids
from storage.dicom.attributes import BY_KEYWORD
from storage.dicom.keys import single
from storage.dicom.matching import EVERYTHING
from storage.errors import InvalidCondition, InvalidIdentifier

_LONGEST_NAME = 128
_ROLE = re.compile(r"[\x21-\x39\x3b-\x7e]{1,64}")
_MOST_VALUES = 64
LAUNCHED = "smart:launch"
"""The role of a token that is about a patient or a whole system: its own scopes say what it may do."""

_SMART = re.compile(
    r"(?P<context>patient|user|system)/(?:ImagingStudy|\*)\.(?:(?P<old>read|write|\*)|(?P<new>(?=[cruds])c?r?u?d?s?))(?:\?.*)?"
)
_READING = frozenset((Action.READ, Action.DOWNLOAD, Action.RENDER))
_OF_LETTER = {
    "c": frozenset((Action.STORE,)),
    "r": _READING,
    "u": frozenset((Action.STORE,)),
    "d": frozenset((Action.DELETE,)),
    "s": frozenset((Action.SEARCH,)),
}
_OF_WORD = {"read": "rs", "write": "cud", "*": "cruds"}


def principal(claims: Mapping[str, Any], settings: IssuerSettings) -> Principal:
    """The principal of claims that are proven. Raises Unauthenticated when they name none."""
    (name, *_) = _texts(claims, settings.name_claim) or [""]
    if not name.strip() or len(name) > _LONGEST_NAME:
        raise Unauthenticated("the token names nobody")
    # A role with a colon is the gateway's own, and nobody's to give.
    roles = frozenset(each for each in _words(claims, settings.roles_claim) if _ROLE.fullmatch(each))
    known = {"person": settings.person_claim, **settings.attributes}
    attributes = tuple((each, tuple(_texts(claims, claim))) for each, claim in sorted(known.items()))
    bounds = None
    if settings.smart:
        roles, bounds = _smart(claims, roles)
    return Principal(
        name, PrincipalKind.OIDC, _tenant(claims, settings), roles, (("name", (name,)), *attributes), bounds
    )


def _tenant(claims: Mapping[str, Any], settings: IssuerSettings) -> str:
    if settings.tenant_claim is None:
        return settings.tenant
    found = _texts(claims, settings.tenant_claim)
    try:
        return ids.tenant(found[0]) if len(found) == 1 else ids.tenant("")
    except InvalidIdentifier as error:
        raise Unauthenticated("the token names no tenant") from error


def _smart(claims: Mapping[str, Any], roles: frozenset[str]) -> tuple[frozenset[str], Bounds]:
    """SMART App Launch 2.2 "Scopes for requesting FHIR Resources", for ImagingStudy alone.

    The narrowest context counts: of one patient, then of the user's own roles, then of the system.
    """
    allowed: dict[str, set[Action]] = {}
    for word in _words(claims, "scope"):
        found = _SMART.fullmatch(word)
        if found is None:
            continue
        context = allowed.setdefault(found["context"], set())
        # A scope with a query of its own is narrower than we would make it: it gives nothing.
        if "?" not in word:
            context.update(*(_OF_LETTER[letter] for letter in found["new"] or _OF_WORD[found["old"]]))
    if "patient" in allowed:
        patients = _texts(claims, "patient")
        if len(patients) != 1:
            raise Unauthenticated("the token is about a patient and names none")
        try:
            scope = single(BY_KEYWORD["PatientID"], patients[0])
        except InvalidCondition as error:
            raise Unauthenticated("the token is about a patient and names none") from error
        return frozenset((LAUNCHED,)), Bounds(frozenset(allowed["patient"]), scope)
    if "user" in allowed:
        return roles, Bounds(frozenset(allowed["user"]), EVERYTHING)
    if "system" in allowed:
        return frozenset((LAUNCHED,)), Bounds(frozenset(allowed["system"]), EVERYTHING)
    return frozenset(), Bounds(frozenset(), EVERYTHING)


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The value at a path: a claim of that very name, or claims in claims with points between."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _texts(claims: Mapping[str, Any], path: str) -> list[str]:
    """Values that are printable: others would steer a log, or be none that an engine takes."""
    found = _at(claims, path)
    values = found if isinstance(found, list) else [found]
    return [each for each in values[:_MOST_VALUES] if isinstance(each, str) and each and each.isprintable()]


def _words(claims: Mapping[str, Any], path: str) -> list[str]:
    found = _at(claims, path)
    # All of them: among scopes the last one may be what narrows the others.
    words = found.split() if isinstance(found, str) else found if isinstance(found, list) else ()
    return [each for each in words if isinstance(each, str)]
