"""Conformance statement 4.11, 6 and 7: errors, character sets and access."""

from __future__ import annotations

import json

from tests.conformance.claims import claim
from tests.conformance.conftest import CT_KEY, STORE_KEY, Web, instance_path
from tests.instances import data_set, uid


@claim("E1", "E2")
def test_an_error_is_a_problem_document_with_the_request_id(web: Web) -> None:
    answer = web.get(f"/studies/{uid()}")
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code == 404
    assert problem["detail"]
    assert problem["request"] == answer.headers["X-Request-Id"]
    assert web.get("/studies").headers["X-Request-Id"] != answer.headers["X-Request-Id"]


@claim("E3")
def test_a_caller_that_the_policy_does_not_know_is_401(web: Web) -> None:
    answer = web.get("/studies", headers={"X-API-Key": "nobody's"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@claim("E4", "W2")
def test_a_key_opens_what_its_policy_allows_and_the_rest_is_403(web: Web) -> None:
    assert web.get("/studies", headers={"Authorization": f"Bearer {CT_KEY}"}).status_code in (200, 204)
    assert web.get("/studies", headers={"X-API-Key": CT_KEY}).status_code in (200, 204)
    assert web.get("/studies", headers={"X-API-Key": STORE_KEY}).status_code == 403
    assert CT_KEY not in web.gateway.audit()


@claim("E5")
def test_what_is_outside_of_the_scope_is_as_what_is_not_there(web: Web) -> None:
    ct, mr = web.store(data_set(), data_set(Modality="MR"))
    key = {"X-API-Key": CT_KEY}
    assert web.get(instance_path(ct), headers=key).status_code == 200
    hidden, absent = (web.get(f"/studies/{each}", headers=key) for each in (mr.StudyInstanceUID, uid()))
    assert (hidden.status_code, hidden.json()["detail"]) == (404, absent.json()["detail"])
    assert web.get("/studies", headers=key, StudyInstanceUID=mr.StudyInstanceUID).status_code == 204


@claim("W1")
def test_names_of_any_character_set_come_back_in_utf_8(web: Web) -> None:
    name = "Διονυσιος"
    (found,) = web.store(data_set(SpecificCharacterSet="ISO_IR 126", PatientName=name))
    (metadata,) = json.loads(web.get(f"{instance_path(found)}/metadata").content.decode("utf-8"))
    assert metadata["00100010"]["Value"] == [{"Alphabetic": name}]
    assert metadata["00080005"]["Value"] == ["ISO_IR 192"]
    (result,) = web.get("/studies", StudyInstanceUID=found.StudyInstanceUID).json()
    assert result["00100010"]["Value"] == [{"Alphabetic": name}]
    assert result["00080005"]["Value"] == ["ISO_IR 192"]


@claim("W3")
def test_a_decision_stands_in_the_audit_trail(web: Web) -> None:
    (found,) = web.store(data_set())
    request_id = web.get(instance_path(found)).headers["X-Request-Id"]
    lines = [json.loads(line) for line in web.gateway.audit().splitlines()]
    assert any(request_id in json.dumps(each) for each in lines)


@claim("W4")
def test_logs_hold_no_patient_data(web: Web) -> None:
    web.store(data_set(PatientName="Zyxwvut^Secret", PatientID="Secret-77"))
    assert web.get("/studies", PatientName="Zyxwvut*").status_code == 200
    assert web.get("/studies", PatientName="Zyxwvut*", NotAnAttribute="Zyxwvut").status_code == 400
    assert "zyxwvut" not in web.gateway.log.lower()
    assert "Secret-77" not in web.gateway.log
