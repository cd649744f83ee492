"""Studies as ImagingStudy resources of FHIR R4 (https://hl7.org/fhir/R4/imagingstudy.html)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.fhir import elements
from gateway.fhir.elements import DCM, URI, Element, code, text, without_empty
from gateway.fhir.patient_ids import PatientIds, PatientKey
from storage.dicom import json_model
from storage.dicom.attributes import BY_KEYWORD

KIND = "ImagingStudy"

_LATERALITIES = {
    "L": {"system": "http://snomed.info/sct", "code": "419161000", "display": "Unilateral left"},
    "R": {"system": "http://snomed.info/sct", "code": "419465000", "display": "Unilateral right"},
}


def _paths(*keywords: str) -> frozenset[str]:
    return frozenset(BY_KEYWORD[each].tag for each in keywords)


OF_STUDY = _paths(
    "StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientName", "StudyDate", "StudyTime", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ModalitiesInStudy", "ReferringPhysicianName", "TimezoneOffsetFromUTC",
    "StudyDescription", "NameOfPhysiciansReadingStudy", "ProcedureCodeSequence", "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)  # fmt: skip
"""What is asked of a study."""
OF_SERIES = _paths(
    "Modality", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances", "BodyPartExamined",
    "Laterality", "SeriesDate", "SeriesTime", "TimezoneOffsetFromUTC",
)  # fmt: skip
"""What is asked of each of its series."""
OF_INSTANCE = _paths("SOPClassUID", "InstanceNumber")
"""What is asked of each instance."""

Result = json_model.JsonDataSet


def resource(
    study: Result,
    series: Sequence[Result],
    instances: Mapping[str, Sequence[Result]],
    ids: PatientIds,
    endpoint: str | None,
    *,
    deidentified: bool,
    changed_at_s: float | None,
) -> Element:
    """The resource of a study; its id is the Study Instance UID.

    Parameters
    ----------
    series, instances
        What is told of those, the latter by Series Instance UID; numbers are of all that there are.
    endpoint
        The id of the one that it is retrieved from, for who may.
    changed_at_s
        When an instance changed last that the caller may know of (Unix time), where that is known.
    """
    uid = json_model.text_of(study, "0020000D")
    return without_empty(
        {
            "resourceType": KIND,
            "id": uid,
            "meta": elements.meta(deidentified=deidentified, changed_at_s=changed_at_s),
            "identifier": [elements.uid_identifier(uid), *_accession(study)],
            "status": "available",
            "modality": [_modality(str(each)) for each in elements.values(study, "00080061") if code(str(each))],
            "subject": _subject(study, ids),
            "started": elements.moment(study, "00080020", "00080030"),
            "referrer": next(iter(_practitioners(study, "00080090")), {}),
            "interpreter": _practitioners(study, "00081060"),
            "endpoint": [] if endpoint is None else [{"reference": f"Endpoint/{endpoint}", "type": "Endpoint"}],
            "numberOfSeries": elements.count(study, "00201206"),
            "numberOfInstances": elements.count(study, "00201208"),
            "procedureCode": elements.coded(elements.values(study, "00081032")),
            "description": text(study, "00081030"),
            "series": [_series(each, instances) for each in series],
        }
    )


def _accession(study: Result) -> list[Element]:
    """The accession number, and who gave it (HL7 v2 hierarchic designator)."""
    number = text(study, "00080050")
    if not number:
        return []
    issuer: Any = next(iter(elements.values(study, "00080051")), {})
    name, universal, kind = (text(issuer, tag) for tag in ("00400031", "00400032", "00400033"))
    known = elements.system_of(universal) if kind in ("ISO", "URI", "UUID") else ""
    found = elements.identifier("ACSN", number, "", name or known)
    if known:
        found["assigner"]["identifier"] = {"system": URI, "value": known}
    return [found]


def _subject(study: Result, ids: PatientIds) -> Element:
    logical_id = ids.id_of(PatientKey.of_study_result(study))
    display = next(iter(elements.names(study, "00100010")), "")
    return without_empty({"reference": f"Patient/{logical_id}", "type": "Patient", "display": display})


def _practitioners(study: Result, tag: str) -> list[Element]:
    return [{"type": "Practitioner", "display": each} for each in elements.names(study, tag)]


def _modality(found: str) -> Element:
    return {"system": DCM, "code": code(found)}


def _series(series: Result, instances: Mapping[str, Sequence[Result]]) -> Element:
    uid = json_model.text_of(series, "0020000E")
    modality, body_part = text(series, "00080060"), text(series, "00180015")
    return without_empty(
        {
            "uid": uid,
            "number": elements.count(series, "00200011"),
            "modality": _modality(modality) if modality else elements.absent(),
            "description": text(series, "0008103E"),
            "numberOfInstances": elements.count(series, "00201209"),
            "bodySite": {"display": body_part} if body_part else {},
            "laterality": _LATERALITIES.get(text(series, "00200060"), {}),
            "started": elements.moment(series, "00080021", "00080031"),
            "instance": [_instance(each) for each in instances.get(uid, ())],
        }
    )


def _instance(instance: Result) -> Element:
    sop_class = json_model.text_of(instance, "00080016")
    return without_empty(
        {
            "uid": json_model.text_of(instance, "00080018"),
            "sopClass": {"system": URI, "code": f"urn:oid:{sop_class}"} if sop_class else elements.absent(),
            "number": elements.count(instance, "00200013"),
        }
    )
