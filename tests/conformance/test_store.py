"""Conformance statement 4.5: Store (STOW-RS)."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest
from pydicom.dataset import Dataset

from tests.conformance.claims import claim
from tests.conformance.conftest import Web, instance_path, multipart
from tests.instances import data_set, encode, identity, part10_file, uid

JSON = "application/dicom+json"
XML = "application/dicom+xml"
OCTETS = "application/octet-stream"


def body(kind: str, metadata: bytes, *bulk: tuple[str, bytes]) -> dict[str, Any]:
    """Arguments of a request of metadata and bulk data apart."""
    text = f"--part\r\nContent-Type: {kind}\r\n\r\n".encode() + metadata + b"\r\n"
    for location, value in bulk:
        text += f"--part\r\nContent-Type: {OCTETS}\r\nContent-Location: {location}\r\n\r\n".encode() + value + b"\r\n"
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary=part'}
    return {"data": text + b"--part--\r\n", "headers": headers}


def without_pixels(found: Dataset) -> dict[str, Any]:
    """Metadata whose pixels are at "pixels"."""
    text: dict[str, Any] = found.to_json_dict()
    return {**text, "7FE00010": {"vr": "OW", "BulkDataURI": "pixels"}}


def as_xml(metadata: dict[str, Any]) -> bytes:
    """A Native DICOM Model document of text, numbers and bulk data."""
    lines = []
    for tag, each in metadata.items():
        if "BulkDataURI" in each:
            inner = f'<BulkData uri="{each["BulkDataURI"]}"/>'
        elif each["vr"] == "PN":
            family, given = each["Value"][0]["Alphabetic"].split("^")
            name = f"<FamilyName>{family}</FamilyName><GivenName>{given}</GivenName>"
            inner = f'<PersonName number="1"><Alphabetic>{name}</Alphabetic></PersonName>'
        else:
            inner = f'<Value number="1">{each["Value"][0]}</Value>'
        lines.append(f'<DicomAttribute tag="{tag}" vr="{each["vr"]}">{inner}</DicomAttribute>')
    space = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
    return f'<NativeDicomModel xmlns="{space}">{"".join(lines)}</NativeDicomModel>'.encode()


def alone(data: bytes, kind: str) -> dict[str, Any]:
    return {"data": data, "headers": {"Content-Type": kind}}


@claim("S1", "S3", "S11", "S13")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_files_in_parts_are_stored_and_found_at_once(web: Web, method: str) -> None:
    made = [data_set(PatientID="Store-1") for _ in range(2)]
    answer = web.send(method, "/studies", **multipart(*map(part10_file, made)))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, JSON)
    stored = answer.json()
    assert {"00081198", "0008119A"} & set(stored) == set()
    urls = [item["00081190"]["Value"][0] for item in stored["00081199"]["Value"]]
    assert urls == [web.root + instance_path(each) for each in made]
    for each in made:
        assert web.get("/instances", SOPInstanceUID=each.SOPInstanceUID).status_code == 200


@claim("S2")
def test_an_instance_of_another_study_is_refused(web: Web) -> None:
    found = data_set()
    answer = web.send("POST", f"/studies/{uid()}", **multipart(part10_file(found)))
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
    assert web.send("POST", instance_path(found, "study"), **multipart(part10_file(found))).status_code == 200


@claim("S4")
def test_one_file_alone(web: Web) -> None:
    found = data_set()
    assert web.send("POST", "/studies", **alone(part10_file(found), "application/dicom")).status_code == 200
    assert web.get(instance_path(found)).status_code == 200


@claim("S5", "S6")
@pytest.mark.parametrize("kind", [JSON, XML])
def test_metadata_and_bulk_data_apart(web: Web, kind: str) -> None:
    found = data_set()
    metadata = without_pixels(found)
    text = json.dumps([metadata]).encode() if kind == JSON else as_xml(metadata)
    answer = web.send("POST", "/studies", **body(kind, text, ("pixels", found.PixelData)))
    assert answer.status_code == 200, answer.text
    assert web.get(f"{instance_path(found)}/frames/1", OCTETS).content == found.PixelData


@claim("S7")
@pytest.mark.parametrize("kind", [JSON, "application/json", XML])
def test_metadata_alone(web: Web, kind: str) -> None:
    found = data_set(PixelData=None, Rows=None, Columns=None)
    metadata = found.to_json_dict()
    text = as_xml(metadata) if kind == XML else json.dumps([metadata]).encode()
    assert web.send("POST", "/studies", **alone(text, kind)).status_code == 200
    assert web.get(instance_path(found)).status_code == 200


@claim("S8")
def test_files_without_preamble_bare_data_sets_and_other_part_types(web: Web) -> None:
    whole, cut, bare = data_set(), data_set(), data_set()
    forms = {OCTETS: part10_file(whole), "application/dicom": part10_file(cut)[128:], "": encode(bare)}
    for kind, data in forms.items():
        request = multipart(data, kind=kind or "application/dicom")
        request["headers"]["Content-Type"] = "multipart/related; boundary=part"
        if not kind:
            request["data"] = request["data"].replace(b"Content-Type: application/dicom\r\n", b"")
        assert web.send("POST", "/studies", **request).status_code == 200, kind
    for each in (whole, cut, bare):
        assert web.get(instance_path(each)).status_code == 200


@claim("S9", "S15")
def test_what_came_before_a_break_stays_and_is_202(web: Web) -> None:
    found = data_set()
    answer = web.send("POST", "/studies", **multipart(part10_file(found), b"half a pa", end=b""))
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 1
    assert answer.json()["0008119A"]["Value"]
    assert web.get(instance_path(found)).status_code == 200


@claim("S10")
def test_the_same_instance_again_is_a_success(web: Web) -> None:
    (found,) = web.store(data_set())
    web.store(found)
    assert len(web.get(f"{instance_path(found, 'study')}/instances").json()) == 1


@claim("S12")
def test_bulk_data_that_did_not_come_fails_its_instance(web: Web) -> None:
    found = data_set()
    answer = web.send("POST", "/studies", **body(JSON, json.dumps([without_pixels(found)]).encode()))
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081155"]["Value"] == [found.SOPInstanceUID]


@claim("S14")
def test_the_answer_in_xml(web: Web) -> None:
    answer = web.send("POST", "/studies", XML, **multipart(part10_file(data_set())))
    assert answer.headers["Content-Type"] == XML
    tags = {each.get("tag") for each in ElementTree.fromstring(answer.content)}
    assert {"00081190", "00081199"} <= tags


@claim("S16", "S19")
def test_nothing_stored_is_409_and_says_which_attribute_is_at_fault(web: Web) -> None:
    answer = web.send("POST", "/studies", **multipart(part10_file(data_set(StudyInstanceUID=None))))
    assert answer.status_code == 409
    stored = answer.json()
    (item,) = [*stored.get("00081198", {}).get("Value", []), *stored.get("0008119A", {}).get("Value", [])]
    assert item["00081197"]["Value"] == [0xC000]
    assert item["00000902"]["Value"]
    (attribute,) = item["00741048"]["Value"]
    assert attribute["00720026"]["Value"] == ["0020000D"]
    assert attribute["00000902"]["Value"]


@claim("S17", "S18")
def test_a_request_without_an_instance_and_one_of_another_type(web: Web) -> None:
    assert web.send("POST", "/studies", **multipart()).status_code == 400
    broken = {"data": b"no boundary", "headers": {"Content-Type": 'multipart/related; type="application/dicom"'}}
    assert web.send("POST", "/studies", **broken).status_code == 400
    assert web.send("POST", "/studies", **multipart(identity()[:20], end=b"")).status_code == 400
    assert web.send("POST", "/studies", **alone(b"x", "image/png")).status_code == 415
