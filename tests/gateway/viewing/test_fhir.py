"""The FHIR face through a de-identified view: pseudonyms only, and ids that lead nowhere else."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.dicomweb.routes import routes as dicomweb_routes
from gateway.fhir.routes import routes
from gateway.http import application
from gateway.viewing.following import Follower
from tests.gateway.dicomweb.conftest import Client
from tests.gateway.fhir.conftest import get, ids, links, matches
from tests.gateway.viewing.test_access import ANN, BOB, POLICY
from tests.gateway.viewing.test_following import of_person, put

VIEW = "/views/research/fhir"
TELLING = ("Gray", "Ann", "MRN-4711", "19610703", "1961-07-03", "ACC-99", "House", "Princeton", "2026-01-01")


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    return settings.model_copy(update={"access": AccessSettings(policy_file=policy)})


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, [*routes(), *dicomweb_routes()]))


@pytest.fixture
async def stored(client: Client, follower: Follower) -> Any:
    found = of_person()
    await put(client, found, of_person(Modality="MR"))
    follower.follow()
    return found


async def test_a_view_tells_pseudonyms_only(client: Client, stored: Any) -> None:
    original = await get(client, f"ImagingStudy/{stored.StudyInstanceUID}")
    for root, headers in ((VIEW, {}), ("/fhir", ANN)):
        bundle = await get(client, "ImagingStudy", root=root, headers=headers)
        studies = matches(bundle)
        assert len(studies) == (2 if root == VIEW else 1), "the researcher's rule is about CT"
        reads = [await get(client, f"ImagingStudy/{each['id']}", root=root, headers=headers) for each in studies]
        patients = await get(client, "Patient", root=root, headers=headers)
        (patient,) = matches(patients)
        assert {each["subject"]["reference"] for each in studies} == {f"Patient/{patient['id']}"}
        assert patient["name"][0]["family"] == "Pseudonym"
        for each in (*studies, patient):
            assert each["meta"]["security"][0]["code"] == "PSEUDED"
        text = json.dumps([bundle, reads, patients])
        for word in (*TELLING, stored.StudyInstanceUID, stored.SeriesInstanceUID, stored.SOPInstanceUID):
            assert word not in text, word
        assert original["subject"]["reference"] not in text


async def test_no_id_of_one_side_is_understood_on_the_other(client: Client, stored: Any) -> None:
    original = await get(client, f"ImagingStudy/{stored.StudyInstanceUID}")
    (pseudonymous, *_) = matches(await get(client, "ImagingStudy", root=VIEW))
    for root, headers, study in ((VIEW, {}, original), ("/fhir", ANN, original), ("/fhir", BOB, pseudonymous)):
        reference = study["subject"]["reference"]
        await get(client, f"ImagingStudy/{study['id']}", 404, headers, root)
        await get(client, reference, 404, headers, root)
        for query in (
            f"ImagingStudy?patient={reference}",
            f"ImagingStudy?_id={study['id']}",
            f"Patient?_id={reference}",
        ):
            assert ids(await get(client, query.replace("_id=Patient/", "_id="), 200, headers, root)) == []


async def test_what_is_stored_is_not_found_in_the_view(client: Client, stored: Any) -> None:
    for query in (
        f"ImagingStudy?identifier=urn:dicom:uid|{stored.StudyInstanceUID}", "ImagingStudy?identifier=ACC-99",
        "ImagingStudy?patient=MRN-4711", "ImagingStudy?patient:identifier=MRN-4711", "ImagingStudy?started=2026-01-01",
        "Patient?identifier=MRN-4711", "Patient?name=gray", "Patient?birthdate=1961-07-03",
    ):  # fmt: skip
        assert (await get(client, query, root=VIEW))["total"] == 0, query
    (patient,) = matches(await get(client, "Patient", root=VIEW))
    pseudonym = patient["identifier"][0]["value"]
    assert (await get(client, f"ImagingStudy?patient:identifier={pseudonym}", root=VIEW))["total"] == 2


async def test_each_view_has_its_endpoint_for_who_may_read_it(client: Client, stored: Any) -> None:
    every = await get(client, "Endpoint")
    assert ids(every) == ["dicom-wado-rs", "dicom-wado-rs-research"]
    assert ids(await get(client, "Endpoint", headers=BOB)) == ["dicom-wado-rs"]
    first = await get(client, "Endpoint?_count=1")
    assert (ids(first), first["total"]) == (["dicom-wado-rs"], 2)
    last = await get(client, links(first)["next"])
    assert (ids(last), "next" in links(last)) == (["dicom-wado-rs-research"], False)
    await get(client, "Endpoint/dicom-wado-rs-research", status=404, headers=BOB)
    assert ids(await get(client, "Endpoint", root=VIEW, headers=ANN)) == ["dicom-wado-rs-research"]
    await get(client, "Endpoint", status=403, root=VIEW, headers=BOB)
    await get(client, "Endpoint", status=403, root="/views/none/fhir", headers=BOB)
    for root, headers in ((VIEW, {}), (VIEW, ANN), ("/fhir", ANN)):
        study = matches(await get(client, "ImagingStudy", root=root, headers=headers))[0]
        endpoint = await get(client, study["endpoint"][0]["reference"], root=root, headers=headers)
        where = "/" + endpoint["address"].split("/", 3)[3]
        async with client.get(f"{where}/studies/{study['id']}/metadata", headers=headers) as response:
            assert response.status == 200


async def test_a_view_tells_no_time_of_change(client: Client, stored: Any) -> None:
    for root, headers in ((VIEW, {}), ("/fhir", ANN)):
        assert "lastUpdated" not in json.dumps(await get(client, "ImagingStudy", root=root, headers=headers))
        await get(client, "ImagingStudy?_lastUpdated=gt2020", 400, headers, root)
    of_view, of_archive = await get(client, "metadata", root=VIEW), await get(client, "metadata")
    assert "_lastUpdated" not in json.dumps(of_view)
    assert "_lastUpdated" in json.dumps(of_archive)


async def test_who_may_not_use_a_view_learns_nothing_of_it(client: Client, stored: Any) -> None:
    for path in ("ImagingStudy", "Patient", "Endpoint", "ImagingStudy/1.2.3", "Patient/x", "Endpoint/x"):
        answers = [await get(client, path, 403, BOB, f"/views/{name}/fhir") for name in ("research", "none")]
        for each in answers:
            del each["id"]
        assert answers[0] == answers[1]
    assert await get(client, "/views/none/fhir/metadata", headers=BOB)


async def test_the_trail_names_the_view(client: Client, core: Core, stored: Any) -> None:
    (study, *_) = matches(await get(client, "ImagingStudy", headers=ANN))
    await get(client, f"ImagingStudy/{study['id']}", headers=ANN)
    core.trail.close()
    files = sorted((core.settings.storage.directory / "audit").glob("*.jsonl"))
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    told = [(each["action"], each["view"]) for each in lines if each.get("principal") == "ann" and "view" in each]
    assert ("search", "research") in told
    assert ("read_deidentified", "research") in told
