"""From a stored study to what a view shows of it: for who may look at both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.access.actions import Action
from gateway.access.door import Door, View
from gateway.context import Caller
from gateway.errors import NotFound
from gateway.viewing.definition import Definition
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.matching import Condition
from storage.index.base import Index
from storage.index.questions import Target
from storage.index.stored import Existence


class Pseudonymisation:
    """Answers under which UIDs a view shows something.

    Parameters
    ----------
    index
        The archive's.
    views
        What each view shows, and how, by name.
    """

    def __init__(
        self, index: Index, views: Mapping[str, Archive], definitions: Mapping[str, Definition], door: Door
    ) -> None:
        self._index = index
        self._views = views
        self._definitions = definitions
        self._door = door

    def usable(self, caller: Caller, action: Action) -> Sequence[str]:
        """The views of the caller's tenant through which it may read, and do something by an action."""
        return [
            name
            for name, each in self._definitions.items()
            if each.tenant == caller.principal.tenant
            and self._door.onto(View(name)).is_open(caller, action)
            and self._door.onto(View(name)).is_open(caller, Action.READ)
        ]

    def names(self, tenant: str, study_uid: ids.StudyUid) -> Mapping[str, str]:
        """A study by every name that it has in a tenant's records: its UID, and its pseudonyms in views."""
        views = (each for each in self._definitions.values() if each.tenant == tenant)
        return {study_uid: study_uid, **{each.uid(study_uid): study_uid for each in views}}

    def find(
        self, caller: Caller, view: str, study_uid: ids.StudyUid, series_uid: ids.SeriesUid | None = None
    ) -> tuple[ids.StudyUid, ids.SeriesUid | None]:
        """The UIDs of a study, and of one of its series, in a view.

        Whoever is told both could tell them by their pixels; so it is asked for what lets see them, as stored and
        through the view.

        Raises
        ------
        NotFound
            It is not there, or not for the caller, or the view does not show it (yet); or there is no such view.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        stored = self._door.enter(caller, Action.READ, (study_uid,))
        shown = self._door.onto(View(view)).enter(caller, Action.DOWNLOAD)
        definition = self._definitions.get(view)
        if definition is None or definition.tenant != stored.tenant:
            raise NotFound("there is no such view")
        if not _is_live(self._index, Target(stored.tenant, study_uid, series_uid), stored.scope):
            raise NotFound("no such study")
        study = ids.study_uid(definition.uid(study_uid))
        series = ids.series_uid(definition.uid(series_uid)) if series_uid is not None else None
        if not _is_live(self._views[view].index, Target(stored.tenant, study, series), shown.scope):
            raise NotFound("the view does not show it, or not yet")
        return study, series


def _is_live(index: Index, target: Target, scope: Condition) -> bool:
    return index.existence(target, scope) is Existence.LIVE
