"""STOW-RS."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.assembly import Core
from gateway.config import Settings
from gateway.dicomweb.failures import REASONS, FailureReason
from storage.dicom.attributes import Level
from storage.dicom.identifiers import Tenant
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Search, Target
from tests.gateway.dicomweb.conftest import Client, multipart, store
from tests.instances import data_set, encode, extract, part10_file

MAIN = Tenant("main")


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    storage = settings.storage.model_copy(update=getattr(request, "param", {}))
    return settings.model_copy(update={"storage": storage})


def reason(answer: dict[str, Any], sequence: str = "00081198") -> int:
    return int(answer[sequence]["Value"][0]["00081197"]["Value"][0])


def spooled(core: Core) -> list[str]:
    return [path.name for path in core.spool.directory.iterdir()]


async def test_instances_are_stored_and_named_with_their_urls(client: Client) -> None:
    one, two = data_set(), data_set()
    status, answer = await store(client, part10_file(one), part10_file(two))
    assert status == 200
    items = answer["00081199"]["Value"]
    assert [item["00081155"]["Value"][0] for item in items] == [one.SOPInstanceUID, two.SOPInstanceUID]
    assert "00081198" not in answer
    async with client.get(
        items[0]["00081190"]["Value"][0].partition("/dicomweb")[2].join(["/dicomweb", ""])
    ) as response:
        assert response.status == 200


async def test_what_is_stored_side_by_side_is_reported_in_its_order(client: Client) -> None:
    # The first is the longest in the making.
    large = data_set(Rows=600, Columns=600, PixelData=bytes(720_000))
    found = [large, *(data_set() for _ in range(11))]
    status, answer = await store(client, *(part10_file(each) for each in found))
    assert status == 200
    reported = [item["00081155"]["Value"][0] for item in answer["00081199"]["Value"]]
    assert reported == [each.SOPInstanceUID for each in found]


async def test_of_one_instance_that_comes_several_times_in_a_request_the_last_is_current(
    client: Client, core: Core
) -> None:
    found = data_set(ImageComments="0", Rows=600, Columns=600, PixelData=bytes(720_000))
    bodies = [part10_file(found)]
    found.Rows = found.Columns = 4
    found.PixelData = bytes(32)
    for number in range(1, 6):
        found.ImageComments = str(number)
        bodies.append(part10_file(found))
    status, answer = await store(client, *bodies)
    assert (status, len(answer["00081199"]["Value"])) == (200, 6)
    (located,) = core.archive.index.locate(Target(MAIN, extract(encode(found)).study_uid), EVERYTHING)
    assert b"".join(core.archive.data_set(located)) == encode(found)


@pytest.mark.parametrize("settings", [{"conflict": "reject"}], indirect=True)
async def test_where_other_content_is_refused_the_first_of_a_request_is_kept(client: Client, core: Core) -> None:
    found = data_set(ImageComments="first", Rows=600, Columns=600, PixelData=bytes(720_000))
    first = encode(found)
    bodies = [part10_file(found)]
    found.Rows = found.Columns = 4
    found.PixelData = bytes(32)
    for number in range(4):
        found.ImageComments = str(number)
        bodies.append(part10_file(found))
    status, answer = await store(client, *bodies)
    assert (status, len(answer["00081198"]["Value"])) == (202, 4)
    (located,) = core.archive.index.locate(Target(MAIN, extract(first).study_uid), EVERYTHING)
    assert b"".join(core.archive.data_set(located)) == first


async def test_the_data_set_is_kept_byte_for_byte(client: Client, core: Core) -> None:
    found = data_set()
    await store(client, part10_file(found))
    (located,) = core.archive.index.locate(Target(MAIN, extract(encode(found)).study_uid), EVERYTHING)
    assert b"".join(core.archive.data_set(located)) == encode(found)


async def test_the_same_again_is_a_success_and_nothing_new(client: Client, core: Core) -> None:
    body = part10_file(data_set())
    assert (await store(client, body))[0] == 200
    assert (await store(client, body, body))[0] == 200
    assert len(list(core.archive.objects.list(""))) == 1


async def test_some_stored_and_some_not_is_202_with_a_readable_comment(client: Client) -> None:
    status, answer = await store(
        client, part10_file(data_set()), b"this is no DICOM" * 20, part10_file(data_set(StudyInstanceUID=None))
    )
    assert status == 202
    assert len(answer["00081199"]["Value"]) == 1
    (unknown,), (failed,) = answer["0008119A"]["Value"], answer["00081198"]["Value"]
    assert [item["00081197"]["Value"][0] for item in (unknown, failed)] == [0xC000, 0xC000]
    assert failed["00000902"]["Value"] == ["StudyInstanceUID (0020,000D) is missing"]


async def test_every_attribute_at_fault_is_named(client: Client) -> None:
    found = data_set(StudyInstanceUID=None, SeriesInstanceUID=None)
    status, answer = await store(client, part10_file(found))
    (failed,) = answer["00081198"]["Value"]
    assert (status, failed["00081155"]["Value"]) == (409, [found.SOPInstanceUID])
    comments = {item["00720026"]["Value"][0]: item["00000902"]["Value"][0] for item in failed["00741048"]["Value"]}
    assert comments["0020000D"] == "StudyInstanceUID (0020,000D) is missing"
    assert comments["0020000E"] == "SeriesInstanceUID (0020,000E) is missing"


async def test_nothing_stored_is_409_with_the_reason_of_each(client: Client, core: Core) -> None:
    status, answer = await store(client, b"this is no DICOM" * 20)
    assert status == 409
    assert reason(answer, "0008119A") == FailureReason.CANNOT_UNDERSTAND
    assert spooled(core) == []


async def test_an_instance_of_another_study_than_the_url_names_is_refused(client: Client) -> None:
    found = data_set()
    status, answer = await store(client, part10_file(found), path="/dicomweb/studies/1.2.3")
    assert (status, reason(answer)) == (409, FailureReason.DATA_SET_MISMATCH)
    assert answer["00081198"]["Value"][0]["00081155"]["Value"] == [found.SOPInstanceUID]
    assert (await store(client, part10_file(found), path=f"/dicomweb/studies/{found.StudyInstanceUID}"))[0] == 200


async def test_a_single_part_body_is_stored(client: Client) -> None:
    headers = {"Content-Type": "application/dicom"}
    async with client.post("/dicomweb/studies", data=part10_file(data_set()), headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "path", ["/dicomweb/studies/..%2f..%2fetc", "/dicomweb/studies/1.2.a", f"/dicomweb/studies/{'1' * 65}"]
)
async def test_a_study_that_is_no_uid_is_400(client: Client, path: str) -> None:
    body, headers = multipart(part10_file(data_set()))
    async with client.post(path, data=body, headers=headers) as response:
        assert response.status == 400


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain", 415),
        ('multipart/related; type="image/jpeg"; boundary=b', 415),
        ("application/json", 400),
        ('multipart/related; type="application/dicom+json"; boundary=b', 400),
        ('multipart/related; type="application/dicom"', 400),
        ("", 415),
        ("multipart/related; boundary=b", 200),
        ("multipart/related; type=application/dicom; boundary=b", 200),
        ('MULTIPART/RELATED; Type="application/DICOM"; BOUNDARY=b', 200),
    ],
)
async def test_content_types(client: Client, content_type: str, status: int) -> None:
    body, _ = multipart(part10_file(data_set()))
    async with client.post("/dicomweb/studies", data=body, headers={"Content-Type": content_type}) as response:
        assert response.status == status


async def test_a_body_that_ends_in_the_middle_stores_nothing_of_the_open_part(client: Client, core: Core) -> None:
    body, headers = multipart(part10_file(data_set()), part10_file(data_set()))
    async with client.post("/dicomweb/studies", data=body[:-100], headers=headers) as response:
        assert response.status == 202
        answer = await response.json(content_type=None)
        assert len(answer["00081199"]["Value"]) == 1
        assert "final boundary" in answer["0008119A"]["Value"][0]["00000902"]["Value"][0]
    assert core.archive.index.count(Search(MAIN, Level.INSTANCE)) == 1
    assert spooled(core) == []


async def test_a_body_that_breaks_before_anything_is_stored_is_400(client: Client, core: Core) -> None:
    body, headers = multipart(part10_file(data_set()))
    async with client.post("/dicomweb/studies", data=body[:-100], headers=headers) as response:
        assert response.status == 400
        assert (await response.json(content_type=None))["title"] == "Bad Request"
    assert spooled(core) == []


async def test_a_request_without_an_instance_is_400(client: Client) -> None:
    _, headers = multipart()
    async with client.post("/dicomweb/studies", data=b"--b\r\n\r\n\r\n--b--", headers=headers) as response:
        assert response.status in (400, 409)


async def test_an_instance_beyond_the_bound_fails_for_itself(client: Client, core: Core) -> None:
    big = part10_file(data_set(PixelData=bytes(core.spool.max_bytes + 2), Rows=1))
    status, answer = await store(client, big, part10_file(data_set()))
    assert status == 202
    assert reason(answer, "0008119A") == FailureReason.OUT_OF_RESOURCES
    assert spooled(core) == []


async def test_a_large_instance_goes_through_the_spool_and_arrives_whole(client: Client, core: Core) -> None:
    core.spool.memory_bytes = 1000
    found = data_set(PixelData=bytes(range(256)) * 2000, Rows=500, Columns=512)
    assert (await store(client, part10_file(found)))[0] == 200
    (located,) = core.archive.index.locate(Target(MAIN, extract(encode(found)).study_uid), EVERYTHING)
    assert b"".join(core.archive.data_set(located)) == encode(found)
    assert spooled(core) == []


async def test_a_part_of_another_type_fails_for_itself(client: Client) -> None:
    body, headers = multipart(b"<html>", content_type="text/html")
    async with client.post("/dicomweb/studies", data=body, headers=headers) as response:
        assert response.status == 409


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(client: Client, core: Core) -> None:
    core.spool.memory_bytes = 10
    body, headers = multipart(part10_file(data_set(PixelData=bytes(200_000), Rows=400, Columns=250)))

    async def half() -> Any:
        yield body[:150_000]
        raise ConnectionResetError

    with pytest.raises(Exception):  # noqa: B017 - the client's own, whatever it calls it
        await client.post("/dicomweb/studies", data=half(), headers=headers)
    async with asyncio.timeout(30):
        while spooled(core):
            await asyncio.sleep(0)
    assert core.archive.index.count(Search(MAIN, Level.INSTANCE)) == 0


def test_every_error_of_the_trees_has_a_failure_reason() -> None:
    from gateway import errors
    from storage import errors as storage

    for module in (errors, storage):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Exception):
                assert any(base in REASONS for base in kind.__mro__), kind
