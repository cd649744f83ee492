"""The one door: each use of the archive passes it, gets its scope and view there, and leaves a line on the trail."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.access.actions import Action, in_view
from gateway.access.live import LivePolicy
from gateway.access.rules import Policy
from gateway.audit.accesses import UNCOUNTED, Access
from gateway.audit.events import BREAK_GLASS, AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.context import OWN_KINDS, Caller, of_the_gateway
from gateway.errors import Forbidden
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING, Condition

_log = logging.getLogger("gateway.access")

_OCCASION_S = 600.0


@dataclass(frozen=True, slots=True)
class View:
    """A named projection of the archive; ``version`` changes with all that decides how a de-identified one speaks.

    The one without a name is the archive as it is stored.
    """

    name: str
    version: str = ""


AS_STORED = View("")


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
    """Decides and records.

    Parameters
    ----------
    policy_file
        The policy, which is read anew when it changes; None for the built-in one.
    alarm
        Called when somebody breaks the glass.

    Raises
    ------
    InvalidSettings
        The policy file cannot be read.
    """

    def __init__(self, policy_file: Path | None, trail: AuditTrail, alarm: Callable[[], None] = lambda: None) -> None:
        self._trail = trail
        self._alarm = alarm
        self._live = LivePolicy(policy_file, self._policy_changed)
        self._lock = threading.Lock()
        self._alarmed: dict[tuple[str, str], float] = {}
        self._view = AS_STORED

    def onto(self, view: View) -> Door:
        """The same door, with what is behind it seen through a view."""
        found = copy.copy(self)
        found._view = view
        return found

    def _policy_changed(self, outcome: str, detail: str) -> None:
        self._trail.write(AuditEvent("policy", outcome, of_the_gateway("policy"), detail=detail))

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._live.current()

    def enter(self, caller: Caller, action: Action, subject: tuple[str, ...] = (), query: str = "") -> Decision:
        """Ask for an action; the answer is on the trail before it is given. ``query`` is what a search asks for.

        Raises
        ------
        Forbidden
            The policy does not allow it.
        AuditUnavailable
            The decision cannot be recorded.
        """
        principal, view = caller.principal, self._view
        if view.name:
            action = in_view(action)
        found = self.policy.permission(principal, action, view=view.name, has_reason=bool(caller.reason))
        outcome = "denied" if found is None else BREAK_GLASS if found.broke_glass else "allowed"
        detail = caller.reason if found is not None and found.broke_glass else ""
        event = AuditEvent(action.value, outcome, caller, principal.tenant, subject, detail, query, view=view.name)
        access = self._trail.write(event)
        if found is None:
            raise Forbidden(f"{principal.name} may not {action.value}")
        if found.broke_glass:
            self._raise_alarm(caller)
        return Decision(caller, action, ids.Tenant(principal.tenant), found.scope, view, access)

    def is_open(self, caller: Caller, action: Action) -> bool:
        """Whether the policy allows an action at all. It lets nobody in, so nothing is on the trail."""
        name = self._view.name
        asked = in_view(action) if name else action
        return self.policy.permission(caller.principal, asked, view=name, has_reason=bool(caller.reason)) is not None

    def _raise_alarm(self, caller: Caller) -> None:
        """One for each principal and reason in a while: a series of images is one occasion."""
        occasion, now_s = (caller.principal.name, caller.reason), time.monotonic()
        with self._lock:
            self._alarmed = {each: until_s for each, until_s in self._alarmed.items() if until_s > now_s}
            again = occasion in self._alarmed
            self._alarmed[occasion] = now_s + _OCCASION_S
        if not again:
            self._alarm()
            _log.warning("request %s: %s broke the glass", caller.source.request_id, caller.principal.name)

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
        return Decision(caller, action, tenant, EVERYTHING, self._view)

    def record(self, event: AuditEvent) -> None:
        """Record what is not a decision: a rejected association, an unknown key, an outcome."""
        self._trail.write(event)
