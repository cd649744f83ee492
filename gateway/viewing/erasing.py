"""Erasure from a view: everything that was made of a patient's or a study's instances, and what was known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.viewing.contents import Contents
from gateway.viewing.definition import Definition
from gateway.viewing.notes import Notes
from gateway.viewing.patients import KnownPatients, Patient
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.base import Index
from storage.index.questions import Target


class ViewEraser:
    """Erases from one view."""

    def __init__(self, shown: Archive, definition: Definition, notes: Notes) -> None:
        self._shown = shown
        self._definition = definition
        self._contents = Contents(shown, definition)
        self._patients = KnownPatients(notes, definition)

    @property
    def name(self) -> str:
        """The view's name."""
        return self._definition.name

    def erasure(self, index: Index, studies: Sequence[ids.StudyUid]) -> Callable[[], int]:
        """What removes all that was made of studies, for good; it tells how many objects there were.

        Whose they are is asked now. What was known of a patient goes with the last study, once the archive has none.
        """
        patients = self._patients_of(index, studies)

        def erase() -> int:
            erased = sum(self._contents.forget(study_uid) for study_uid in studies)
            for patient in patients:
                # A blank Patient ID belongs to its study alone.
                left = index.studies_of(self._definition.tenant, patient.issuer, patient.patient_id)
                if not patient.patient_id or not left:
                    self._patients.forget(patient)
            return erased

        return erase

    def _patients_of(self, index: Index, studies: Sequence[ids.StudyUid]) -> set[Patient]:
        found = set()
        for study_uid in studies:
            located = index.locate(Target(self._definition.tenant, study_uid), EVERYTHING)
            for text in index.metadata([each.version_id for each in located[:1]]):
                found.add(Patient.of(text, study_uid))
        return found

    def close(self) -> None:
        """Let go of the view's index."""
        self._shown.close()
