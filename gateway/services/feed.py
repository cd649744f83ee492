"""The change feed: what happened in the archive, in commit order, as far as a caller may know of it."""

from __future__ import annotations

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.context import Caller
from gateway.errors import Gone
from storage.index.base import Index
from storage.index.changes import Changes
from storage.index.questions import State


class FeedService:
    """Reads the feed."""

    def __init__(self, index: Index, door: Door) -> None:
        self._index = index
        self._door = door

    def enter(self, caller: Caller) -> Decision:
        """Ask to follow the feed; one decision serves a request, however long it lasts."""
        return self._door.enter(caller, Action.SEARCH, ("changefeed",))

    def page(self, decision: Decision, cursor: int, limit: int, epoch: str | None = None) -> Changes:
        """Changes after a cursor.

        Raises
        ------
        Gone
            The epoch is over: the index was built anew, and its numbers mean something else now.
        """
        found = self._index.changes(decision.tenant, decision.scope, cursor, limit)
        if epoch is not None and epoch != found.epoch:
            raise Gone("the index was built anew since: start from the beginning, with the new epoch")
        decision.access.took(matches=len(found.rows))
        return found

    def state(self) -> State:
        """Where the feed stands."""
        return self._index.state()
