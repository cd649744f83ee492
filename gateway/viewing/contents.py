"""What is in a view: rows and objects by the study that they are made of, and the list of what is withheld."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from gateway.viewing.definition import Definition, made_of
from storage import records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING, Condition
from storage.errors import ObjectDamaged, ObjectNotFound
from storage.index.arrivals import Quarantined
from storage.index.base import Index
from storage.index.questions import Position, Row, Search, Target
from storage.index.stored import Holding, Located, StoredVersion
from storage.objects.spliced import SplicedObjectStore

_log = logging.getLogger("gateway.viewing")
_PAGE = 1000


class Contents:
    """The contents of one view. Studies are named as they are stored, unless said otherwise."""

    def __init__(self, shown: Archive, definition: Definition) -> None:
        self._shown = shown
        self._definition = definition

    @property
    def epoch(self) -> str:
        """Of the view's index: another one knows nothing of what was there before."""
        return self._shown.index.state().epoch

    @property
    def is_empty(self) -> bool:
        """Whether the view shows nothing at all."""
        return not self._shown.index.search(replace(_every_study(self._definition.tenant), limit=1))

    def target(self, study_uid: ids.StudyUid) -> Target:
        """A study as the view's index has it."""
        return Target(self._definition.tenant, ids.StudyUid(self._definition.uid(study_uid)))

    def of(self, study_uid: ids.StudyUid) -> Sequence[Holding]:
        """What is, or was, in the view of a study."""
        target = self.target(study_uid)
        return self._shown.index.everything_of(target.tenant, target.study_uid)

    def texts(self, study_uid: ids.StudyUid) -> Iterator[tuple[ids.Version, bytes]]:
        """What the view says of the instances of a study, in the DICOM JSON Model."""
        located = self._shown.index.locate(self.target(study_uid), EVERYTHING)
        texts = self._shown.index.metadata([each.version_id for each in located])
        return zip((each.version for each in located), texts, strict=True)

    def replace(self, holdings: Sequence[Holding]) -> None:
        """Take out what is made anew: nothing tells that it was there."""
        if holdings:
            self._erase([each.version for each in holdings])
            self._delete_objects(holdings)

    def take_out(self, holdings: Sequence[Holding]) -> None:
        """Take out what is gone from the archive, all of one study; the view says so (410), and its feed."""
        live = [each for each in holdings if not each.deleted]
        if not live:
            return
        tenant, versions = self._definition.tenant, [StoredVersion(each.version, each.object_key) for each in live]
        body = records.Deletion(live[0].key.study_uid, None, None, tuple(each.object_key for each in live)).dumps()
        self._shown.index.delete(tenant, self._shown.new_version(), body, versions)
        self._shown.index.purged(versions)
        self._delete_objects(live)

    def clear(self) -> None:
        """Take out everything: what was made by another profile or key is not to be shown a moment longer."""
        tenant = self._definition.tenant
        for row in studies_of(self._shown, tenant, EVERYTHING):
            self.replace(self._shown.index.everything_of(tenant, row.study_uid))

    def take_out_all_but(self, those_of: Callable[[Sequence[ids.StudyUid]], Collection[ids.StudyUid]]) -> int:
        """Take out the studies that the archive does not have; how many instances.

        Those of which that cannot be told go too, as if they had never been made: they are made anew.

        Parameters
        ----------
        those_of
            Which of some studies it has; asked of a page of them at a time.
        """
        gone = 0
        for page in pages_of(self._shown.index, _every_study(self._definition.tenant)):
            originals = {row.study_uid: self._original(row.study_uid) for row in page}
            there = those_of([each for each in originals.values() if each is not None])
            for shown, original in originals.items():
                if original in there:
                    continue
                holdings = self._shown.index.everything_of(self._definition.tenant, shown)
                if original is None:
                    self.replace(holdings)
                else:
                    gone += sum(not each.deleted for each in holdings)
                    self.take_out(holdings)
        return gone

    def _original(self, shown: ids.StudyUid) -> ids.StudyUid | None:
        """What a study of the view, by its pseudonym, is made of: its objects say so, as no pseudonym does.

        None when none of them can be read.
        """
        assert isinstance(self._shown.objects, SplicedObjectStore)
        for each in self._shown.index.locate(Target(self._definition.tenant, shown), EVERYTHING):
            try:
                key, _ = ids.parse_object_key(self._shown.objects.references(each.object_key)[0].key)
            except (ObjectNotFound, ObjectDamaged):
                continue
            return key.study_uid
        return None

    def forget(self, study_uid: ids.StudyUid) -> int:
        """Remove everything of a study for good, also what no row knows; how many objects there were."""
        self._erase([each.version for each in self.of(study_uid)])
        self.forget_withheld(sorted(self.withheld(study_uid).values()))
        target = self.target(study_uid)
        keys = [info.key for info in self._shown.objects.list(f"{target.tenant}/{target.study_uid}/")]
        for key in keys:
            self._shown.objects.delete(key)
        return len(keys)

    def _erase(self, versions: Sequence[ids.Version]) -> None:
        if versions:
            record = self._shown.new_version()
            body = records.Erasure(tuple(versions)).dumps()
            self._shown.index.erase(self._definition.tenant, record, body, versions)
            self._shown.index.forget_records([record])

    def _delete_objects(self, holdings: Sequence[Holding]) -> None:
        for each in holdings:
            self._shown.objects.delete(each.object_key)

    # What is withheld

    def withheld(self, study_uid: ids.StudyUid) -> Mapping[str, ids.Version]:
        """What is withheld of a study, by what it would be made of."""
        found = self._shown.index.quarantined(self._definition.tenant, study_uid)
        return {made_of(each.version): each.version for each in found}

    def withhold(self, located: Located, reason: str) -> None:
        """List an instance for who reviews what the view does not show."""
        _log.warning("view %s withholds an instance: %s", self._definition.name, reason)
        version = self._definition.version_of(located.version, 0)
        self._shown.index.quarantine(Quarantined(located.key, version, located.object_key, reason))

    def forget_withheld(self, versions: Sequence[ids.Version]) -> None:
        """Take off the list what is no more in the archive, or would be made otherwise now."""
        self._erase(versions)


def studies_of(archive: Archive, tenant: ids.Tenant, scope: Condition, after: Position | None = None) -> Iterator[Row]:
    """The studies of an archive in a stable order, beyond a position when one is given."""
    return rows_of(archive.index, replace(_every_study(tenant), scope=scope, after=after))


def _every_study(tenant: ids.Tenant) -> Search:
    return Search(tenant, Level.STUDY, versions=False)


def rows_of(index: Index, search: Search) -> Iterator[Row]:
    """All results of a search, page by page."""
    for page in pages_of(index, search):
        yield from page


def pages_of(index: Index, search: Search) -> Iterator[Sequence[Row]]:
    """All results of a search by pages, each asked for when the one before it is done with."""
    while True:
        found = index.search(replace(search, limit=_PAGE))
        yield found
        if len(found) < _PAGE:
            return
        search = replace(search, after=found[-1].position)
