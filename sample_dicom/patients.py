"""The made-up patients and what was done to them."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID

from sample_dicom.uids import sample_uid

INSTITUTION = "Sample Hospital (synthetic)"


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient that does not exist."""

    name: str
    patient_id: str
    birth_date: str
    sex: str
    character_set: str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """One visit; ``folder`` also names the study in the UIDs derived from it."""

    folder: str
    patient: Patient
    study_id: str
    accession_number: str
    date: str
    time: str
    age: str
    description: str

    @property
    def study_uid(self) -> UID:
        """The Study Instance UID."""
        return sample_uid(self.folder)

    def series_uid(self, series: str) -> UID:
        """Return the Series Instance UID of a series, named by its folder."""
        return sample_uid(self.folder, series)

    def sop_uid(self, series: str, number: int) -> UID:
        """Return the SOP Instance UID of an instance, numbered from 1 in its series."""
        return sample_uid(self.folder, series, number)

    def identify(self, dataset: Dataset) -> None:
        """Fill the Patient, Patient Study and General Study modules (PS3.3 C.7.1.1, C.7.2)."""
        patient = self.patient
        dataset.SpecificCharacterSet = (
            patient.character_set if isinstance(patient.character_set, str) else list(patient.character_set)
        )
        dataset.PatientName = patient.name
        dataset.PatientID = patient.patient_id
        dataset.PatientBirthDate = patient.birth_date
        dataset.PatientSex = patient.sex
        dataset.PatientAge = self.age
        dataset.StudyInstanceUID = self.study_uid
        dataset.StudyID = self.study_id
        dataset.AccessionNumber = self.accession_number
        dataset.StudyDate = self.date
        dataset.StudyTime = self.time
        dataset.StudyDescription = self.description
        dataset.ReferringPhysicianName = "Referrer^Sample"
        dataset.InstitutionName = INSTITUTION


_ZOE = Patient("Müller^Zoë", "SAMPLE-0001", "19710412", "F", "ISO_IR 100")
_TAROU = Patient(
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "SAMPLE-0002",
    "19580923",
    "M",
    ("", "ISO 2022 IR 87"),
)
_LUKASIEWICZ = Patient("Łukasiewicz^Ünal", "SAMPLE-0003", "19850117", "O", "ISO_IR 192")

HEAD_CT = Study("head_ct", _ZOE, "CT1", "SAMPLE-ACC-1", "20250314", "091500", "053Y", "CT head with contrast")
HEAD_MR = Study("head_mr", _ZOE, "MR1", "SAMPLE-ACC-2", "20250316", "134000", "053Y", "MR head")
ECHO = Study("echo", _LUKASIEWICZ, "US1", "SAMPLE-ACC-3", "20250402", "101000", "040Y", "Echocardiogram")
CHEST = Study("chest", _TAROU, "CR1", "SAMPLE-ACC-4", "20250407", "160500", "066Y", "Chest PA")

# CT and MR of the head share the patient's coordinates, as after registration.
HEAD_FRAME_OF_REFERENCE_UID = sample_uid("head frame of reference")
