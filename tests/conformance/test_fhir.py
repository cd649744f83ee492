"""Conformance statement 4.13: FHIR R4, over the network."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.imagingstudy import ImagingStudy
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.patient import Patient
from pydicom.dataset import Dataset

from tests.conformance.claims import claim
from tests.conformance.conftest import CT_KEY, STORE_KEY, Web
from tests.instances import data_set, uid

CT_VIEWER, SENDER = {"X-API-Key": CT_KEY}, {"X-API-Key": STORE_KEY}


def get(web: Web, path: str, status: int = 200, **headers: str) -> Any:
    """What is at a path below /fhir, or at a URL."""
    where = path if path.startswith("http") else f"{web.root.removesuffix('/dicomweb')}/fhir/{path}"
    answer = requests.get(where, headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def found(web: Web, path: str, **headers: str) -> list[str]:
    """The ids that a search finds."""
    bundle = get(web, path, **headers)
    Bundle.model_validate(bundle)
    return [each["resource"]["id"] for each in bundle.get("entry", ()) if each["search"]["mode"] == "match"]


@pytest.fixture
def patient_id() -> str:
    return f"H-{uid()[-12:]}"


@pytest.fixture
def stored(web: Web, patient_id: str) -> Dataset:
    number = f"A{patient_id[-10:]}"
    made = data_set(
        PatientID=patient_id, IssuerOfPatientID="1.2.40.0.1", PatientName="Übel^Ann", AccessionNumber=number,
        StudyDate="20260203", StudyTime="101530", TimezoneOffsetFromUTC="+0100", SpecificCharacterSet="ISO_IR 192",
    )  # fmt: skip
    (kept,) = web.store(made)
    return kept


@claim("H1")
def test_what_qido_does_not_show_is_not_there(web: Web, patient_id: str) -> None:
    ct, mr = web.store(data_set(PatientID=patient_id), data_set(PatientID=f"{patient_id}x", Modality="MR"))
    both = f"patient:identifier={patient_id},{patient_id}x"
    assert sorted(found(web, f"ImagingStudy?{both}")) == sorted([ct.StudyInstanceUID, mr.StudyInstanceUID])
    assert found(web, f"ImagingStudy?{both}", **CT_VIEWER) == [ct.StudyInstanceUID]
    study = get(web, f"ImagingStudy/{mr.StudyInstanceUID}")
    absent = get(web, "ImagingStudy/1.2.3", 404, **CT_VIEWER)
    for path in (f"ImagingStudy/{mr.StudyInstanceUID}", study["subject"]["reference"]):
        hidden = get(web, path, 404, **CT_VIEWER)
        assert [each["code"] for each in hidden["issue"]] == [each["code"] for each in absent["issue"]]


@claim("H2")
def test_a_deleted_study_is_gone(web: Web, stored: Dataset) -> None:
    assert web.send("DELETE", f"/studies/{stored.StudyInstanceUID}").status_code == 204
    assert found(web, f"ImagingStudy?_id={stored.StudyInstanceUID}") == []
    assert get(web, f"ImagingStudy/{stored.StudyInstanceUID}", 410)["issue"][0]["code"] == "deleted"


@claim("H3")
def test_actions_are_those_of_the_policy_and_recorded(web: Web, stored: Dataset) -> None:
    get(web, "ImagingStudy", 403, **SENDER)
    get(web, f"ImagingStudy/{stored.StudyInstanceUID}", 403, **SENDER)
    found(web, f"ImagingStudy?_id={stored.StudyInstanceUID}")
    get(web, f"ImagingStudy/{stored.StudyInstanceUID}")
    wanted, told = {("search", "allowed"), ("read", "allowed"), ("read", "denied")}, set()
    deadline_s = time.monotonic() + 30
    while not wanted <= told and time.monotonic() < deadline_s:
        lines = [json.loads(each) for each in web.gateway.audit().splitlines()]
        told = {
            (each["action"], each["outcome"])
            for each in lines
            if each.get("protocol") == "FHIR" and stored.StudyInstanceUID in each.get("subject", ())
        }
    assert wanted <= told


@claim("H4")
def test_the_statement_names_what_there_is(web: Web) -> None:
    statement = CapabilityStatement.model_validate(get(web, "metadata", X_API_Key="nobody's"))
    sample = {"date": "2026", "reference": "1.2.3"}
    for resource in statement.rest[0].resource:
        known = {each.name for each in resource.searchParam}
        assert known
        if resource.type == "AuditEvent":
            continue  # a right of its own, which nobody has here
        for each in resource.searchParam:
            get(web, f"{resource.type}?{each.name}={sample.get(each.type, 'x')}")
        for other in ("basedon", "family", "organization"):
            get(web, f"{resource.type}?{other}=x", 400)


@claim("H5", "H6")
def test_a_study_has_its_identifiers_and_its_time(web: Web, stored: Dataset) -> None:
    study = ImagingStudy.model_validate(get(web, f"ImagingStudy/{stored.StudyInstanceUID}"))
    of_uid, of_accession = study.identifier
    assert (of_uid.system, of_uid.value) == ("urn:dicom:uid", f"urn:oid:{stored.StudyInstanceUID}")
    assert (of_accession.type.coding[0].code, of_accession.value) == ("ACSN", stored.AccessionNumber)
    assert get(web, f"ImagingStudy/{study.id}")["started"] == "2026-02-03T10:15:30+01:00"
    (other,) = web.store(data_set())
    assert get(web, f"ImagingStudy/{other.StudyInstanceUID}")["started"] == "2026-01-01"


@claim("H7")
def test_a_study_is_found_by_its_identifiers(web: Web, stored: Dataset) -> None:
    one, number = stored.StudyInstanceUID, stored.AccessionNumber
    for value in (one, f"urn:oid:{one}", f"urn:dicom:uid|urn:oid:{one}", f"urn:dicom:uid|{one}", number, f"|{number}"):
        assert found(web, f"ImagingStudy?identifier={value}") == [one], value
    assert found(web, f"ImagingStudy?identifier=urn:dicom:uid|{number}") == []


@claim("H8", "H9")
def test_a_study_is_found_by_its_patient(web: Web, stored: Dataset, patient_id: str) -> None:
    (reference,) = {
        each["resource"]["subject"]["reference"]
        for each in get(web, f"ImagingStudy?_id={stored.StudyInstanceUID}")["entry"]
    }
    here = web.root.removesuffix("/dicomweb") + "/fhir"
    for value in (reference, reference.removeprefix("Patient/"), f"{here}/{reference}", patient_id):
        for name in ("patient", "subject"):
            assert found(web, f"ImagingStudy?{name}={value}") == [stored.StudyInstanceUID], value
    for value in (patient_id, f"urn:oid:1.2.40.0.1|{patient_id}", f"1.2.40.0.1|{patient_id}"):
        assert found(web, f"ImagingStudy?patient:identifier={value}") == [stored.StudyInstanceUID], value
    for value in (f"|{patient_id}", f"urn:oid:1.2.40.0.2|{patient_id}"):
        assert found(web, f"ImagingStudy?patient:identifier={value}") == [], value


@claim("H10")
@pytest.mark.parametrize(
    ("date", "there"),
    [
        ("2026-02-03", True), ("eq2026-02", True), ("ne2026-02-03", False), ("ge2026-02-03", True),
        ("gt2026-02-03", False), ("le2026-02-03", True), ("lt2026-02-03", False), ("sa2026-02", False),
        ("eb2026-03", True), ("2026-02-03T09:15:30Z", True), ("gt2026-02-03T10:15:29%2B01:00", True),
        ("lt2026-02-03T09:15:30Z", False),
    ],
)  # fmt: skip
def test_a_study_is_found_by_when_it_was_started(web: Web, stored: Dataset, date: str, there: bool) -> None:
    assert bool(found(web, f"ImagingStudy?_id={stored.StudyInstanceUID}&started={date}")) is there


@claim("H11")
def test_a_study_is_found_by_the_modality_of_any_series(web: Web, stored: Dataset, patient_id: str) -> None:
    same = {"PatientID": patient_id, "IssuerOfPatientID": "1.2.40.0.1"}
    web.store(data_set(StudyInstanceUID=stored.StudyInstanceUID, Modality="PT", **same))
    for value, there in (("CT", True), ("PT,MR", True), ("MR", False)):
        assert bool(found(web, f"ImagingStudy?_id={stored.StudyInstanceUID}&modality={value}")) is there


@claim("H12", "H13")
def test_a_patient_has_a_name_that_tells_nothing(web: Web, stored: Dataset, patient_id: str) -> None:
    (logical_id,) = found(web, f"Patient?identifier={patient_id}")
    assert patient_id not in logical_id
    patient = Patient.model_validate(get(web, f"Patient/{logical_id}"))
    assert patient.identifier[0].value == patient_id
    get(web, f"Patient/{patient_id}", 404)
    for name, there in (("UBE", True), ("ann", True), ("ubel ann", True), ("bel", False)):
        assert (logical_id in found(web, f"Patient?identifier={patient_id}&name={name}")) is there, name
    assert found(web, f"Patient?identifier={patient_id}&name:contains=bel") == [logical_id]


@claim("H14")
def test_the_endpoint_is_told_to_who_may_read_from_it(web: Web, stored: Dataset) -> None:
    (bundle,) = get(web, "Endpoint", **CT_VIEWER)["entry"]
    address = bundle["resource"]["address"]
    answer = requests.get(f"{address}/studies/{stored.StudyInstanceUID}/metadata", headers=CT_VIEWER, timeout=60)
    assert answer.status_code == 200
    get(web, "Endpoint", 403, **SENDER)


@claim("H25")
def test_what_is_included_comes_along(web: Web, stored: Dataset, patient_id: str) -> None:
    for name, kind in (("endpoint", "Endpoint"), ("patient", "Patient"), ("subject", "Patient")):
        bundle = get(web, f"ImagingStudy?patient={patient_id}&_include=ImagingStudy:{name}")
        Bundle.model_validate(bundle)
        study, other = bundle["entry"]
        assert [each["search"]["mode"] for each in (study, other)] == ["match", "include"]
        assert other["resource"]["resourceType"] == kind
        assert get(web, other["fullUrl"]) == other["resource"]


@claim("H15", "H16")
def test_pages_follow_each_other_whatever_comes(web: Web, patient_id: str) -> None:
    web.store(*(data_set(PatientID=patient_id, StudyDate=f"202601{day:02}") for day in range(1, 8)))
    path, dates = f"ImagingStudy?patient:identifier={patient_id}&_count=3", []
    while path:
        bundle = get(web, path)
        assert bundle["type"] == "searchset"
        dates += [each["resource"]["started"] for each in bundle["entry"]]
        links = {each["relation"]: each["url"] for each in bundle["link"]}
        assert "_count=3" in links["self"]
        path = links.get("next", "")
        web.store(data_set(PatientID=patient_id, StudyDate="20270101"))
    assert dates == [f"2026-01-{day:02}" for day in range(7, 0, -1)]


@claim("H17")
def test_the_number_alone_is_told_when_asked_for(web: Web, stored: Dataset, patient_id: str) -> None:
    for query in ("_count=0", "_summary=count"):
        bundle = get(web, f"ImagingStudy?patient:identifier={patient_id}&{query}")
        assert (bundle["total"], "entry" in bundle) == (1, False)


@claim("H24")
def test_a_study_is_found_by_when_it_changed(web: Web, stored: Dataset, patient_id: str) -> None:
    then = get(web, f"ImagingStudy/{stored.StudyInstanceUID}")["meta"]["lastUpdated"]
    since = f"ImagingStudy?patient={patient_id}&_lastUpdated=gt{then}"
    assert found(web, since) == []
    time.sleep(0.01)
    same = {"PatientID": patient_id, "IssuerOfPatientID": "1.2.40.0.1"}
    web.store(data_set(StudyInstanceUID=stored.StudyInstanceUID, **same))
    assert found(web, since) == [stored.StudyInstanceUID]


@claim("H23")
def test_a_search_may_be_posted(web: Web, stored: Dataset, patient_id: str) -> None:
    root = web.root.removesuffix("/dicomweb") + "/fhir"
    for form, url in (({"patient": patient_id}, ""), ({"_count": "5"}, f"?patient={patient_id}")):
        answer = requests.post(f"{root}/ImagingStudy/_search{url}", data=form, timeout=60)
        assert answer.status_code == 200, answer.text
        assert [each["resource"]["id"] for each in answer.json()["entry"]] == [stored.StudyInstanceUID]
    assert requests.post(f"{root}/Patient/_search", timeout=60).json()["total"] >= 1
    refused = requests.post(f"{root}/ImagingStudy/_search", json={"patient": patient_id}, timeout=60)
    assert refused.status_code == 415
    OperationOutcome.model_validate(refused.json())


@claim("H18")
def test_an_unknown_parameter_is_refused_unless_it_shall_be_passed_over(web: Web) -> None:
    get(web, "ImagingStudy?patiant=x", 400)
    get(web, "ImagingStudy?patiant=x", 400, Prefer="handling=strict")
    get(web, "ImagingStudy?patiant=x", Prefer="handling=lenient")
    get(web, "ImagingStudy?patient:missing=true", 400, Prefer="handling=lenient")


@claim("H19")
@pytest.mark.parametrize(
    ("path", "status"), [("ImagingStudy?started=x", 400), ("ImagingStudy/1.2.3", 404), ("Observation", 404)]
)
def test_errors_are_outcomes(web: Web, path: str, status: int) -> None:
    OperationOutcome.model_validate(get(web, path, status))


@claim("H19")
def test_of_who_calls_too(web: Web) -> None:
    OperationOutcome.model_validate(get(web, "ImagingStudy", 401, X_API_Key="nobody's"))
    OperationOutcome.model_validate(get(web, "ImagingStudy", 403, **SENDER))


@claim("H20")
def test_the_media_type_is_that_of_fhir_or_plain_json(web: Web) -> None:
    root = web.root.removesuffix("/dicomweb") + "/fhir/ImagingStudy?_count=0"
    for query, accept, kind in (
        ("", "*/*", "application/fhir+json"),
        ("", "application/json", "application/json"),
        ("&_format=json", "application/fhir+xml", "application/fhir+json"),
        ("", "application/fhir+xml", None),
        ("&_format=xml", "*/*", None),
    ):
        answer = requests.get(root + query, headers={"Accept": accept}, timeout=60)
        assert answer.status_code == (406 if kind is None else 200)
        assert answer.headers["Content-Type"].partition(";")[0] == (kind or "application/fhir+json")
