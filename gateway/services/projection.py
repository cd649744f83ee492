"""A projection: the services that show a tenant's archive in one way, as it is stored or through a view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.access.actions import Action
from gateway.access.door import Decision, Door, View
from gateway.context import Caller
from gateway.errors import NotFound
from gateway.services.feed import FeedService
from gateway.services.ingest import Stored
from gateway.services.query import QueryService
from gateway.services.render import RenderService
from gateway.services.retrieve import RetrieveService
from gateway.services.spool import Spooled
from gateway.services.underway import UnderWay
from storage.dicom.identifiers import StudyUid, Version
from storage.dicom.part10 import Announced


class Ingest(Protocol):
    """What stores: see ``IngestService``."""

    def enter(self, caller: Caller, subject: tuple[str, ...] = ()) -> Decision:
        """Ask to store."""
        ...

    def under_way(self, caller: Caller, announced: Announced | None = None) -> UnderWay | None:
        """Who sends an instance into the archive while it arrives."""
        ...

    def in_turn(self, decision: Decision) -> bool:
        """Whether what comes later has to wait for what came before it."""
        ...

    def new_version(self) -> Version:
        """A version for an instance that has come now."""
        ...

    def store(
        self,
        decision: Decision,
        spooled: Spooled,
        announced: Announced | None = None,
        study_uid: StudyUid | None = None,
        *,
        version: Version | None = None,
    ) -> Stored:
        """Keep one instance."""
        ...


@dataclass(frozen=True, slots=True)
class Projection:
    """What is seen, and the services that show it; whatever the way, they are the same services."""

    view: View
    query: QueryService
    retrieve: RetrieveService
    render: RenderService
    feed: FeedService
    ingest: Ingest


class Projections:
    """All there are: the archive as stored, and the views by name."""

    def __init__(self, door: Door, stored: Projection, views: Mapping[str, Projection]) -> None:
        self._door = door
        self.stored = stored
        self.views = views

    @property
    def every(self) -> Sequence[Projection]:
        """The archive as stored, and every view."""
        return [self.stored, *self.views.values()]

    def close(self) -> None:
        """End what reads ahead."""
        for each in self.every:
            each.retrieve.close()

    def of(self, caller: Caller, action: Action, named: str | None = None) -> Projection:
        """What a caller sees: through the view that it names, else what the policy has for it.

        Raises
        ------
        Forbidden
            Also for a view that there is not: whoever may not use one does not learn which there are.
        NotFound
            There is no such view, for who may use any.
        """
        name = self._door.policy.default_view(caller.principal, action) if named is None else named
        if not name:
            return self.stored
        found = self.views.get(name)
        if found is None:
            self._door.onto(View(name)).enter(caller, action)
            raise NotFound("there is no such view")
        return found
