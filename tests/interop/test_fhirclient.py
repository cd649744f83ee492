"""SMART's own client for Python against running processes: discovery, searches, reads, pages, a patient's token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from fhirclient.client import FHIRClient
from fhirclient.models.endpoint import Endpoint
from fhirclient.models.imagingstudy import ImagingStudy
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException, FHIRPermissionDeniedException

from tests import issuer as issuers
from tests.conformance.claims import claim
from tests.instances import data_set, part10_file
from tests.issuer import AUDIENCE, DISCOVERY, Issuer, rsa_key
from tests.serving import Gateway

pytestmark = pytest.mark.dealt("local+sqlite", "s3+postgres")


def store(gateway: Gateway, **attributes: str) -> str:
    found = data_set(**attributes)
    headers = {"Content-Type": "application/dicom"}
    answer = requests.post(f"{gateway.web}/studies", data=part10_file(found), headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(found.StudyInstanceUID)


def fhir(gateway: Gateway) -> str:
    return gateway.web.removesuffix("/dicomweb") + "/fhir/"


@pytest.fixture(scope="module")
def studies(running: Gateway) -> list[str]:
    """Studies of one patient, oldest first, and one of somebody else."""
    found = [
        store(
            running, PatientID="F-1", PatientName="Gray^Ann", PatientBirthDate="19610703", StudyDate=f"202601{day:02}",
            AccessionNumber=f"ACC-{day}",
        )
        for day in range(1, 8)
    ]  # fmt: skip
    store(running, PatientID="F-2", PatientName="Black^Bob", Modality="MR")
    return found


@pytest.fixture
def smart(running: Gateway, studies: list[str]) -> FHIRClient:
    client = FHIRClient(settings={"app_id": "tests", "api_base": fhir(running)})
    assert client.prepare()
    return client


def test_a_patient_and_its_studies_are_found_and_read(smart: FHIRClient, studies: list[str]) -> None:
    (patient,) = Patient.where(struct={"identifier": "F-1", "name": "gray"}).perform_resources_iter(smart.server)
    assert (patient.name[0].family, patient.birthDate.isostring) == ("Gray", "1961-07-03")
    search = ImagingStudy.where(struct={"patient": patient.id, "started": {"$and": ["ge2026-01-03", "lt2026-01-05"]}})
    found = list(search.perform_resources_iter(smart.server))
    assert [each.id for each in found] == [studies[3], studies[2]]
    assert found[0].subject.reference == f"Patient/{patient.id}"
    study = ImagingStudy.read(studies[0], smart.server)
    assert study.identifier[0].value == f"urn:oid:{studies[0]}"
    assert study.identifier[1].value == "ACC-1"
    assert (study.numberOfInstances, study.series[0].modality.code) == (1, "CT")
    assert Patient.read(patient.id, smart.server).name[0].given == ["Ann"]
    with pytest.raises(FHIRNotFoundException):
        ImagingStudy.read("1.2.3", smart.server)


def test_pages_are_followed(smart: FHIRClient, studies: list[str]) -> None:
    search = ImagingStudy.where(struct={"patient:identifier": "F-1", "_count": "3"})
    pages = list(search.perform_iter(smart.server))
    assert [len(each.entry) for each in pages] == [3, 3, 1]
    found = [each.id for each in search.perform_resources_iter(smart.server)]
    assert found == list(reversed(studies))


def test_the_endpoint_that_comes_along_has_the_study(smart: FHIRClient, studies: list[str]) -> None:
    search = ImagingStudy.where(struct={"_id": studies[0]}).include("endpoint")
    study, endpoint = search.perform_resources_iter(smart.server)
    assert isinstance(endpoint, Endpoint)
    where = Endpoint.read(study.endpoint[0].reference.partition("/")[2], smart.server)
    answer = requests.get(
        f"{where.address}/studies/{study.identifier[0].value.removeprefix('urn:oid:')}",
        headers={"Accept": "multipart/related; type=application/dicom; transfer-syntax=*"}, timeout=30,
    )  # fmt: skip
    assert answer.status_code == 200


def test_the_patient_comes_along(smart: FHIRClient, studies: list[str]) -> None:
    search = ImagingStudy.where(struct={"patient:identifier": "F-1"}).include("subject")
    *found, patient = search.perform_resources_iter(smart.server)
    assert [each.id for each in found] == list(reversed(studies))
    assert isinstance(patient, Patient)
    assert found[0].subject.reference == f"Patient/{patient.id}"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuers.issuer(rsa_key("one")) as found:
        found.answers[DISCOVERY] = {
            "issuer": found.url,
            "jwks_uri": f"{found.url}/keys",
            "authorization_endpoint": f"{found.url}/authorize",
            "token_endpoint": f"{found.url}/token",
        }
        yield found


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Gateway]:
    """A gateway that takes tokens of the provider."""
    folder: Path = tmp_path_factory.mktemp("trusting")
    gateway = Gateway(
        folder / "data",
        folder / "gateway.log",
        GATEWAY_ACCESS__ISSUERS=json.dumps([{"issuer": issuer.url, "audience": AUDIENCE, "smart": True}]),
    )
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, gateway.log


@claim("H21", "H22")
def test_an_app_is_sent_to_the_provider_and_sees_the_patient_of_its_token(trusting: Gateway, issuer: Issuer) -> None:
    mine = [store(trusting, PatientID="P1"), store(trusting, PatientID="P1", Modality="MR")]
    other = store(trusting, PatientID="P2")
    settings = {
        "app_id": "app", "api_base": fhir(trusting), "redirect_uri": "https://app.example.org/",
        "scope": "patient/ImagingStudy.rs",
    }  # fmt: skip
    smart = FHIRClient(settings=settings)
    assert not smart.prepare(), "it has to be authorized first"
    assert smart.authorize_url.startswith(f"{issuer.url}/authorize?")
    smart.server.auth.access_token = issuer.token(scope=settings["scope"], patient="P1")
    found = ImagingStudy.where(struct={"patient": "P1"}).perform_resources_iter(smart.server)
    assert sorted(each.id for each in found) == sorted(mine)
    with pytest.raises(FHIRNotFoundException):
        ImagingStudy.read(other, smart.server)
    with pytest.raises(FHIRPermissionDeniedException):
        next(ImagingStudy.where(struct={"patient": "P2"}).perform_iter(smart.server))
