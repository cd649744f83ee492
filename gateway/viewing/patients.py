"""What a view knows of its patients: who stands for each, and what identifies each in texts."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.deid.identifiers import Identifiers
from gateway.deid.pseudonyms import PseudonymousPatient
from gateway.viewing.definition import Definition
from gateway.viewing.notes import Notes
from storage.dicom import json_model
from storage.index import rows


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
    """What is known of a patient, what of it is new, and the revision of it all."""

    identifiers: Identifiers
    new: Identifiers
    revision: int


class KnownPatients:
    """What identifies each patient, in the view's notes; it grows with every study."""

    def __init__(self, notes: Notes, definition: Definition) -> None:
        self._notes = notes
        self._definition = definition

    def learn(self, patient: Patient, learned: Identifiers) -> Known:
        """What is known with what was learned."""
        name = self._name(patient)
        while True:
            note, revision = self._notes.read(name)
            known = Identifiers.loads(note) if note else Identifiers()
            together = known.joined(learned)
            if together == known:
                return Known(known, Identifiers(), max(revision, 1))
            if self._notes.write(name, together.dumps(), revision):
                return Known(together, together.without(known), revision + 1)

    def forget(self, patient: Patient) -> None:
        """Remove what is known of a patient."""
        self._notes.forget(self._name(patient))

    def _name(self, patient: Patient) -> str:
        return f"patients/{patient.pseudonymous(self._definition).id}"
