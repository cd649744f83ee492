"""What the gateway does just now, as an administrator of a tenant may know it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.access.actions import Action
from gateway.access.door import Door
from gateway.context import Caller
from gateway.services.room import Place, free_bytes
from gateway.telemetry.counted import Counted
from storage.errors import StorageError
from storage.index.base import Index
from storage.index.stored import Usage


@dataclass(frozen=True, slots=True)
class Activity:
    """``fault`` is what keeps the engines from answering, "" for nothing; ``counted`` None where nobody counts.

    ``places`` are directories that arrivals need, with the room on their disks, None where that cannot be told.
    """

    fault: str
    places: Sequence[tuple[str, int | None]]
    usage: Usage
    quarantined: int
    commitments: int
    counted: Counted | None


class ActivityService:
    """Tells it. What is counted of other tenants is left out; queues and disks are of all of them.

    Parameters
    ----------
    views
        The tenant of each view.
    fault
        Says what keeps the engines from answering.
    ask
        Gives what the processes have counted.
    """

    def __init__(
        self,
        index: Index,
        places: Sequence[Place],
        views: Mapping[str, str],
        door: Door,
        fault: Callable[[], str | None],
        ask: Callable[[], Counted | None],
    ) -> None:
        self._index = index
        self._places = places
        self._views = views
        self._door = door
        self._fault = fault
        self._ask = ask

    def now(self, caller: Caller) -> Activity:
        """Look. Raises Forbidden, AuditUnavailable, storage.errors.StorageUnavailable."""
        tenant = self._door.enter(caller, Action.ADMIN, ("activity",)).tenant
        counted = self._ask()
        hidden = [view for view, of in self._views.items() if of != tenant]
        return Activity(
            self._fault() or "",
            [(each.name, _free(each)) for each in self._places],
            self._index.usage().get(tenant, Usage()),
            len(self._index.quarantined(tenant)),
            sum(of == tenant for of, _ in self._index.open_commitments(time.time())),
            counted and counted.of_tenant(tenant, hidden),
        )


def _free(place: Place) -> int | None:
    try:
        return free_bytes(place.directory)
    except StorageError:
        return None
