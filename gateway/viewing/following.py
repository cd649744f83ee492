"""A view keeps up with its archive: study by study, what came gets a de-identified copy of its header, what went goes.

The archive's change feed says which studies to look at. A study is then compared as a whole, so that a round can be
broken off and repeated at any place, and several hosts may do the same without harm: what is made of a version is the
same everywhere, and so is its name.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.deid.identifiers import DictionaryCleaner, Identifiers
from gateway.deid.pseudonyms import PseudonymousPatient
from gateway.errors import NotDeidentified
from gateway.viewing.contents import Contents, studies_of
from gateway.viewing.definition import Definition, made_of
from gateway.viewing.deriving import Deriver, released
from gateway.viewing.notes import Note, Notes
from gateway.viewing.opening import Opened, opened
from gateway.viewing.patients import Known, KnownPatients, Patient, excess_of
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING, OneOf
from storage.errors import StorageUnavailable
from storage.index.arrivals import Quarantined
from storage.index.questions import Search, Target
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

        A view that is new, or whose profile, key or scope changed, or whose archive got a new index, is filled from the
        beginning; a round that is broken off is gone on with.

        Raises
        ------
        storage.errors.StorageUnavailable
            The next round goes on where this one was.
        """
        report = report or Report()
        note, revision = self._notes.read(_PLACE)
        now = self._source.index.state()
        here = {
            "version": self.definition.version,
            "scope": hashlib.sha256(repr(self.definition.scope).encode()).hexdigest(),
            "source": now.epoch,
            "shown": self._contents.epoch,
        }
        if {name: note.get(name) for name in here} != here:
            if note.get("version") != here["version"]:
                self._contents.clear()
            # What changes from now on, while it is filled, is looked at again. What was here before may be gone from
            # the archive, with no change left that tells of it.
            note = {**here, "cursor": now.change, "filled": None, "stale": not self._contents.is_empty}
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
        # A view that an earlier release began to fill does not say whether there was anything in it.
        if note.get("stale", True):
            report.gone += self._contents.take_out_all_but(self._those_there)
            note["stale"] = False
        tenant, scope = self.definition.tenant, self.definition.scope
        after = note["filled"]
        for row in studies_of(self._source, tenant, scope, tuple(after) if after else None):
            if stopped():
                return False
            self.update(row.study_uid, report)
            note["filled"] = row.position
        del note["filled"], note["stale"]
        return True

    def _those_there(self, studies: Sequence[ids.StudyUid]) -> set[ids.StudyUid]:
        """Those of some studies that the archive has for the view."""
        if not studies:
            return set()
        among = OneOf("StudyInstanceUID", tuple(studies))
        definition = self.definition
        search = Search(
            definition.tenant, Level.STUDY, (among,), scope=definition.scope, limit=len(studies), versions=False
        )
        return {row.study_uid for row in self._source.index.search(search)}

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
        known = self._patients.learn(patient, self._harvested(work.new, report))
        # Before anything is made: a round that is broken off here finds this study with its instances to make, and the
        # news where they were noted.
        if known.is_news and self._spread(patient, study_uid, known, report):
            work = self._work(study_uid)
        pseudonym, cleaner = patient.pseudonymous(definition), definition.cleaner(known.identifiers)
        withheld = self._contents.withheld(study_uid)  # also what could not be read for what it teaches
        for each in work.new:
            if made_of(definition.version_of(each.version, 0)) in withheld:
                continue
            with self._withholding(each, report):
                self._make(each, opened(self._source, each), pseudonym, cleaner, known)
                report.made += 1

    def _harvested(self, new: Sequence[Located], report: Report) -> Identifiers:
        """What instances teach of their patient, until it is more than can be known of one."""
        learned = Identifiers()
        for each in new:
            with self._withholding(each, report):
                learned = learned.joined(self.definition.harvested(opened(self._source, each).data_set))
            if excess_of(learned) is not None:
                break
        return learned

    def _make(
        self, located: Located, found: Opened, pseudonym: PseudonymousPatient, cleaner: DictionaryCleaner, known: Known
    ) -> None:
        """Put an instance into the view. Raises NotDeidentified, also where too much is known of its patient."""
        if known.excess:
            raise NotDeidentified(f"too many {known.excess} are known of its patient to be looked for")
        self._deriver.derive(located, found, pseudonym, cleaner, known.revision)

    def _spread(self, patient: Patient, learned_of: ids.StudyUid, known: Known, report: Report) -> bool:
        """Take out of the view whatever of a patient shows something that is news, and make it anew.

        Of the study that it was learned of nothing is made here; True when something was taken out of it.
        """
        hidden: frozenset[str] = frozenset()
        for each in self._studies_of(patient, learned_of):
            hidden = self._hide(each, known)
            if each != learned_of and (hidden or known.is_again):
                self._make_again(each, hidden, patient, known, report)
        self._patients.settle(patient, known)
        return bool(hidden)

    def _studies_of(self, patient: Patient, last: ids.StudyUid) -> Sequence[ids.StudyUid]:
        """All studies of a patient, with one of them at the end."""
        if not patient.patient_id:
            return [last]
        found = self._source.index.studies_of(self.definition.tenant, patient.issuer, patient.patient_id)
        return [*(each for each in found if each != last), last]

    def _hide(self, study_uid: ids.StudyUid, known: Known) -> frozenset[str]:
        """Take out what shows something that is news of its patient, and all where there is too much to be looked for.

        Returns what the instances are made of.
        """
        news = known.unsearched
        shown = self._contents.texts(study_uid)
        showing = {version for version, text in shown if known.excess or news.found_in(text)}
        if showing:
            self._contents.replace([each for each in self._contents.of(study_uid) if each.version in showing])
        return frozenset(made_of(version) for version in showing)

    def _make_again(
        self, study_uid: ids.StudyUid, hidden: frozenset[str], patient: Patient, known: Known, report: Report
    ) -> None:
        """Make what was taken out of another study, now or in a round that was broken off.

        What nobody has learned from yet is left: its turn comes.
        """
        definition = self.definition
        pseudonym, cleaner = patient.pseudonymous(definition), definition.cleaner(known.identifiers)
        for each in self._work(study_uid).new:
            was_here = made_of(definition.version_of(each.version, 0)) in hidden
            if not (was_here or known.is_again):
                continue
            with self._withholding(each, report):
                found = opened(self._source, each)
                learned = Identifiers() if was_here or known.excess else definition.harvested(found.data_set)
                if learned.without(known.identifiers) == Identifiers():
                    self._make(each, found, pseudonym, cleaner, known)
                    report.made += 1

    def _taken_out(self, study_uid: ids.StudyUid, report: Report) -> _Work:
        """What there is to do in a study, once what is gone or replaced there is no more in the view."""
        work = self._work(study_uid)
        self._contents.replace(work.replaced)
        self._contents.take_out(work.gone)
        report.gone += len(work.gone)
        return work

    def release(self, withheld: Quarantined, report: Report) -> None:
        """Show an instance that was withheld since text may be burned in; somebody answers for it."""
        self._notes.write(released(made_of(withheld.version)), {}, 0)
        self._contents.forget_withheld([withheld.version])
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
        self._contents.forget_withheld([withheld[name] for name in sorted(withheld.keys() - wanted.keys())])
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
