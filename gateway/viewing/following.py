"""A view keeps up with its archive: study by study, what came gets a de-identified copy of its header, what went goes.

The archive's change feed says which studies to look at. A study is then compared as a whole, so that a round can be
broken off and repeated at any place, and several hosts may do the same without harm: what is made of a version is the
same everywhere, and so is its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.deid.identifiers import Identifiers
from gateway.deid.pseudonyms import PseudonymousPatient
from gateway.errors import NotDeidentified
from gateway.viewing.definition import Definition, made_of
from gateway.viewing.deriving import Deriver
from gateway.viewing.notes import Note, Notes
from gateway.viewing.opening import Opened, opened
from storage import records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING, Condition
from storage.errors import StorageUnavailable
from storage.index import rows
from storage.index.arrivals import Quarantined
from storage.index.questions import Position, Row, Search, Target
from storage.index.stored import Holding, Located, StoredVersion

_log = logging.getLogger("gateway.viewing")

_PAGE = 1000
_PLACE = "place"
"""The note of how far a view has come."""


@dataclass(slots=True)
class Report:
    """What a round did, in instances; ``studies`` are those that were looked at."""

    studies: int = 0
    made: int = 0
    gone: int = 0
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class _Patient:
    """A patient as the index knows one: a blank Patient ID belongs to its study alone."""

    issuer: str
    patient_id: str
    study_uid: str

    @classmethod
    def of(cls, metadata: bytes, study_uid: str) -> _Patient:
        return cls(*rows.patient_key(json_model.loads(metadata), study_uid))

    def pseudonymous(self, definition: Definition) -> PseudonymousPatient:
        """Who stands for it."""
        if not self.patient_id:
            return definition.pseudonyms.unidentified(definition.tenant, self.study_uid)
        return definition.pseudonyms.patient(definition.tenant, self.issuer, self.patient_id)


@dataclass(slots=True)
class _Work:
    """What there is to do in one study."""

    new: list[Located] = field(default_factory=list)
    replaced: list[Holding] = field(default_factory=list)
    gone: list[Holding] = field(default_factory=list)


class Follower:
    """Keeps one view up with its archive.

    Parameters
    ----------
    source, shown
        The archive, and what the view shows.
    notes
        The view's own.
    """

    def __init__(self, source: Archive, shown: Archive, definition: Definition, notes: Notes, deriver: Deriver) -> None:
        self._source = source
        self._shown = shown
        self._definition = definition
        self._notes = notes
        self._deriver = deriver
        self._withheld: dict[str, dict[str, ids.Version]] = {}
        """By study: of what an instance that is not shown would be made, and its name in the list for reviewers."""

    def follow(self, stopped: Callable[[], bool] = lambda: False) -> Report:
        """One round: everything that changed since the last, or less once ``stopped``.

        A view that is new, or whose profile or key changed, or whose archive got a new index, is filled from the
        beginning; a round that is broken off is gone on with.

        Raises
        ------
        storage.errors.StorageUnavailable
            The next round goes on where this one was.
        """
        report = Report()
        self._read_withheld()
        note, revision = self._notes.read(_PLACE)
        now = self._source.index.state()
        here = {"version": self._definition.version, "source": now.epoch, "shown": self._shown.index.state().epoch}
        if {name: note.get(name) for name in here} != here:
            # What changes from now on, while it is filled, is looked at again.
            note = {**here, "cursor": now.change, "filled": None}
        begun = dict(note)
        try:
            if "filled" not in note or self._fill(note, report, stopped):
                self._go_on(note, report, stopped)
        finally:
            if note != begun or not revision:
                self._notes.write(_PLACE, note, revision)
        return report

    def _fill(self, note: Note, report: Report, stopped: Callable[[], bool]) -> bool:
        """Look at every study that there is, here or there; False when it was stopped, to go on at the place noted."""
        definition = self._definition
        after = note["filled"]
        for row in _studies(self._source, definition.tenant, definition.scope, tuple(after) if after else None):
            if stopped():
                return False
            self.update(row.study_uid, report)
            note["filled"] = row.position
        expected = {
            definition.uid(row.study_uid) for row in _studies(self._source, definition.tenant, definition.scope)
        }
        for row in _studies(self._shown, definition.tenant, EVERYTHING):
            if row.study_uid not in expected:
                self._remove(row.study_uid, report)
        del note["filled"]
        return True

    def _go_on(self, note: Note, report: Report, stopped: Callable[[], bool]) -> None:
        """Look at the studies in which something happened."""
        while True:
            found = self._source.index.changes(self._definition.tenant, EVERYTHING, note["cursor"], _PAGE)
            for study_uid in dict.fromkeys(change.study_uid for change in found.rows):
                if stopped():
                    return
                self.update(study_uid, report)
            note["cursor"] = found.next_cursor
            if found.next_cursor >= found.head:
                return

    def update(self, study_uid: ids.StudyUid, report: Report) -> None:
        """Bring one study up with the archive."""
        definition, index = self._definition, self._source.index
        report.studies += 1
        located = index.locate(Target(definition.tenant, study_uid), definition.scope)
        work = self._work(study_uid, located)
        self._withdraw(work, report)
        if not work.new:
            return
        (metadata,) = index.metadata([work.new[0].version_id])
        patient = _Patient.of(metadata, study_uid)
        ready: list[tuple[Located, Opened]] = []
        learned = Identifiers()
        for each in work.new:
            with self._withholding(each, report):
                found = opened(self._source, each)
                learned = learned.joined(Identifiers.harvested(found.data_set))
                ready.append((each, found))
        known, revision = self._learn(patient, learned, report)
        pseudonym = patient.pseudonymous(definition)
        for each, found in ready:
            with self._withholding(each, report):
                self._deriver.derive(each, found, pseudonym, known, revision)
                report.made += 1

    def _work(self, study_uid: ids.StudyUid, located: Sequence[Located]) -> _Work:
        """What is to be made, and what is here of instances that are replaced, or gone there."""
        definition = self._definition
        target = Target(definition.tenant, ids.StudyUid(definition.uid(study_uid)))
        here = self._shown.index.everything_of(target.tenant, target.study_uid)
        withheld = self._withheld.get(study_uid, {})
        made = {made_of(each.version) for each in here if not each.deleted} | withheld.keys()
        wanted = {made_of(definition.version_of(each.version, 0)): each for each in located}
        there = {definition.uid(each.key.sop_uid) for each in located}
        work = _Work(new=[each for name, each in wanted.items() if name not in made])
        for each in here:
            if each.key.sop_uid not in there:
                if not each.deleted:
                    work.gone.append(each)
            elif each.deleted or made_of(each.version) not in wanted:
                work.replaced.append(each)
        self._forget_withheld(study_uid, withheld.keys() - wanted.keys())
        return work

    def _forget_withheld(self, study_uid: ids.StudyUid, names: Set[str]) -> None:
        """Take off the list what is no more in the archive, or would be made otherwise now."""
        if names:
            held = self._withheld[study_uid]
            self._erase([held.pop(name) for name in sorted(names)])

    def _erase(self, versions: Sequence[ids.Version]) -> None:
        record = self._shown.new_version()
        body = records.Erasure(tuple(versions)).dumps()
        self._shown.index.erase(self._definition.tenant, record, body, versions)
        self._shown.index.forget_records([record])

    def _read_withheld(self) -> None:
        self._withheld = {}
        for each in self._shown.index.quarantined(self._definition.tenant):
            self._withheld.setdefault(each.key.study_uid, {})[made_of(each.version)] = each.version

    def _withdraw(self, work: _Work, report: Report) -> None:
        """Take out what is gone, and what is about to be made anew."""
        tenant, index = self._definition.tenant, self._shown.index
        if work.replaced:
            self._erase([each.version for each in work.replaced])
        if work.gone:
            report.gone += len(work.gone)
            versions_gone = [StoredVersion(each.version, each.object_key) for each in work.gone]
            study_uid = work.gone[0].key.study_uid
            record = self._shown.new_version()
            body = records.Deletion(study_uid, None, None, tuple(each.object_key for each in work.gone)).dumps()
            index.delete(tenant, record, body, versions_gone)
            index.purged(versions_gone)
        for each in (*work.replaced, *work.gone):
            self._shown.objects.delete(each.object_key)

    def _remove(self, shown_uid: ids.StudyUid, report: Report) -> None:
        """Take out a study that is no more in the archive, or no more in the view."""
        here = self._shown.index.everything_of(self._definition.tenant, shown_uid)
        self._withdraw(_Work(gone=[each for each in here if not each.deleted]), report)

    @contextmanager
    def _withholding(self, located: Located, report: Report) -> Iterator[None]:
        """Withhold an instance that cannot be vouched for; the others go on, also where the fault is ours."""
        try:
            yield
        except StorageUnavailable:
            raise
        except NotDeidentified as reason:
            self._withhold(located, str(reason), report)
        except Exception as error:  # one instance must not keep all others out of the view
            _log.exception("view %s: a defect while an instance was de-identified", self._definition.name)
            self._withhold(located, f"a defect: {type(error).__name__}", report)

    def _withhold(self, located: Located, reason: str, report: Report) -> None:
        """List an instance for who reviews what the view does not show."""
        report.withheld += 1
        _log.warning("view %s withholds an instance: %s", self._definition.name, reason)
        version = self._definition.version_of(located.version, 0)
        self._shown.index.quarantine(Quarantined(located.key, version, located.object_key, reason))
        self._withheld.setdefault(located.key.study_uid, {})[made_of(version)] = version

    def _learn(self, patient: _Patient, learned: Identifiers, report: Report) -> tuple[Identifiers, int]:
        """What is known of a patient with what a study taught, and its revision.

        Whatever earlier studies show that is now known for the patient's is made anew.
        """
        name = f"patients/{patient.pseudonymous(self._definition).id}"
        while True:
            note, revision = self._notes.read(name)
            known = Identifiers.loads(note) if note else Identifiers()
            together = known.joined(learned)
            if together == known:
                return known, max(revision, 1)
            if self._notes.write(name, together.dumps(), revision):
                break
        if patient.patient_id:
            for other in self._source.index.studies_of(self._definition.tenant, patient.issuer, patient.patient_id):
                self._clean_again(other, together.without(known), report)
        return together, revision + 1

    def _clean_again(self, study_uid: ids.StudyUid, learned: Identifiers, report: Report) -> None:
        """Take out of the view what shows something that was learned; the study is looked at once more."""
        tenant, index = self._definition.tenant, self._shown.index
        target = Target(tenant, ids.StudyUid(self._definition.uid(study_uid)))
        located = index.locate(target, EVERYTHING)
        texts = index.metadata([each.version_id for each in located])
        showing = {each.version for each, text in zip(located, texts, strict=True) if learned.found_in(text)}
        if showing:
            here = index.everything_of(tenant, target.study_uid)
            self._withdraw(_Work(replaced=[each for each in here if each.version in showing]), report)
            self.update(study_uid, report)


def _studies(archive: Archive, tenant: ids.Tenant, scope: Condition, after: Position | None = None) -> Iterator[Row]:
    while True:
        found = archive.index.search(Search(tenant, Level.STUDY, scope=scope, limit=_PAGE, after=after, versions=False))
        yield from found
        if len(found) < _PAGE:
            return
        after = found[-1].position
