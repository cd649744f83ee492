"""QIDO-RS: what comes back, in which form, and how often."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from email.parser import BytesParser
from typing import Any

import pytest
import pytest_asyncio
from pydicom.dataset import Dataset

from gateway.config import Settings
from gateway.config.serving import HttpSettings, SearchSettings
from gateway.http.keys import CORE
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Target
from tests.gateway.dicomweb.conftest import Client
from tests.gateway.dicomweb.test_qido import get
from tests.gateway.dicomweb.test_qido_matching import code, keep, request_of
from tests.instances import data_set, uid

NATIVE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update=getattr(request, "param", {}))


@pytest_asyncio.fixture
async def one(client: Client) -> Dataset:
    found = data_set(
        PatientID="P1",
        PatientBirthDate="19700101",
        TimezoneOffsetFromUTC="+0100",
        RequestAttributesSequence=[request_of("S1", "R1", "X1"), request_of("S2", "R2")],
        RequestedProcedureDescription="CT head",
        ReasonForRequestedProcedureCodeSequence=[code("A"), code("B")],
        KVP="120",
        TextValue="y" * 20_000,
        IconImageSequence=None,
    )
    await keep(client, found)
    return found


REQUIRED = {
    "study": "00080020 00080030 00080050 00080056 00080061 00080090 00081190 00100010 00100020 00100030 00100040"
    " 0020000D 00200010 00201206 00201208",
    "series": "00080060 0020000E 00200011 00201209 00081190 00400275 0020000D 00100020 00080056",
    "instance": "00080016 00080018 00080056 00081190 00083002 00200013 00280010 00280011 00280100 0020000E 00080060",
}


async def test_the_required_keys_are_always_there(client: Client, one: Dataset) -> None:
    for path, level in (("/studies", "study"), ("/series", "series"), ("/instances", "instance")):
        _, (found,), _ = await get(client, path)
        assert set(REQUIRED[level].split()) <= found.keys(), path
        assert found["00080005"]["Value"] == ["ISO_IR 192"]
        assert found["00080201"]["Value"] == ["+0100"]
    _, (study,), _ = await get(client, "/studies")
    assert study["00080050"] == {"vr": "SH"}
    assert study["00080090"] == {"vr": "PN"}
    _, (series,), _ = await get(client, "/series")
    assert [item["00400009"]["Value"] for item in series["00400275"]["Value"]] == [["S1"], ["S2"]]


async def test_patients_are_results_of_their_own(client: Client, one: Dataset) -> None:
    await keep(client, data_set(PatientID="P1"), data_set(PatientID="P2"))
    status, found, headers = await get(client, "/patients?includefield=NumberOfPatientRelatedStudies")
    assert (status, headers["X-Total-Count"]) == (200, "2")
    assert [(each["00100020"]["Value"], each["00201200"]["Value"]) for each in found] == [(["P1"], [2]), (["P2"], [1])]
    assert "00081190" not in found[0]
    assert "0020000D" not in found[0]
    assert (await get(client, "/patients?PatientID=P2"))[2]["X-Total-Count"] == "1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/patients/count", 2),
        ("/studies/count", 2),
        ("/series/count", 3),
        ("/instances/count", 4),
        ("/instances/count?PatientID=A&limit=1", 3),
        ("/studies/count?Modality=MR", 1),
        ("/studies/count?KVP=1", 1),
        ("/studies/count?PatientID=nobody", 0),
    ],
)
async def test_counts(client: Client, path: str, expected: int) -> None:
    study, series = uid(), uid()
    await keep(
        client,
        data_set(PatientID="A", StudyInstanceUID=study, SeriesInstanceUID=series, KVP="1"),
        data_set(PatientID="A", StudyInstanceUID=study, SeriesInstanceUID=series),
        data_set(PatientID="A", StudyInstanceUID=study, Modality="MR"),
        data_set(PatientID="B"),
    )
    status, body, headers = await get(client, path)
    assert (status, body) == (200, {"count": expected})
    assert headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize("settings", [{"http": HttpSettings(port=0, qido_empty=200)}], indirect=True)
async def test_no_results_may_be_an_empty_list(client: Client) -> None:
    status, body, headers = await get(client, "/studies")
    assert (status, body, headers["X-Total-Count"]) == (200, [], "0")


@pytest.mark.parametrize("settings", [{"search": SearchSettings(max_counted=2)}], indirect=True)
async def test_a_total_beyond_the_bound_is_said_to_be_the_least(client: Client) -> None:
    await keep(client, *(data_set() for _ in range(5)))
    _, found, headers = await get(client, "/studies?limit=1")
    assert (len(found), headers["X-Total-Count"], headers["X-Total-Count-Relation"]) == (1, "2", "gte")
    _, found, headers = await get(client, "/studies?limit=1&offset=3")
    assert (len(found), headers["X-Total-Count-Relation"]) == (1, "gte")
    assert "There are 1 additional" in headers["Warning"]
    _, found, headers = await get(client, "/studies?limit=1&offset=4")
    assert (len(found), headers["X-Total-Count"]) == (1, "5")
    assert "Warning" not in headers
    assert (await get(client, "/studies/count"))[1] == {"count": 5}


async def test_includefield_gives_unregistered_attributes_sequences_and_pieces(client: Client, one: Dataset) -> None:
    fields = "00321060,KVP,0040100A.00080100,00180060,0040A160,00080060,00400275.00400009"
    _, (study,), _ = await get(client, f"/studies?includefield={fields}")
    assert study["00321060"]["Value"] == ["CT head"]
    assert study["00180060"]["Value"] == [120]
    assert study["0040100A"]["Value"] == [
        {"00080100": {"vr": "SH", "Value": ["A"]}}, {"00080100": {"vr": "SH", "Value": ["B"]}},
    ]  # fmt: skip
    # Too long for an answer, and of the series.
    assert not {"0040A160", "00080060", "00400275"} & study.keys()
    _, (series,), _ = await get(client, "/series?includefield=ReasonForRequestedProcedureCodeSequence")
    assert series["0040100A"]["Value"][1]["00080102"]["Value"] == ["99TEST"]
    assert "00180060" not in series


async def test_includefield_all_gives_instances_everything_that_is_not_bulk(client: Client, one: Dataset) -> None:
    _, (instance,), _ = await get(client, "/instances?includefield=all")
    assert instance["00180060"]["Value"] == [120]
    assert instance["00280103"]["Value"] == [0]
    assert "7FE00010" not in instance
    assert "0040A160" not in instance
    _, (study,), _ = await get(client, "/studies?includefield=all")
    assert study["00321060"]["Value"] == ["CT head"]
    assert "00180060" not in study


@pytest.mark.parametrize("settings", [{"search": SearchSettings(max_answer_bytes=1 << 20)}], indirect=True)
async def test_an_answer_that_grows_too_long_ends_and_the_rest_can_be_asked_for(client: Client) -> None:
    study, series = uid(), uid()
    items = [code(f"{n:04}", meaning="v" * 60) for n in range(60)]
    await keep(
        client,
        *(
            data_set(
                StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=n,
                ProcedureCodeSequence=items, ReasonForRequestedProcedureCodeSequence=items,
                AnatomicRegionSequence=items, PurposeOfReferenceCodeSequence=items, ViewCodeSequence=items,
            )
            for n in range(40)
        ),
    )  # fmt: skip
    seen: list[int] = []
    while len(seen) < 40:
        _, found, headers = await get(client, f"/instances?includefield=all&offset={len(seen)}")
        assert 0 < len(found) < 40
        seen += [each["00200013"]["Value"][0] for each in found]
        assert ("Warning" in headers) is (len(seen) < 40)
    assert seen == list(range(40))


async def ask(client: Client, path: str, **headers: str) -> Any:
    return await client.get("/dicomweb" + path, headers=headers)


async def test_results_as_xml_are_one_part_each(client: Client, one: Dataset) -> None:
    await keep(client, data_set(PatientID="P2", PatientName="a<b>&^c"))
    accept = 'multipart/related; type="application/dicom+xml"'
    response = await ask(client, "/studies", Accept=accept)
    body = await response.read()
    assert response.status == 200
    message = BytesParser().parsebytes(f"Content-Type: {response.headers['Content-Type']}\r\n\r\n".encode() + body)
    parts = message.get_payload()
    assert [part.get_content_type() for part in parts] == ["application/dicom+xml"] * 2
    found = [ET.fromstring(part.get_payload(decode=True)) for part in parts]
    names = {
        document.findtext(f"{NATIVE}DicomAttribute[@keyword='PatientName']/{NATIVE}PersonName/*/{NATIVE}FamilyName")
        for document in found
    }
    assert names == {"Test", "a<b>&"}
    urls = [document.findtext(f"{NATIVE}DicomAttribute[@keyword='RetrieveURL']/{NATIVE}Value") for document in found]
    assert all(url is not None and url.startswith(f"http://127.0.0.1:{client.port}/dicomweb/studies/") for url in urls)
    again = await ask(client, "/studies", Accept=accept)
    assert (await again.read(), again.headers["ETag"]) == (body, response.headers["ETag"])
    assert (await ask(client, "/studies?PatientID=nobody", Accept=accept)).status == 204
    json = await ask(client, "/studies", Accept=f"application/dicom+json;q=0.9, {accept};q=0.1")
    assert json.content_type == "application/dicom+json"


async def test_an_unchanged_answer_is_304_until_something_changes(client: Client, one: Dataset) -> None:
    for path in ("/studies", "/studies?PatientID=nobody", "/instances?includefield=all", "/studies/count", "/patients"):
        first = await ask(client, path)
        tag = first.headers["ETag"]
        assert tag.startswith('"')
        again = await ask(client, path, **{"If-None-Match": tag})
        assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
        assert (
            await ask(client, path + ("&" if "?" in path else "?") + "limit=1", **{"If-None-Match": tag})
        ).status in (
            200,
            204,
        )
    tag = (await ask(client, "/studies")).headers["ETag"]
    await keep(client, data_set())
    changed = await ask(client, "/studies", **{"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["ETag"] != tag


async def test_head_is_get_without_its_body(client: Client, one: Dataset) -> None:
    got = await ask(client, "/studies")
    head = await client.head("/dicomweb/studies")
    assert (head.status, await head.read()) == (200, b"")
    for name in ("ETag", "X-Total-Count", "Content-Length", "Content-Type", "X-Snapshot"):
        assert head.headers[name] == got.headers[name]


async def test_what_ohif_sends_is_answered(client: Client, one: Dataset) -> None:
    fields = "includefield=00081030%2C00080060%2C00080090%2C00100030"
    base = f"/studies?limit=101&offset=0&fuzzymatching=true&{fields}"
    study = one.StudyInstanceUID
    for more in (
        "",
        "&PatientName=*test%5Epat*",
        f"&StudyInstanceUID={study}&StudyInstanceUID={study}",
        "&00100020=P1",
    ):
        status, found, _ = await get(client, base + more)
        assert (status, len(found)) == (200, 1), more
        assert "00080060" not in found[0]
        assert found[0]["00080061"]["Value"] == ["CT"]
    status, found, _ = await get(
        client, f"/studies/{study}/series?includefield=00080021%2C00080031%2C0008103E%2C00200011"
    )
    assert (status, found[0]["0020000D"]["Value"]) == (200, [study])
    status, found, _ = await get(
        client, f"/studies/{study}/series/{one.SeriesInstanceUID}/instances?limit=1&includefield=00080018"
    )
    assert (status, found[0]["00080018"]["Value"]) == (200, [one.SOPInstanceUID])


async def test_a_snapshot_pages_without_gaps_or_doubles_while_data_come_and_go(client: Client) -> None:
    there = [data_set(StudyDate=f"202601{n + 1:02}", PatientID=f"S{n}") for n in range(9)]
    await keep(client, *there)
    wanted = [each.StudyInstanceUID for each in reversed(there)]
    _, page, headers = await get(client, "/studies?limit=2")
    snapshot = headers["X-Snapshot"]
    seen = [each["0020000D"]["Value"][0] for each in page]
    for step in range(4):
        # One arrives before the page, one goes that was seen, one goes that was not.
        await keep(client, data_set(StudyDate="20260201", PatientID=f"N{step}"))
        await remove(client, wanted[step])
        if step < 2:
            await remove(client, wanted[-1 - step])
        _, page, headers = await get(client, f"/studies?limit=2&offset={len(seen)}&snapshot={snapshot}")
        assert headers["X-Snapshot"] == snapshot
        assert headers["X-Total-Count"] == "9"
        seen += [each["0020000D"]["Value"][0] for each in page]
    assert seen == wanted
    _, now, headers = await get(client, "/studies")
    assert headers["X-Snapshot"] != snapshot
    assert {each["00100020"]["Value"][0] for each in now} == {"N0", "N1", "N2", "N3", "S4", "S3", "S2"}


async def remove(client: Client, study: str) -> None:
    archive = client.app[CORE].archive
    target = Target(ids.tenant("main"), ids.study_uid(study))
    archive.delete(target, archive.index.versions(target, EVERYTHING))


async def test_a_snapshot_of_another_index_or_for_what_has_no_index_is_400(client: Client, one: Dataset) -> None:
    _, _, headers = await get(client, "/studies")
    snapshot = headers["X-Snapshot"]
    assert (await get(client, f"/studies?snapshot={snapshot}"))[0] == 200
    for query in (f"/patients?snapshot={snapshot}", f"/studies?KVP=120&snapshot={snapshot}",
                  f"/studies?snapshot={'0' * 16}-1", f"/studies?snapshot={snapshot}9"):  # fmt: skip
        assert (await get(client, query))[0] == 400, query
