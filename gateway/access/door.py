"""The one door: each use of the archive passes it, gets its scope and view there, and leaves a line on the trail."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.policy import Action, Policy
from gateway.audit.events import AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.context import OWN_KINDS, Caller
from gateway.errors import Forbidden
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING, Condition


@dataclass(frozen=True, slots=True)
class View:
    """A named projection of the archive; ``key_version`` changes with the secret of a de-identified one."""

    name: str
    key_version: int = 0


AS_STORED = View("as-stored")


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy allows a caller: an action, in a tenant, within a scope, through a view."""

    caller: Caller
    action: Action
    tenant: ids.Tenant
    scope: Condition
    view: View


class Door:
    """Decides and records."""

    def __init__(self, policy: Policy, trail: AuditTrail) -> None:
        self.policy = policy
        self._trail = trail

    def enter(self, caller: Caller, action: Action, subject: tuple[str, ...] = ()) -> Decision:
        """Ask for an action; the answer is on the trail before it is given.

        Raises
        ------
        Forbidden
            The policy does not allow it.
        AuditUnavailable
            The decision cannot be recorded.
        """
        rule = self.policy.rule(caller.principal)
        allowed = action in rule.actions
        outcome = "allowed" if allowed else "denied"
        self._trail.write(AuditEvent(action.value, outcome, caller, rule.tenant, subject))
        if not allowed:
            raise Forbidden(f"{caller.principal.name} may not {action.value}")
        return Decision(caller, action, ids.Tenant(rule.tenant), self.policy.scope(caller.principal), AS_STORED)

    def enter_by_itself(
        self, caller: Caller, action: Action, tenant: ids.Tenant, subject: tuple[str, ...] = (), detail: str = ""
    ) -> Decision:
        """Let a command or the gateway itself in, which has all of a tenant; on the trail as every decision is.

        Raises
        ------
        AuditUnavailable
            The decision cannot be recorded.
        """
        assert caller.principal.kind in OWN_KINDS
        self._trail.write(AuditEvent(action.value, "allowed", caller, tenant, subject, detail))
        return Decision(caller, action, tenant, EVERYTHING, AS_STORED)

    def record(self, event: AuditEvent) -> None:
        """Record what is not a decision: a rejected association, an unknown key, an outcome."""
        self._trail.write(event)
