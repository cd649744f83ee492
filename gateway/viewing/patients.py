"""What a view knows of its patients: who stands for each, and what identifies each in texts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.deid.identifiers import Identifiers, Kind
from gateway.deid.pseudonyms import PseudonymousPatient
from gateway.viewing.definition import Definition
from gateway.viewing.notes import Note, Notes
from storage.dicom import json_model
from storage.index import rows

MOST_KNOWN = 10_000
"""Of a kind of one patient in all: each is looked for in every text. Of whom more is known, nothing is shown."""

_UNSEARCHED, _EXCESS = "unsearched", "too_many"
_NONE = Identifiers()


def excess_of(known: Identifiers) -> Kind | None:
    """The kind of which more is known than of one patient can be."""
    return known.excess(MOST_KNOWN)


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient as the index knows one: a blank Patient ID belongs to its study alone."""

    issuer: str
    patient_id: str
    study_uid: str

    @classmethod
    def of(cls, metadata: bytes, study_uid: str) -> Patient:
        """The patient of an instance's metadata."""
        return cls(*rows.patient_key(json_model.loads(metadata), study_uid))

    def pseudonymous(self, definition: Definition) -> PseudonymousPatient:
        """Who stands for it in a view."""
        if not self.patient_id:
            return definition.pseudonyms.unidentified(definition.tenant, self.study_uid)
        return definition.pseudonyms.patient(definition.tenant, self.issuer, self.patient_id)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a patient.

    ``unsearched`` of it was not yet looked for in what the view shows. With ``excess``, the kind of which there is too
    much, nothing else is known any more. ``is_news`` says that what the view shows has to be looked at, ``is_again``
    that somebody was to do so before, and may have been broken off.
    """

    identifiers: Identifiers = _NONE
    unsearched: Identifiers = _NONE
    excess: str = ""
    is_news: bool = False
    is_again: bool = False
    revision: int = 0

    def dumps(self) -> Note:
        """As a note."""
        note: Note = {_EXCESS: self.excess} if self.excess else self.identifiers.dumps()
        return {**note, _UNSEARCHED: self.unsearched.dumps()} if self.is_news else note

    @classmethod
    def loads(cls, note: Note, revision: int) -> Known:
        """Of ``dumps``; what earlier releases noted was searched for."""
        return cls(
            Identifiers.loads(note) if note and _EXCESS not in note else _NONE,
            Identifiers.loads(note[_UNSEARCHED]) if _UNSEARCHED in note else _NONE,
            note.get(_EXCESS, ""),
            _UNSEARCHED in note,
            _UNSEARCHED in note,
            max(revision, 1),
        )


class KnownPatients:
    """What identifies each patient, in the view's notes; it grows with every study, up to a bound."""

    def __init__(self, notes: Notes, definition: Definition) -> None:
        self._notes = notes
        self._definition = definition

    def learn(self, patient: Patient, learned: Identifiers) -> Known:
        """What is known with what was learned, and what of it is news.

        Whoever is told of news looks for them, and calls ``settle`` then: until that they are told again.
        """
        name = self._name(patient)
        while True:
            note, revision = self._notes.read(name)
            known = Known.loads(note, revision)
            news = learned.without(known.identifiers)
            if known.excess or news == _NONE:
                return known
            found = replace(known, is_news=True, revision=revision + 1)
            together = known.identifiers.joined(news)
            if (excess := excess_of(together)) is not None:
                found = replace(found, identifiers=_NONE, unsearched=_NONE, excess=excess)
            else:
                found = replace(found, identifiers=together, unsearched=known.unsearched.joined(news))
            # Of whom nothing was known, nothing is shown: that would be a note for each patient, put and taken back.
            noted = replace(found, is_news=revision > 0)
            if self._notes.write(name, noted.dumps(), revision):
                return found

    def settle(self, patient: Patient, known: Known) -> None:
        """Note that what the view shows was looked at, unless somebody has more news meanwhile: they look for all."""
        if known.revision > 1:
            settled = replace(known, unsearched=_NONE, is_news=False)
            self._notes.write(self._name(patient), settled.dumps(), known.revision)

    def forget(self, patient: Patient) -> None:
        """Remove what is known of a patient."""
        self._notes.forget(self._name(patient))

    def _name(self, patient: Patient) -> str:
        return f"patients/{patient.pseudonymous(self._definition).id}"
