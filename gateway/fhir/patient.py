"""Patients as Patient resources of FHIR R4 (https://hl7.org/fhir/R4/patient.html)."""

from __future__ import annotations

from gateway.fhir import elements
from gateway.fhir.elements import Element, text, without_empty
from gateway.fhir.patient_ids import PatientIds, PatientKey
from storage.dicom import json_model
from storage.dicom.attributes import BY_KEYWORD

KIND = "Patient"
GENDERS = {"male": "M", "female": "F", "other": "O"}
"""Codes of AdministrativeGender, and the Patient's Sex that each is."""
_GENDER = {sex: gender for gender, sex in GENDERS.items()}

OF_PATIENT = frozenset(
    BY_KEYWORD[each].tag for each in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
)
"""What is asked of a patient."""


def resource(found: json_model.JsonDataSet, key: PatientKey, ids: PatientIds, *, deidentified: bool) -> Element:
    """The resource of a patient, as the latest of the studies that are seen has it."""
    sex = text(found, "00100040")
    identified = [elements.identifier("MR", key.patient_id, key.issuer)] if elements.printable(key.patient_id) else []
    return without_empty(
        {
            "resourceType": KIND,
            "id": ids.id_of(key),
            "meta": elements.meta(deidentified=deidentified),
            "identifier": identified,
            "name": elements.human_names(found, "00100010"),
            "gender": _GENDER.get(sex, "unknown") if sex else "",
            "birthDate": elements.day(json_model.text_of(found, "00100030")),
        }
    )
