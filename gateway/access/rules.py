"""A policy at work: who is who, and what the rules of somebody's roles allow, as one predicate."""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from gateway.access import scopes
from gateway.access.actions import Action, Obligation, effective
from gateway.access.networks import Network, holds, parsed
from gateway.access.scopes import Scope
from gateway.context import Principal, PrincipalKind
from storage.dicom.matching import NOTHING, Condition

_KEPT_PERMISSIONS = 4096


class _Written(Protocol):
    """A rule as the policy file has it."""

    @property
    def actions(self) -> frozenset[Action]: ...

    @property
    def scope(self) -> dict[str, tuple[str, ...]]: ...

    @property
    def obligations(self) -> frozenset[Obligation]: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """Actions that are allowed in a scope, under a name that explanations use."""

    name: str
    actions: frozenset[Action]
    scope: Scope
    break_glass: bool

    @classmethod
    def of(cls, name: str, written: _Written) -> Rule:
        """A rule of the file, with what its obligations leave of its actions."""
        actions = effective(written.actions, written.obligations)
        return cls(name, actions, written.scope, break_glass=Obligation.BREAK_GLASS in written.obligations)


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody whom the policy itself knows, and how to recognise it."""

    name: str
    kind: PrincipalKind
    tenant: str
    roles: frozenset[str]
    person: str
    api_key_sha256: str | None
    ae_title: str | None
    networks: tuple[Network, ...]

    def principal(self) -> Principal:
        """As whom it goes on."""
        return Principal(self.name, self.kind, self.tenant, self.roles, attributes(self.name, self.person))

    def admits(self, address: str) -> bool:
        """Whether a peer's address is in one of the networks; without networks, only this machine's own are."""
        if not self.networks:
            return parsed(address).is_loopback
        return holds(self.networks, address)


def attributes(name: str, person: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What a scope may ask of a principal of whom no more is known."""
    return (("name", (name,)), ("person", (person,) if person else ()))


@dataclass(frozen=True, slots=True)
class Permission:
    """What somebody may do: an action within a scope, by rules of these names."""

    scope: Condition
    rules: tuple[str, ...]
    broke_glass: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """How one rule reads for a principal and an action: ``scope`` when it counts, else ``why`` it does not."""

    rule: str
    scope: Condition | None
    why: str = ""


class Policy:
    """Roles by name, and the principals that are declared with them."""

    def __init__(self, roles: Mapping[str, Sequence[Rule]], known: Sequence[Who]) -> None:
        self._roles = roles
        self._known = known
        self._permission = lru_cache(_KEPT_PERMISSIONS)(self._permitted)

    @property
    def roles(self) -> frozenset[str]:
        """Names of the roles that somebody can have."""
        return frozenset(name for name in self._roles if ":" not in name)

    def permission(self, principal: Principal, action: Action, *, has_reason: bool = False) -> Permission | None:
        """What a principal may do by an action; None for nothing at all."""
        return self._permission(principal, action, has_reason, datetime.datetime.now(datetime.UTC).date())

    def _permitted(
        self, principal: Principal, action: Action, has_reason: bool, today: datetime.date
    ) -> Permission | None:
        if principal.bounds is not None and action not in principal.bounds.actions:
            return None
        counting = [rule for rule in self._rules(principal) if action in rule.actions]
        plain = [rule for rule in counting if not rule.break_glass]
        counting = counting if has_reason else plain
        if not counting:
            return None
        found = scopes.any_of([scopes.compiled(rule.scope, principal, today) for rule in counting])
        if principal.bounds is not None:
            found = scopes.all_of([found, principal.bounds.scope])
        return Permission(found, tuple(rule.name for rule in counting), broke_glass=len(counting) > len(plain))

    def may_break_glass(self, principal: Principal) -> bool:
        """Whether a reason gives a principal more than it has without."""
        return any(rule.break_glass for rule in self._rules(principal))

    def readings(self, principal: Principal, action: Action, *, has_reason: bool = False) -> list[Reading]:
        """How each rule of a principal's roles reads, for people who ask why."""
        today = datetime.datetime.now(datetime.UTC).date()
        found = [
            Reading(f"(no role {name!r})", None, "the policy does not know the role")
            for name in sorted(principal.roles - self._roles.keys())
        ]
        for rule in self._rules(principal):
            if action not in rule.actions:
                found.append(Reading(rule.name, None, f"does not allow {action}"))
            elif rule.break_glass and not has_reason:
                found.append(Reading(rule.name, None, "needs a reason (break glass)"))
            elif principal.bounds is not None and action not in principal.bounds.actions:
                found.append(Reading(rule.name, None, f"the token or link does not allow {action}"))
            else:
                scope = scopes.compiled(rule.scope, principal, today)
                bounds = [] if principal.bounds is None else [principal.bounds.scope]
                whole = scopes.all_of([scope, *bounds])
                why = "its scope is empty for this principal" if whole == NOTHING else ""
                found.append(Reading(rule.name, whole, why))
        return found

    def _rules(self, principal: Principal) -> list[Rule]:
        return [rule for name in sorted(principal.roles) for rule in self._roles.get(name, ())]

    def by_name(self, name: str) -> Principal | None:
        """A principal that the policy declares."""
        return next((each.principal() for each in self._known if each.name == name), None)

    def by_api_key(self, key: str, address: str) -> Principal | None:
        """The principal of an API key. Every key is compared, in constant time each."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        found = None
        for each in self._known:
            if each.api_key_sha256 is not None and hmac.compare_digest(each.api_key_sha256, digest):
                found = each
        if found is None or (found.networks and not found.admits(address)):
            return None
        return found.principal()

    def by_ae_title(self, ae_title: str, address: str) -> Principal | None:
        """The principal of a calling AE title at an address; one for every title ("*") comes last."""
        for wanted in (ae_title, "*"):
            for each in self._known:
                if each.ae_title == wanted and each.admits(address):
                    return each.principal()
        return None

    def by_loopback(self, address: str) -> Principal | None:
        """The principal of callers on this machine that show nothing else."""
        return self._by_address(PrincipalKind.LOOPBACK, address)

    def anonymous(self, address: str) -> Principal | None:
        """The principal of callers from somewhere that show nothing."""
        return self._by_address(PrincipalKind.ANONYMOUS, address)

    def _by_address(self, kind: PrincipalKind, address: str) -> Principal | None:
        return next((each.principal() for each in self._known if each.kind is kind and each.admits(address)), None)
