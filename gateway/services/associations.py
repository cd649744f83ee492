"""Associations that are over: written down beside whoever serves them, and told to administrators.

They are kept in logs of the control state, one of each tenant and one of associations that were nobody's, so that none
pushes the others out.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway.access.actions import Action
from gateway.access.door import Door
from gateway.context import Caller
from gateway.services.peers import is_alone
from storage.control.base import ControlStore, Entry
from storage.errors import StorageError

_log = logging.getLogger(__name__)

KEPT = 500
"""Associations of each tenant that are kept, and rejected ones of nobody."""
_GATHERED_S = 1.0
"""So long those that end are gathered: one transaction a second, however many there are."""
_AFTER_FAILURE_S = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """How often something was asked for, and how often that failed, in whole or in part."""

    operation: str
    count: int
    failed: int


@dataclass(frozen=True, slots=True)
class Association:
    """One that is over, or a request for one that was rejected.

    Parameters
    ----------
    request_id
        By which logs and the audit trail name it.
    ended_s
        Unix time.
    seconds
        From its request to its end.
    host
        That served it.
    tenant
        "" when nobody's, as rejected ones are.
    proposed, accepted
        How many presentation contexts.
    not_accepted
        Abstract syntaxes of the first of the others, by name.
    outcome
        "released", "aborted", "rejected" or "failed"; ``detail`` says why it was not released.
    """

    request_id: str
    ended_s: float
    seconds: float
    host: str
    calling: str
    called: str
    address: str
    tenant: str
    principal: str
    proposed: int
    accepted: int
    not_accepted: Sequence[str]
    served: Sequence[Served]
    outcome: str
    detail: str

    def entry(self) -> Entry:
        """As it is kept."""
        return Entry(self.ended_s, self.request_id, asdict(self))

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Association:
        """As it was kept."""
        return cls(**{**body, "served": [Served(**each) for each in body["served"]]})


class AssociationLog:
    """Writes down what is over, on a thread of its own: no association waits for it, and none fails with it.

    While the control state cannot be written, the latest ``KEPT`` are held.
    """

    def __init__(self, control: ControlStore) -> None:
        self._control = control
        self._over: deque[Association] = deque(maxlen=KEPT)
        self._something = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="associations", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def take(self, over: Association) -> None:
        """One more. From any thread, at once."""
        self._over.append(over)
        self._something.set()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stop.set()
        self._something.set()
        self._thread.join()

    def _run(self) -> None:
        left: list[Association] = []
        while not self._stop.is_set():
            self._something.wait()
            self._stop.wait(_GATHERED_S)
            self._something.clear()
            left = self._written([*left, *self._taken()])
            if left:
                self._stop.wait(_AFTER_FAILURE_S)
                self._something.set()
        self._written([*left, *self._taken()])

    def _taken(self) -> Iterator[Association]:
        while self._over:
            yield self._over.popleft()

    def _written(self, over: Sequence[Association]) -> list[Association]:
        """Write them; what is to be written again."""
        try:
            for tenant in dict.fromkeys(each.tenant for each in over):
                self._control.log(_name(tenant), [each.entry() for each in over if each.tenant == tenant], KEPT)
        except StorageError as error:
            _log.warning("associations are not written down: %s; it is tried again", error)
            return [*over[-KEPT:]]
        return []


class AssociationService:
    """Tells administrators of a tenant of its last associations.

    Parameters
    ----------
    tenants
        Those of the settings.
    """

    def __init__(self, control: ControlStore, tenants: Sequence[str], door: Door) -> None:
        self._control = control
        self._tenants = frozenset(tenants)
        self._door = door

    def known(self, caller: Caller, limit: int) -> list[Association]:
        """The last of them, latest first.

        Those of nobody are told where there is one tenant, and else if the tenant has the calling AE title. Raises
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable.
        """
        tenant = self._door.enter(caller, Action.ADMIN, ("associations",)).tenant
        theirs = {who.ae_title for who in self._door.policy.application_entities(tenant)}
        every = is_alone(self._tenants, self._door.policy, tenant)
        nobodys = [each for each in logged(self._control, "", KEPT) if every or each.calling in theirs]
        found = [*logged(self._control, tenant, limit), *nobodys]
        return sorted(found, key=lambda each: each.ended_s, reverse=True)[:limit]


def logged(control: ControlStore, tenant: str, limit: int) -> list[Association]:
    """The last associations of a tenant, latest first; "" for those of nobody."""
    return [Association.of(each.body) for each in control.logged(_name(tenant), limit)]


def _name(tenant: str) -> str:
    return f"associations {tenant}".strip()
