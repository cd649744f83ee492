"""The one door: each use of the archive passes it, gets its scope and view there, and leaves a line on the trail."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.access.policy import Action, Policy
from gateway.audit.accesses import UNCOUNTED, Access
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
    """What the policy allows a caller: an action, in a tenant, within a scope, through a view.

    ``access`` counts what is taken by it, for the trail.
    """

    caller: Caller
    action: Action
    tenant: ids.Tenant
    scope: Condition
    view: View
    access: Access = field(default=UNCOUNTED, compare=False)


class Door:
    """Decides and records."""

    def __init__(self, policy: Policy, trail: AuditTrail) -> None:
        self.policy = policy
        self._trail = trail

    def enter(self, caller: Caller, action: Action, subject: tuple[str, ...] = (), query: str = "") -> Decision:
        """Ask for an action; the answer is on the trail before it is given. ``query`` is what a search asks for.

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
        access = self._trail.write(AuditEvent(action.value, outcome, caller, rule.tenant, subject, query=query))
        if not allowed:
            raise Forbidden(f"{caller.principal.name} may not {action.value}")
        scope = self.policy.scope(caller.principal)
        return Decision(caller, action, ids.Tenant(rule.tenant), scope, AS_STORED, access)

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
