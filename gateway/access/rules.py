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
from gateway.access.actions import READING, Action, Obligation, effective
from gateway.access.networks import Network, holds, parsed
from gateway.access.scopes import Scope
from gateway.access.sending import ANYTHING, Sending
from gateway.context import Principal, PrincipalKind
from storage.dicom.matching import NOTHING, Condition

ANY_VIEW = "*"
ANY_TITLE = "*"
"""Stands for every calling AE title that is not named."""

SHOWING = READING | {Action.SEARCH, Action.RENDER}
"""Actions that show something."""

_KEPT_PERMISSIONS = 4096


class _Written(Protocol):
    """A rule as the policy file has it."""

    @property
    def actions(self) -> frozenset[Action]: ...

    @property
    def scope(self) -> dict[str, tuple[str, ...]]: ...

    @property
    def obligations(self) -> frozenset[Obligation]: ...

    @property
    def view(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """Actions that are allowed in a scope, under a name that explanations use.

    ``view`` is the de-identified one that it is about, or ANY_VIEW; "" is what is as stored.
    """

    name: str
    actions: frozenset[Action]
    scope: Scope
    break_glass: bool
    view: str = ""

    def is_about(self, view: str) -> bool:
        """Whether it counts for what is seen through a view."""
        return self.view == view or (self.view == ANY_VIEW and view != "")

    @classmethod
    def of(cls, name: str, written: _Written) -> Rule:
        """A rule of the file, with what its obligations leave of its actions."""
        actions = effective(written.actions, written.obligations)
        return cls(name, actions, written.scope, Obligation.BREAK_GLASS in written.obligations, written.view)


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
    certificate_subjects: frozenset[str] = frozenset()
    sending: Sending = ANYTHING

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

    def permission(
        self, principal: Principal, action: Action, *, view: str = "", has_reason: bool = False
    ) -> Permission | None:
        """What a principal may do by an action, as stored or through a view; None for nothing at all."""
        return self._permission(principal, action, view, has_reason, datetime.datetime.now(datetime.UTC).date())

    def _permitted(
        self, principal: Principal, action: Action, view: str, has_reason: bool, today: datetime.date
    ) -> Permission | None:
        if _outside(principal, action, view):
            return None
        counting = [rule for rule in self._rules(principal) if action in rule.actions and rule.is_about(view)]
        plain = [rule for rule in counting if not rule.break_glass]
        counting = counting if has_reason else plain
        if not counting:
            return None
        found = scopes.any_of([scopes.compiled(rule.scope, principal, today) for rule in counting])
        if principal.bounds is not None:
            found = scopes.all_of([found, principal.bounds.scope])
        return Permission(found, tuple(rule.name for rule in counting), broke_glass=len(counting) > len(plain))

    def default_view(self, principal: Principal, action: Action) -> str:
        """What a principal is shown that asks for no view: what is as stored, or the first of its rules' views.

        All that shows something has the same. "" is as stored: also for who may do nothing, and will be told so.
        """
        meant = SHOWING if action in SHOWING or action is Action.DOWNLOAD else frozenset((action,))
        if principal.bounds is not None and principal.bounds.view is not None:
            return principal.bounds.view
        views = [rule.view for rule in self._rules(principal) if rule.actions & meant]
        return "" if "" in views else next((view for view in views if view != ANY_VIEW), "")

    @property
    def views(self) -> frozenset[str]:
        """The de-identified views that rules name."""
        return frozenset(rule.view for rules in self._roles.values() for rule in rules) - {"", ANY_VIEW}

    def may_break_glass(self, principal: Principal) -> bool:
        """Whether a reason gives a principal more than it has without."""
        return any(rule.break_glass for rule in self._rules(principal))

    def readings(
        self, principal: Principal, action: Action, *, view: str = "", has_reason: bool = False
    ) -> list[Reading]:
        """How each rule of a principal's roles reads, for people who ask why."""
        today = datetime.datetime.now(datetime.UTC).date()
        found = [
            Reading(f"(no role {name!r})", None, "the policy does not know the role")
            for name in sorted(principal.roles - self._roles.keys())
        ]
        for rule in self._rules(principal):
            if not rule.is_about(view):
                about = f"through {rule.view}" if rule.view else "as stored"
                found.append(Reading(rule.name, None, f"is about what is seen {about}"))
            elif action not in rule.actions:
                found.append(Reading(rule.name, None, f"does not allow {action}"))
            elif rule.break_glass and not has_reason:
                found.append(Reading(rule.name, None, "needs a reason (break glass)"))
            elif _outside(principal, action, view):
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

    def by_ae_title(self, ae_title: str, address: str, certificate: str = "") -> Who | None:
        """Who a calling AE title at an address is, with the subject of the certificate that it showed.

        One for every title ("*") comes last, and not for a title of which another certificate is asked.
        """
        for wanted in (ae_title, ANY_TITLE):
            named = [each for each in self._known if each.ae_title == wanted and each.admits(address)]
            for each in named:
                if not each.certificate_subjects or certificate in each.certificate_subjects:
                    return each
            if named:
                return None
        return None

    def names_ae_title(self, ae_title: str, address: str) -> bool:
        """Whether a calling AE title at an address is one of its own, and not let in as every title ("*") is."""
        return any(each.ae_title == ae_title and each.admits(address) for each in self._known)

    def application_entities(self, tenant: str) -> list[Who]:
        """Those of a tenant that are known by their AE titles."""
        return [each for each in self._known if each.ae_title is not None and each.tenant == tenant]

    @property
    def tenants(self) -> frozenset[str]:
        """Those that somebody is of whom the policy itself knows."""
        return frozenset(each.tenant for each in self._known)

    def by_loopback(self, address: str) -> Principal | None:
        """The principal of callers on this machine that show nothing else."""
        return self._by_address(PrincipalKind.LOOPBACK, address)

    def anonymous(self, address: str) -> Principal | None:
        """The principal of callers from somewhere that show nothing."""
        return self._by_address(PrincipalKind.ANONYMOUS, address)

    def _by_address(self, kind: PrincipalKind, address: str) -> Principal | None:
        return next((each.principal() for each in self._known if each.kind is kind and each.admits(address)), None)


def _outside(principal: Principal, action: Action, view: str) -> bool:
    """Whether a token or link keeps its bearer from an action."""
    bounds = principal.bounds
    return bounds is not None and (action not in bounds.actions or bounds.view not in (None, view))
