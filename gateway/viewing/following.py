"""A view keeps up with its archive: study by study, what came gets a de-identified copy of its header, what went goes.

The archive's change feed says which studies to look at. A study is then compared as a whole, so that a round can be
broken off and repeated at any place, and several hosts may do the same without harm: what is made of a version is the
same everywhere, and so is its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.deid.identifiers import Identifiers
from gateway.errors import NotDeidentified
from gateway.viewing.contents import Contents, studies_of
from gateway.viewing.definition import Definition, made_of
from gateway.viewing.deriving import Deriver, released
from gateway.viewing.notes import Note, Notes
from gateway.viewing.opening import opened
from gateway.viewing.patients import KnownPatients, Patient
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.errors import StorageUnavailable
from storage.index.arrivals import Quarantined
from storage.index.questions import Target
from storage.index.stored import Holding, Located

_log = logging.getLogger("gateway.viewing")

_PAGE = 1000
_PLACE = "place"
"""The note of how far a view has come."""


def is_being_filled(notes: Notes) -> bool:
    """Whether a view has not yet been through every study there is."""
    note, _ = notes.read(_PLACE)
    return not note or "filled" in note


@dataclass(slots=True)
class Report:
    """What a round did, in instances; ``studies`` are those that were looked at."""

    studies: int = 0
    made: int = 0
    gone: int = 0
    withheld: int = 0


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
    source
        The archive.
    contents, deriver
        What is in the view, and what makes it.
    notes
        The view's own.
    """

    def __init__(
        self, source: Archive, contents: Contents, definition: Definition, notes: Notes, deriver: Deriver
    ) -> None:
        self._source = source
        self._contents = contents
        self.definition = definition
        self._notes = notes
        self._patients = KnownPatients(notes, definition)
        self._deriver = deriver

    def follow(self, stopped: Callable[[], bool] = lambda: False, report: Report | None = None) -> Report:
        """One round: everything that changed since the last, or less once ``stopped``; ``report`` grows with it.

        A view that is new, or whose profile or key changed, or whose archive got a new index, is filled from the
        beginning; a round that is broken off is gone on with.

        Raises
        ------
        storage.errors.StorageUnavailable
            The next round goes on where this one was.
        """
        report = report or Report()
        self._contents.read_withheld()
        note, revision = self._notes.read(_PLACE)
        now = self._source.index.state()
        here = {"version": self.definition.version, "source": now.epoch, "shown": self._contents.epoch}
        if {name: note.get(name) for name in here} != here:
            if note.get("version") != here["version"]:
                self._contents.clear()
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
        tenant, scope = self.definition.tenant, self.definition.scope
        after = note["filled"]
        for row in studies_of(self._source, tenant, scope, tuple(after) if after else None):
            if stopped():
                return False
            self.update(row.study_uid, report)
            note["filled"] = row.position
        report.gone += self._contents.take_out_all_but(row.study_uid for row in studies_of(self._source, tenant, scope))
        del note["filled"]
        return True

    def _go_on(self, note: Note, report: Report, stopped: Callable[[], bool]) -> None:
        """Look at the studies in which something happened."""
        while True:
            found = self._source.index.changes(self.definition.tenant, EVERYTHING, note["cursor"], _PAGE)
            for study_uid in dict.fromkeys(change.study_uid for change in found.rows):
                if stopped():
                    return
                self.update(study_uid, report)
            note["cursor"] = found.next_cursor
            if found.next_cursor >= found.head:
                return

    def bring_up(self, studies: Iterable[ids.StudyUid], report: Report) -> Iterator[ids.StudyUid]:
        """Bring studies up now, whoever follows beside; each is told when it is done.

        The other studies of their patients go with them, since what these teach is taken out of the texts of all.
        """
        self._contents.read_withheld()
        done: set[ids.StudyUid] = set()
        for study_uid in studies:
            for each in (study_uid, *self._others(study_uid)):
                if each not in done:
                    self.update(each, report)
                    done.add(each)
            yield study_uid

    def _others(self, study_uid: ids.StudyUid) -> Sequence[ids.StudyUid]:
        """All studies of a study's patient."""
        definition, index = self.definition, self._source.index
        located = index.locate(Target(definition.tenant, study_uid), definition.scope)
        for metadata in index.metadata([each.version_id for each in located[:1]]):
            patient = Patient.of(metadata, study_uid)
            if patient.patient_id:
                return index.studies_of(definition.tenant, patient.issuer, patient.patient_id)
        return ()

    def update(self, study_uid: ids.StudyUid, report: Report) -> None:
        """Bring one study up with the archive; an instance at a time is in memory."""
        definition, index = self.definition, self._source.index
        report.studies += 1
        work = self._taken_out(study_uid, report)
        if not work.new:
            return
        (metadata,) = index.metadata([work.new[0].version_id])
        patient = Patient.of(metadata, study_uid)
        learned = Identifiers()
        for each in work.new:
            with self._withholding(each, report):
                learned = learned.joined(definition.harvested(opened(self._source, each).data_set))
        known = self._patients.learn(patient, learned)
        unclean = self._unclean(patient, study_uid, known.new)
        if study_uid in unclean:
            work = self._work(study_uid)
        pseudonym, cleaner = patient.pseudonymous(definition), definition.cleaner(known.identifiers)
        for each in work.new:
            if made_of(definition.version_of(each.version, 0)) in self._contents.withheld(study_uid):
                continue
            with self._withholding(each, report):
                self._deriver.derive(each, opened(self._source, each), pseudonym, cleaner, known.revision)
                report.made += 1
        for other in unclean:
            if other != study_uid:
                self.update(other, report)

    def _taken_out(self, study_uid: ids.StudyUid, report: Report) -> _Work:
        """What there is to do in a study, once what is gone or replaced there is no more in the view."""
        work = self._work(study_uid)
        self._contents.replace(work.replaced)
        self._contents.take_out(work.gone)
        report.gone += len(work.gone)
        return work

    def _unclean(self, patient: Patient, study_uid: ids.StudyUid, learned: Identifiers) -> list[ids.StudyUid]:
        """Studies of a patient that showed something that was learned, once what did is no more in the view."""
        if learned == Identifiers():
            return []
        of_patient: Sequence[ids.StudyUid] = [study_uid]
        if patient.patient_id:
            of_patient = self._source.index.studies_of(self.definition.tenant, patient.issuer, patient.patient_id)
        found = []
        for each in of_patient:
            showing = {version for version, text in self._contents.texts(each) if learned.found_in(text)}
            if showing:
                self._contents.replace([one for one in self._contents.of(each) if one.version in showing])
                found.append(each)
        return found

    def release(self, withheld: Quarantined, report: Report) -> None:
        """Show an instance that was withheld since text may be burned in; somebody answers for it."""
        self._notes.write(released(made_of(withheld.version)), {}, 0)
        self._contents.read_withheld()
        self._contents.forget_withheld(withheld.key.study_uid, [made_of(withheld.version)])
        self.update(withheld.key.study_uid, report)

    def _work(self, study_uid: ids.StudyUid) -> _Work:
        """What is to be made, and what is here of instances that are replaced, or gone there."""
        definition = self.definition
        located = self._source.index.locate(Target(definition.tenant, study_uid), definition.scope)
        here, withheld = self._contents.of(study_uid), self._contents.withheld(study_uid)
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
        self._contents.forget_withheld(study_uid, sorted(withheld.keys() - wanted.keys()))
        return work

    @contextmanager
    def _withholding(self, located: Located, report: Report) -> Iterator[None]:
        """Withhold an instance that cannot be vouched for; the others go on, also where the fault is ours."""
        try:
            yield
        except StorageUnavailable:
            raise
        except NotDeidentified as reason:
            report.withheld += 1
            self._contents.withhold(located, str(reason))
        except Exception as error:  # one instance must not keep all others out of the view
            report.withheld += 1
            _log.exception("view %s: a defect while an instance was de-identified", self.definition.name)
            self._contents.withhold(located, f"a defect: {type(error).__name__}")
