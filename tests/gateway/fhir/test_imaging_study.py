"""ImagingStudy: what a study becomes, how it is searched for, and what its pages are."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import Any
from urllib.parse import quote

import pytest
from pydicom.dataset import Dataset

from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.serving import SearchSettings
from gateway.fhir import imaging_studies
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.fhir.conftest import get, ids, links, matches
from tests.instances import data_set, part10_file, uid

DCM = "http://dicom.nema.org/resources/ontology/DCM"


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update=getattr(request, "param", {}))


async def put(client: Client, *data_sets: Dataset) -> None:
    status, answer = await store(client, *(part10_file(each) for each in data_sets))
    assert status == 200, answer


def code(value: str, scheme: str, meaning: str) -> Dataset:
    found = Dataset()
    found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning = value, scheme, meaning
    return found


def issuer_of_accession(**attributes: str) -> Dataset:
    found = Dataset()
    for name, value in attributes.items():
        setattr(found, name, value)
    return found


@pytest.fixture
async def study(client: Client) -> Dataset:
    """One study with two series, of which everything is known that a resource tells."""
    study_uid, known = uid(), {
        "PatientName": "Gray^Ann^Bea^Dr", "PatientID": "G-1", "IssuerOfPatientID": "1.2.40.0.1", "PatientSex": "F",
        "PatientBirthDate": "19610703", "StudyDate": "20260203", "StudyTime": "101530.5",
        "TimezoneOffsetFromUTC": "+0100", "AccessionNumber": "ACC-1", "StudyDescription": "CT thorax",
        "ReferringPhysicianName": "House^Gregory", "NameOfPhysiciansReadingStudy": ["Black^Bob", "Gray^Jo"],
        "ProcedureCodeSequence": [code("77477000", "SCT", "CT")],
        "IssuerOfAccessionNumberSequence": [
            issuer_of_accession(UniversalEntityID="1.2.40.0.9", UniversalEntityIDType="ISO")
        ],
    }  # fmt: skip
    first = data_set(
        StudyInstanceUID=study_uid, SeriesNumber=1, SeriesDescription="Axial", BodyPartExamined="CHEST", Laterality="L",
        **known,
    )  # fmt: skip
    second = data_set(
        StudyInstanceUID=study_uid, SeriesInstanceUID=first.SeriesInstanceUID, SeriesNumber=1, InstanceNumber=2,
        SeriesDescription="Axial", BodyPartExamined="CHEST", Laterality="L", **known,
    )  # fmt: skip
    third = data_set(StudyInstanceUID=study_uid, SeriesNumber=2, Modality="MR", **known)
    await put(client, first, second, third)
    return first


async def test_a_study_is_told_with_all_that_is_known_of_it(client: Client, study: Dataset) -> None:
    found = await get(client, f"ImagingStudy/{study.StudyInstanceUID}")
    assert found["identifier"] == [
        {"use": "official", "system": "urn:dicom:uid", "value": f"urn:oid:{study.StudyInstanceUID}"},
        {
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
            "value": "ACC-1",
            "assigner": {
                "display": "urn:oid:1.2.40.0.9",
                "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.40.0.9"},
            },
        },
    ]
    assert found["status"] == "available"
    assert [each["code"] for each in found["modality"]] == ["CT", "MR"]
    assert found["subject"]["display"] == "Dr Ann Bea Gray"
    assert found["started"] == "2026-02-03T10:15:30.500000+01:00"
    assert found["referrer"]["display"] == "Gregory House"
    assert [each["display"] for each in found["interpreter"]] == ["Bob Black", "Jo Gray"]
    assert (found["numberOfSeries"], found["numberOfInstances"]) == (2, 3)
    assert found["procedureCode"] == [
        {"coding": [{"system": "http://snomed.info/sct", "code": "77477000", "display": "CT"}], "text": "CT"}
    ]
    assert found["description"] == "CT thorax"
    assert found["endpoint"] == [{"reference": "Endpoint/dicom-wado-rs", "type": "Endpoint"}]
    axial, other = found["series"]
    assert (axial["uid"], axial["number"], axial["numberOfInstances"]) == (study.SeriesInstanceUID, 1, 2)
    assert axial["modality"] == {"system": DCM, "code": "CT"}
    assert (axial["description"], axial["bodySite"]["display"]) == ("Axial", "CHEST")
    assert axial["laterality"]["code"] == "419161000"
    assert [each["number"] for each in axial["instance"]] == [1, 2]
    assert axial["instance"][0]["uid"] == study.SOPInstanceUID
    assert axial["instance"][0]["sopClass"]["code"] == f"urn:oid:{study.SOPClassUID}"
    assert other["modality"]["code"] == "MR"
    patient = await get(client, found["subject"]["reference"])
    assert patient["identifier"][0]["value"] == "G-1"


async def test_a_search_tells_the_same_without_the_instances(client: Client, study: Dataset) -> None:
    read = await get(client, f"ImagingStudy/{study.StudyInstanceUID}")
    for series in read["series"]:
        del series["instance"]
    bundle = await get(client, "ImagingStudy")
    assert (bundle["type"], bundle["total"], links(bundle)) == ("searchset", 1, {"self": "/fhir/ImagingStudy"})
    assert matches(bundle) == [read]
    (entry,) = bundle["entry"]
    assert await get(client, "/" + entry["fullUrl"].split("/", 3)[3])


@pytest.mark.parametrize("settings", [{"search": SearchSettings(max_answer_bytes=1 << 20)}], indirect=True)
async def test_where_answers_of_the_index_end_early_nothing_is_left_out(client: Client) -> None:
    # At 4 KB each the index's answers have room for 256.
    study_uid, several = uid(), 270
    for begin in range(0, several, 90):
        await put(client, *(data_set(StudyInstanceUID=study_uid, SeriesNumber=begin + each) for each in range(90)))
        await put(client, *(data_set(PatientID=f"P{begin + each}") for each in range(90)))
    read = await get(client, f"ImagingStudy/{study_uid}")
    assert len(read["series"]) == read["numberOfSeries"] == several
    assert sum(len(each["instance"]) for each in read["series"]) == several
    for kind in ("ImagingStudy", "Patient"):
        found, path = [], f"{kind}?_count=500"
        while path:
            bundle = await get(client, path)
            found += ids(bundle)
            path = links(bundle).get("next", "")
        assert len(set(found)) == len(found) == several + 1, kind


async def test_instances_of_a_large_study_are_left_to_the_endpoint(
    client: Client, study: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imaging_studies, "MOST_INSTANCES", 2)
    found = await get(client, f"ImagingStudy/{study.StudyInstanceUID}")
    assert found["numberOfInstances"] == 3
    assert not any("instance" in each for each in found["series"])


async def test_a_page_ends_before_a_study_whose_series_do_not_fit(
    client: Client, study: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imaging_studies, "MOST_SERIES", 3)
    other = uid()
    await put(client, *(data_set(StudyInstanceUID=other, StudyDate="20200101", SeriesNumber=n) for n in range(3)))
    found, path, pages = [], "/fhir/ImagingStudy", 0
    while path:
        bundle = await get(client, path)
        found += [(each["id"], len(each["series"])) for each in matches(bundle)]
        path, pages = links(bundle).get("next", ""), pages + 1
    assert (found, pages) == ([(study.StudyInstanceUID, 2), (other, 3)], 2)
    monkeypatch.setattr(imaging_studies, "MOST_SERIES", 1)
    (first,) = matches(await get(client, "ImagingStudy?_count=1"))
    assert (first["numberOfSeries"], len(first["series"])) == (2, 1)


async def test_what_is_hardly_known_is_a_valid_resource_too(client: Client) -> None:
    """Nothing but UIDs; and values that are none."""
    bare = dict.fromkeys(("PatientName", "PatientID", "StudyDate", "StudyTime", "Modality", "SeriesNumber"))
    odd = {
        "PatientName": "^^^", "PatientID": "  ", "StudyDate": "20260231", "StudyTime": "9999", "Modality": " ",
        "SeriesNumber": -1, "TimezoneOffsetFromUTC": "+0100", "PatientSex": "X", "PatientBirthDate": "00000000",
        "StudyDescription": "tab\tand\x1bescape",
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = (data_set(**bare), data_set(**odd))
    for each in made:
        await put(client, each)
        found = await get(client, f"ImagingStudy/{each.StudyInstanceUID}")
        assert "started" not in found
        await get(client, found["subject"]["reference"])


@pytest.fixture
async def studies(client: Client) -> dict[str, str]:
    """Studies by name: their UIDs."""
    made = {
        "ann": data_set(
            PatientID="A-1", PatientName="Gray^Ann", StudyDate="20260110", StudyTime="080000", AccessionNumber="X1",
            TimezoneOffsetFromUTC="+0000",
        ),
        "ann-later": data_set(PatientID="A-1", PatientName="Gray^Ann", StudyDate="20260220", Modality="MR"),
        "bob": data_set(PatientID="B-1", IssuerOfPatientID="HOSPITAL", StudyDate="20260110", Modality="US"),
        "oid": data_set(PatientID="A-1", IssuerOfPatientID="1.2.3", StudyDate="20251231", StudyTime="235900"),
        "nobody": data_set(PatientID=None, StudyDate=None, StudyTime=None, Modality="OT", AccessionNumber="1.2.3.4"),
    }  # fmt: skip
    await put(client, *made.values())
    return {name: str(each.StudyInstanceUID) for name, each in made.items()}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "ann ann-later bob oid nobody"),
        ("_id={ann}", "ann"),
        ("_id={ann},{bob},1.2.3,x", "ann bob"),
        ("identifier=urn:dicom:uid|urn:oid:{ann}", "ann"),
        ("identifier=urn:dicom:uid|{ann}", "ann"),
        ("identifier=urn:oid:{ann}", "ann"),
        ("identifier={ann},X1", "ann"),
        ("identifier=X1", "ann"),
        ("identifier=|X1", "ann"),
        ("identifier=urn:other|X1", ""),
        ("identifier=urn:dicom:uid|X1", ""),
        ("identifier=1.2.3.4", "nobody"),
        ("patient:identifier=A-1", "ann ann-later oid"),
        ("patient.identifier=|A-1", "ann ann-later"),
        ("subject:identifier=urn:oid:1.2.3|A-1", "oid"),
        ("patient:identifier=HOSPITAL|B-1,HOSPITAL|A-1", "bob"),
        ("patient=A-1", "ann ann-later oid"),
        ("subject=Patient/B-1", "bob"),
        ("patient=A-1,B-1&modality=US", "bob"),
        ("patient=A", ""),
        ("modality=CT", "ann oid"),
        ("modality=http://dicom.nema.org/resources/ontology/DCM|MR,US", "ann-later bob"),
        ("modality=http://other|MR", ""),
        ("modality=CT&modality=MR", ""),
        ("status=available", "ann ann-later bob oid nobody"),
        ("status=http://hl7.org/fhir/imagingstudy-status|available", "ann ann-later bob oid nobody"),
        ("status=registered", ""),
        ("endpoint=Endpoint/dicom-wado-rs", "ann ann-later bob oid nobody"),
        ("endpoint=other", ""),
        ("started=2026-01-10", "ann bob"),
        ("started=eq2026-01", "ann bob"),
        ("started=2026", "ann ann-later bob"),
        ("started=ge2026-01-10", "ann ann-later bob"),
        ("started=gt2026-01-10", "ann-later"),
        ("started=gt2026-01", "ann-later"),
        ("started=le2026-01-10", "ann bob oid"),
        ("started=lt2026-01-10", "oid"),
        ("started=lt2026", "oid"),
        ("started=ne2026-01-10", "ann-later oid"),
        ("started=sa2026-01", "ann-later"),
        ("started=eb2026-02", "ann bob oid"),
        ("started=ge2026-01-01&started=lt2026-02-01", "ann bob"),
        ("started=2025-12-31,2026-02-20", "ann-later oid"),
        ("started=ge2026-01-10T08:00:00Z&patient=A-1", "ann ann-later"),
        ("started=gt2026-01-10T08:00:00Z&patient=A-1", "ann-later"),
        ("started=2026-01-10T09:00%2B01:00&patient=A-1", "ann"),
        ("started=lt2026-01-10T08:30:00Z&patient=A-1", "ann oid"),
        ("started=lt0001-01-01", ""),
        ("_sort=-started&_total=accurate&_summary=false&_format=json&_pretty=true", "ann ann-later bob oid nobody"),
    ],
)
async def test_studies_are_found_by(client: Client, studies: dict[str, str], query: str, names: str) -> None:
    asked = "&".join(
        f"{name}={quote(text.format(**studies), safe='%')}"
        for name, _, text in (each.partition("=") for each in query.split("&") if each)
    )
    bundle = await get(client, f"ImagingStudy?{asked}")
    assert sorted(ids(bundle)) == sorted(studies[each] for each in names.split())
    assert bundle["total"] == len(names.split())
    counted = await get(client, f"ImagingStudy?{asked}&_summary=count")
    assert (counted["total"], "entry" in counted) == (len(names.split()), False)


async def test_studies_are_found_by_a_reference_to_their_patient(client: Client, studies: dict[str, str]) -> None:
    everything = {each["id"]: each["subject"]["reference"] for each in matches(await get(client, "ImagingStudy"))}
    assert everything[studies["ann"]] == everything[studies["ann-later"]]
    assert len(set(everything.values())) == 4, "the same ID of another issuer is another patient"
    for name in ("ann", "bob", "oid", "nobody"):
        reference = everything[studies[name]]
        theirs = sorted(each for each, whose in everything.items() if whose == reference)
        root = str(client.make_url("/fhir"))
        for form in (reference, reference.removeprefix("Patient/"), f"{root}/{reference}"):
            assert sorted(ids(await get(client, f"ImagingStudy?patient={form}"))) == theirs
        both = f"ImagingStudy?patient={reference},{everything[studies['bob']]}"
        assert studies["bob"] in ids(await get(client, both))


async def test_pages_follow_each_other_while_studies_come_and_go(client: Client) -> None:
    stored = [data_set(StudyDate=f"202601{day:02}", PatientID=f"P{day}") for day in range(1, 26)]
    await put(client, *stored)
    path, found, pages = "/fhir/ImagingStudy?_count=10&modality=CT", [], 0
    while path:
        bundle = await get(client, path)
        assert "_count=10" in links(bundle)["self"]
        found += ids(bundle)
        path, pages = links(bundle).get("next", ""), pages + 1
        if pages == 1:
            # One comes before what was seen, one that is to be seen yet goes.
            await put(client, data_set(StudyDate="20270101"))
            async with client.delete(f"/dicomweb/studies/{stored[3].StudyInstanceUID}") as response:
                assert response.status == 204
    wanted = [str(each.StudyInstanceUID) for each in reversed(stored) if each is not stored[3]]
    assert (found, pages) == (wanted, 3)


async def test_a_page_tells_nothing_of_what_stands_there_and_is_nobody_elses_to_make(
    client: Client, studies: dict[str, str]
) -> None:
    following = links(await get(client, "ImagingStudy?_count=1"))["next"]
    for hidden in (*studies.values(), "2026"):
        assert hidden not in following
    assert following.startswith("/fhir/ImagingStudy?_count=1&_page=")
    page = following.rpartition("=")[2]
    for wrong in (page[:-1], page[:-4], "x", "A" * 3000, page.swapcase()):
        await get(client, f"ImagingStudy?_page={wrong}", status=400)
    await get(client, f"Patient?_page={page}", status=400)


async def test_a_total_that_would_have_to_be_counted_on_is_told_when_asked_for(
    client: Client, core: Core, studies: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = core.projections.stored.query
    monkeypatch.setattr(service, "_cost", service._cost.__class__(max_counted=2))
    assert "total" not in await get(client, "ImagingStudy?_count=1")
    assert (await get(client, "ImagingStudy?_count=1&_total=accurate"))["total"] == 5
    assert (await get(client, "ImagingStudy?_count=0"))["total"] == 5
    assert "total" not in await get(client, "ImagingStudy?_total=none")


async def test_studies_are_found_by_when_they_changed(client: Client, studies: dict[str, str]) -> None:
    found = {each["id"]: each["meta"]["lastUpdated"] for each in matches(await get(client, "ImagingStudy"))}
    latest = max(found.values())
    # What one request stores side by side may change in one moment.
    others = sum(each == latest for uid, each in found.items() if uid != studies["ann"])
    await asyncio.sleep(0.01)
    await put(client, data_set(StudyInstanceUID=studies["ann"], PatientID="A-1", PatientName="Gray^Ann"))
    assert ids(await get(client, f"ImagingStudy?_lastUpdated=gt{latest}")) == [studies["ann"]]
    assert ids(await get(client, f"ImagingStudy?patient=A-1&_lastUpdated=gt{latest}")) == [studies["ann"]]
    assert ids(await get(client, f"ImagingStudy?patient=B-1&_lastUpdated=gt{latest}")) == []
    (ann,) = matches(await get(client, f"ImagingStudy?_id={studies['ann']}"))
    assert ann["meta"]["lastUpdated"] > latest
    assert await get(client, f"ImagingStudy/{studies['ann']}")
    for query, count in (
        (f"_lastUpdated=ge{latest}", others + 1), (f"_lastUpdated=le{latest}", 4), ("_lastUpdated=lt2020", 0),
        ("_lastUpdated=ge2020&_lastUpdated=lt2200-01-01", 5), (f"_lastUpdated={ann['meta']['lastUpdated']}", 1),
    ):  # fmt: skip
        bundle = await get(client, f"ImagingStudy?{query}")
        assert (len(ids(bundle)), bundle["total"]) == (count, count), query
        assert (await get(client, f"ImagingStudy?{query}&_summary=count"))["total"] == count
    for wrong in ("ne2020", "2020,2021", "yesterday"):
        await get(client, f"ImagingStudy?_lastUpdated={wrong}", status=400)


async def test_the_endpoint_comes_along(client: Client, studies: dict[str, str]) -> None:
    bundle = await get(client, "ImagingStudy?_include=ImagingStudy:endpoint")
    (included,) = [each["resource"] for each in bundle["entry"] if each["search"]["mode"] == "include"]
    assert len(matches(bundle)) == bundle["total"] == 5
    where = "/" + included["address"].split("/", 3)[3]
    async with client.get(f"{where}/studies/{studies['ann']}/metadata") as response:
        assert response.status == 200


@pytest.mark.parametrize("name", ["patient", "subject"])
async def test_the_patients_come_along_each_once(client: Client, studies: dict[str, str], name: str) -> None:
    for query, count in (("", 4), ("&_count=1", 1), ("&patient:identifier=|A-1", 1), ("&patient=nobody", 0)):
        bundle = await get(client, f"ImagingStudy?_include=ImagingStudy:{name}{query}")
        included = [each["resource"] for each in bundle.get("entry", ()) if each["search"]["mode"] == "include"]
        named = {each["subject"]["reference"] for each in matches(bundle)}
        assert {f"Patient/{each['id']}" for each in included} == named
        assert len(included) == count
        for each in included:
            assert await get(client, f"Patient/{each['id']}") == each
    both = await get(client, f"ImagingStudy?_include=ImagingStudy:{name}&_include=ImagingStudy:endpoint&_count=1")
    assert [each["resource"]["resourceType"] for each in both["entry"]] == ["ImagingStudy", "Endpoint", "Patient"]


async def test_what_was_deleted_is_gone_and_no_search_finds_it(client: Client, studies: dict[str, str]) -> None:
    async with client.delete(f"/dicomweb/studies/{studies['bob']}") as response:
        assert response.status == 204
    assert (await get(client, f"ImagingStudy/{studies['bob']}", status=410))["issue"][0]["code"] == "deleted"
    assert ids(await get(client, "ImagingStudy?patient:identifier=B-1")) == []
    assert ids(await get(client, "Patient?identifier=B-1")) == []


@pytest.mark.parametrize("name", ["1.2.3", "x", "1.2.3.4'", "0" * 65, "%00", "a" * 300])
async def test_what_is_not_there_is_not_found(client: Client, studies: dict[str, str], name: str) -> None:
    for kind in ("ImagingStudy", "Patient", "Endpoint"):
        found = await get(client, f"{kind}/{name}", status=404)
        assert found["issue"][0]["code"] == "not-found"


async def test_searches_and_reads_are_on_the_trail(client: Client, core: Core, studies: dict[str, str]) -> None:
    await get(client, f"ImagingStudy?patient=A-1&started=ge2026-01-01&modality=CT&identifier=X1&_id={studies['ann']}")
    await get(client, f"ImagingStudy/{studies['ann']}")
    core.trail.close()
    found = lines(core)
    (searched,) = [each for each in found if each["action"] == "search" and each["outcome"] == "allowed"]
    assert (searched["protocol"], searched["subject"]) == ("FHIR", ["STUDY", studies["ann"]])
    assert searched["query"] == (
        f"PatientID=...&StudyDate=ge2026-01-01&ModalitiesInStudy=CT&AccessionNumber=...&StudyInstanceUID={studies['ann']}"
    )
    (counted,) = [each for each in found if each["action"] == "search" and each["outcome"] == "completed"]
    assert counted["matches"] == 1, "series are no matches of their own"
    (read,) = [each for each in found if each["action"] == "read" and each["outcome"] == "allowed"]
    assert (read["protocol"], read["subject"]) == ("FHIR", ["STUDY", studies["ann"]])


def lines(core: Core) -> list[dict[str, Any]]:
    files = sorted((core.settings.storage.directory / "audit").glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]
