"""QIDO-RS."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from gateway.config import Settings
from gateway.config.serving import HttpSettings
from tests.gateway.dicomweb.conftest import Client, store
from tests.instances import data_set, part10_file


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"http": HttpSettings(port=0, max_results=3)})


@pytest_asyncio.fixture
async def studies(client: Client) -> list[Any]:
    found = [
        data_set(PatientName="Müller^Zoë", PatientID="A-1", SpecificCharacterSet="ISO_IR 192", AccessionNumber="ACC1"),
        data_set(
            PatientName="Yamada^Tarou=山田^太郎",
            PatientID="B-2",
            SpecificCharacterSet="ISO_IR 192",
            Modality="MR",
            StudyDate="20251224",
        ),
        data_set(PatientName="Smith^John", PatientID="B-3", StudyDescription="Head CT"),
        data_set(PatientName="Smythe^Jane", PatientID="C-4", StudyDate="20240101", StudyTime="235959"),
    ]
    assert (await store(client, *[part10_file(each) for each in found]))[0] == 200
    return found


async def get(client: Client, path: str) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers; of several Warning headers, all."""
    async with client.get("/dicomweb" + path, headers={"Accept": "application/dicom+json"}) as response:
        body = await response.json(content_type=None) if response.status != 204 else None
        headers = dict(response.headers)
        if "Warning" in headers:
            headers["Warning"] = ", ".join(response.headers.getall("Warning"))
        return response.status, body, headers


async def names(client: Client, query: str) -> set[str]:
    status, body, _ = await get(client, f"/studies?{query}")
    assert status in (200, 204), body
    return {each["00100020"]["Value"][0] for each in body or []}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("PatientID=A-1", {"A-1"}),
        ("00100020=A-1", {"A-1"}),
        ("PatientName=muller*", {"A-1"}),
        ("PatientName=M%C3%BCller%5EZo%C3%AB", {"A-1"}),
        ("PatientName=*%E5%B1%B1%E7%94%B0*", {"B-2"}),
        ("PatientName=sm?th*", {"B-3", "C-4"}),
        ("PatientID=*-1", {"A-1"}),
        ("PatientID=?-?", {"A-1", "B-2", "B-3"}),
        ("PatientID=b*", set()),
        ("AccessionNumber=*CC1", {"A-1"}),
        ("PatientName=*^j*", {"B-3", "C-4"}),
        ("PatientName=*=*山*", {"B-2"}),
        ("AccessionNumber=ACC1", {"A-1"}),
        ("ModalitiesInStudy=MR", {"B-2"}),
        ("Modality=MR", {"B-2"}),
        ("ModalitiesInStudy=MR,US", {"B-2"}),
        ("StudyDate=20251201-20251231", {"B-2"}),
        ("StudyDate=-20240101", {"C-4"}),
        ("StudyTime=2300-", {"C-4"}),
        ("StudyDescription=Head*", {"B-3"}),
        ("StudyDescription=head*", set()),
        ("PatientID=nobody", set()),
        ("PatientName=", {"A-1", "B-2", "B-3"}),
        ("PatientName=*", {"A-1", "B-2", "B-3"}),
    ],
)
async def test_matching(client: Client, studies: list[Any], query: str, expected: set[str]) -> None:
    assert await names(client, query) == expected


async def test_uid_lists_match_with_commas_and_backslashes(client: Client, studies: list[Any]) -> None:
    for separator in (",", "%5C"):
        query = f"StudyInstanceUID={studies[0].StudyInstanceUID}{separator}{studies[1].StudyInstanceUID}"
        assert await names(client, query) == {"A-1", "B-2"}


async def test_what_ohif_asks_is_answered(client: Client, studies: list[Any]) -> None:
    status, body, _ = await get(
        client,
        "/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030&PatientName=*smith*",
    )
    assert status == 200
    (study,) = body
    assert study["00081030"]["Value"] == ["Head CT"]
    assert study["00080061"]["Value"] == ["CT"]
    assert study["00201208"]["Value"] == [1]
    status, body, _ = await get(client, f"/studies/{studies[2].StudyInstanceUID}/series?includefield=0008103E,00080021")
    assert body[0]["0020000D"]["Value"] == [studies[2].StudyInstanceUID]


async def test_results_carry_the_required_return_keys(client: Client, studies: list[Any]) -> None:
    one = studies[0]
    base = f"/studies/{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}/instances"
    _, (study, *_), _ = await get(client, f"/studies?StudyInstanceUID={one.StudyInstanceUID}")
    assert {
        "00080020",
        "00080030",
        "00080050",
        "00080056",
        "00080061",
        "00100010",
        "00100020",
        "0020000D",
        "00201206",
        "00201208",
    } <= study.keys()
    _, (series,), _ = await get(client, f"/studies/{one.StudyInstanceUID}/series")
    assert {"00080060", "0020000E", "00200011", "00201209", "00081190", "0020000D"} <= series.keys()
    _, (instance,), _ = await get(client, base)
    assert instance["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    assert instance["00080018"]["Value"] == [one.SOPInstanceUID]
    url = instance["00081190"]["Value"][0]
    assert url.endswith("/dicomweb" + base + f"/{one.SOPInstanceUID}")
    assert url.startswith(f"http://127.0.0.1:{client.port}/")


async def test_all_six_paths_answer(client: Client, studies: list[Any]) -> None:
    one = studies[0]
    study = f"/studies/{one.StudyInstanceUID}"
    for path in (
        "/studies",
        "/series",
        "/instances",
        f"{study}/series",
        f"{study}/instances",
        f"{study}/series/{one.SeriesInstanceUID}/instances",
    ):
        status, body, _ = await get(client, path)
        assert status == 200, path
        assert body, path


async def test_zero_results_are_204(client: Client) -> None:
    assert (await get(client, "/studies"))[0] == 204


async def test_pages_tell_how_much_remains(client: Client, studies: list[Any]) -> None:
    _, first, headers = await get(client, "/studies?limit=3")
    root = f"http://127.0.0.1:{client.port}/dicomweb"
    assert headers["Warning"] == f"299 {root}: There are 1 additional results that can be requested"
    assert headers["X-Total-Count"] == "4"
    status, second, headers = await get(client, "/studies?limit=3&offset=3")
    assert status == 200
    assert "Warning" not in headers
    assert len({each["0020000D"]["Value"][0] for each in first + second}) == 4
    status, _, headers = await get(client, "/studies?offset=4")
    assert (status, headers["X-Total-Count"]) == (204, "4")


async def test_a_limit_of_zero_tells_the_total(client: Client, studies: list[Any]) -> None:
    status, _, headers = await get(client, "/studies?limit=0")
    assert (status, headers["X-Total-Count"]) == (204, "4")


async def test_a_limit_above_the_bound_is_cut_to_it(client: Client, studies: list[Any]) -> None:
    _, body, _ = await get(client, "/studies?limit=1000000")
    assert len(body) == 3


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1", "limit=x", "offset=-5", "limit=99999999999999999999", "NoSuchKeyword=1", "StudyDate=yesterday",
        "PatientID=1&PatientID=2", "StudyDate=20260101-bad", "%00=1", "0010=1", "includefield=NoSuchKeyword",
        "fuzzymatching=perhaps", "snapshot=nothing", "00091002=1", "includefield=00091002", "00100020.00100010=1",
        "00081032=1", "00020010=1.2", "00280030=x", "00080201=0100", "StudyDate=20260101-20260102&StudyTime=a-b",
        "ModalitiesInStudy=%22%22&emptyvaluematching=true", "00400009." * 9 + "00400009=1",
        "PatientName=a=b=c=d", "multiplevaluematching=true&ImageType=" + "a%5C" * 70, "ModalitiesInStudy=" + "*a," * 70,
    ],
)  # fmt: skip
async def test_bad_queries_are_400_in_the_one_error_shape(client: Client, query: str) -> None:
    status, body, headers = await get(client, f"/studies?{query}")
    assert status == 400
    assert headers["Content-Type"].startswith("application/problem+json")
    assert body.keys() == {"type", "title", "status", "detail", "request"}


async def test_too_many_parameters_are_400(client: Client) -> None:
    assert (await get(client, "/studies?" + "&".join(f"includefield=a{n}" for n in range(300))))[0] == 400


async def test_attributes_of_a_lower_level_are_ignored_in_includefield(client: Client, studies: list[Any]) -> None:
    status, body, _ = await get(client, "/studies?includefield=00080060&includefield=all")
    assert status == 200
    assert "00080060" not in body[0]


async def test_the_accept_header_decides_and_html_is_not_acceptable(client: Client, studies: list[Any]) -> None:
    async with client.get("/dicomweb/studies", headers={"Accept": "text/html"}) as response:
        assert response.status == 406
    async with client.get("/dicomweb/studies?accept=application/json", headers={"Accept": "text/html"}) as response:
        assert response.content_type == "application/json"
