"""Who sees the archive through which view, and what those who see it so can find out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import assembly
from gateway.assembly import Core
from gateway.config import InvalidSettings, Settings
from gateway.config.access import AccessSettings
from gateway.config.views import ViewSettings
from gateway.context import command_line
from gateway.dicomweb.routes import routes
from gateway.dimse.server import DimseServer
from gateway.entrance import administration
from gateway.errors import NotFound
from gateway.http import application, health
from gateway.viewing.following import Follower
from gateway.viewing.review import Review
from storage.dicom.attributes import Level
from storage.index.questions import Search
from tests import instances
from tests.gateway.dicomweb.conftest import Client, multipart
from tests.gateway.dimse.conftest import find
from tests.gateway.dimse.test_retrieval import PATIENT_GET, get, identifier
from tests.gateway.viewing.test_following import VIEW, of_person, put, value
from tests.gateway.viewing.test_pixels import MAIN
from tests.gateway.viewing.test_pixels import put as keep

POLICY = """
[[role]]
name = "researcher"
[[role.rule]]
name = "de-identified"
view = "research"
actions = ["search", "read_deidentified", "render"]
scope = { Modality = ["CT"] }

[[principal]]
name = "ann"
kind = "api_key"
api_key_sha256 = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"
roles = ["researcher"]
networks = ["127.0.0.0/8"]

[[principal]]
name = "bob"
kind = "api_key"
api_key_sha256 = "81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9"
actions = ["search", "read"]
networks = ["127.0.0.0/8"]

[[principal]]
name = "eve"
kind = "api_key"
api_key_sha256 = "85262adf74518bbb70c7cb94cd6159d91669e5a81edf1efebd543eadbda9fa2b"
roles = ["reidentifier"]
networks = ["127.0.0.0/8"]

[[principal]]
name = "workstation"
kind = "ae"
ae_title = "RESEARCH"
roles = ["researcher"]

[[principal]]
name = "here"
kind = "loopback"
roles = ["administrator"]
"""
ANN, BOB, EVE = ({"Authorization": f"Bearer {key}"} for key in ("alice", "bob", "eve"))


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    return settings.model_copy(update={"access": AccessSettings(policy_file=policy)})


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, [*routes(), *administration.routes(), *health.routes()]))


@pytest.fixture
async def stored(client: Client, follower: Follower) -> Any:
    """A study as it is stored, of which the view has made its own."""
    found = of_person()
    await put(client, found, of_person(Modality="MR"))
    follower.follow()
    return found


async def answered(client: Client, path: str, headers: dict[str, str]) -> tuple[int, Any]:
    async with client.get(path, headers=headers) as response:
        body = await response.read()
        return response.status, json.loads(body) if body else None


def lines(core: Core) -> list[dict[str, Any]]:
    """What is on the trail."""
    files = sorted((core.settings.storage.directory / "audit").glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


async def test_who_may_only_use_a_view_sees_it_without_naming_it(client: Client, stored: Any) -> None:
    for path in ("/dicomweb/studies", f"{VIEW}/studies"):
        status, found = await answered(client, path, ANN)
        assert status == 200
        (study,) = found
        assert value(study, "00100010")["Alphabetic"].startswith("Pseudonym^")
        assert value(study, "0020000D") != stored.StudyInstanceUID


@pytest.mark.parametrize("path", ["studies/{}/metadata", "studies/{}", "studies/{}/rendered", "studies/{}/thumbnail"])
async def test_a_stored_uid_is_to_who_uses_a_view_as_one_that_never_was(client: Client, stored: Any, path: str) -> None:
    for root in ("/dicomweb", VIEW):
        there = await answered(client, f"{root}/{path.format(stored.StudyInstanceUID)}", ANN)
        absent = await answered(client, f"{root}/{path.format('1.2.3')}", ANN)
        for each in (there[1], absent[1]):
            each.pop("request")
        assert there == absent
        assert there[0] == 404


async def test_a_rules_scope_is_over_what_the_view_shows(client: Client, stored: Any) -> None:
    _, found = await answered(client, "/dicomweb/series", ANN)
    assert [value(each, "00080060") for each in found] == ["CT"]


async def test_a_view_that_nobody_gave_one_and_one_that_is_none_are_the_same(client: Client, stored: Any) -> None:
    refused = [await answered(client, f"/views/{name}/dicomweb/studies", BOB) for name in ("research", "nothing")]
    for _, body in refused:
        body.pop("request")
    assert refused[0] == refused[1]
    assert refused[0][0] == 403
    assert (await answered(client, "/views/nothing/dicomweb/studies", {}))[0] == 404


async def test_who_sees_the_archive_as_stored_sees_it_so_without_naming_a_view(client: Client, stored: Any) -> None:
    _, found = await answered(client, f"/dicomweb/studies?StudyInstanceUID={stored.StudyInstanceUID}", BOB)
    assert len(found) == 1


async def test_nothing_is_deleted_through_a_view_or_stored_by_who_may_not(client: Client, stored: Any) -> None:
    _, (study,) = await answered(client, "/dicomweb/studies", ANN)
    for root, refused in (("/dicomweb", 403), (VIEW, 405)):
        async with client.delete(f"{root}/studies/{value(study, '0020000D')}", headers=ANN) as response:
            assert response.status == refused
        body, headers = multipart(instances.part10_file(of_person()))
        async with client.post(f"{root}/studies", data=body, headers={**headers, **ANN}) as response:
            assert response.status == 403


async def test_entity_tags_and_the_feed_of_a_view_are_its_own_and_tell_no_time(client: Client, stored: Any) -> None:
    async with client.get(f"{VIEW}/studies") as through, client.get("/dicomweb/studies") as plain:
        assert through.headers["ETag"] != plain.headers["ETag"]
    async with client.get(f"{VIEW}/changefeed") as response:
        found = await response.json()
    assert {each["action"] for each in found["changes"]} == {"created"}
    assert all("time" not in each for each in found["changes"])
    assert stored.StudyInstanceUID not in json.dumps(found)
    assert all(each["version"].startswith("0000000") for each in found["changes"])


def unkeyed(text: bytes) -> Iterator[bytes]:
    """What an unkeyed digest of a text would begin with, as it would be written."""
    for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "blake2b", "blake2s"):
        raw = hashlib.new(name, text).digest()
        yield raw[:8]
        yield raw.hex()[:16].encode()
        yield raw.hex()[:16].upper().encode()
        yield base64.b64encode(raw[:9])
        yield base64.urlsafe_b64encode(raw[:9])
        uids = [uuid.UUID(bytes=raw[:16]), *(uuid.UUID(bytes=raw[:16], version=number) for number in (3, 4, 5))]
        yield from (f"2.25.{each.int}".encode() for each in uids)
    for made in (uuid.uuid3, uuid.uuid5):
        yield f"2.25.{made(uuid.NAMESPACE_OID, text.decode('latin-1')).int}".encode()


async def test_no_digest_that_anybody_could_make_is_shown_through_a_view(client: Client, stored: Any) -> None:
    """Patient IDs and UIDs are few enough to be tried one after the other."""
    _, (study,) = await answered(client, f"{VIEW}/studies", ANN)
    of_study = f"{VIEW}/studies/{value(study, '0020000D')}"
    seen = b""
    for path in (f"{VIEW}/studies", f"{VIEW}/instances", f"{of_study}/metadata", f"{VIEW}/changefeed", of_study):
        async with client.get(path, headers=ANN if "changefeed" not in path else {}) as response:
            assert response.status == 200, path
            seen += b"".join(name + value for name, value in response.raw_headers) + await response.read()
    names = ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber")
    texts = [str(stored[name].value).encode() for name in names if name in stored]
    assert len(texts) > 4
    for text in (*texts, *(each.upper() for each in texts), stored.PixelData):
        assert [each for each in unkeyed(text) if each in seen] == [], text[:40]


async def test_what_is_read_through_a_view_is_on_the_trail_as_such(client: Client, core: Core, stored: Any) -> None:
    _, (study,) = await answered(client, "/dicomweb/studies", ANN)
    await answered(client, f"/dicomweb/studies/{value(study, '0020000D')}/metadata", ANN)
    core.trail.close()
    reads = [each for each in lines(core) if each.get("action") == "read_deidentified"]
    assert reads
    assert all((each["view"], each["principal"]) == ("research", "ann") for each in reads)


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ({"options": ("retain_everything",)}, "views.research: option retain_everything"),
        ({"scope": {"Colour": ("red",)}}, "views.research.scope.Colour"),
        ({"scope": {"StudyDate": ("last 30 days",)}}, "may not depend on who asks or when"),
        ({"recipe_file": Path("/nowhere")}, "views.research: /nowhere: No such file"),
        ({"key": "short"}, "views.research.key"),
    ],
)
def test_a_view_that_cannot_be_is_refused_at_the_start(settings: Settings, view: dict[str, Any], told: str) -> None:
    wrong = settings.model_copy(update={"views": {"research": ViewSettings(**view)}})
    with pytest.raises(InvalidSettings, match=told):
        assembly.check(wrong)


def test_a_rule_about_a_view_that_the_settings_do_not_have_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidSettings, match=r"a rule names the view 'research'"):
        assembly.check(settings.model_copy(update={"views": {}}))


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ('actions = ["read_deidentified"]', "read_deidentified needs a view"),
        ('view = "research"\nactions = ["read"]', "read is not possible through a view"),
        ('view = "research"\nactions = ["delete"]', "delete is not possible through a view"),
        ('view = "Research!"\nactions = ["search"]', "view"),
    ],
)
def test_a_rule_that_a_view_cannot_have_is_refused(settings: Settings, rule: str, told: str) -> None:
    path = settings.access.policy_file
    assert path is not None
    path.write_text(f'[[role]]\nname = "r"\n[[role.rule]]\nname = "n"\n{rule}\n')
    with pytest.raises(InvalidSettings, match=told):
        assembly.check(settings)


async def test_whose_a_pseudonym_is_is_told_to_a_role_of_its_own_and_recorded(
    client: Client, core: Core, stored: Any
) -> None:
    _, found = await answered(client, "/dicomweb/studies", ANN)
    pseudonym = value(found[0], "00100020")
    for headers in (ANN, BOB, {}):
        status, _ = await answered(client, f"/admin/reidentification/research?PatientID={pseudonym}", headers)
        assert status == 403
    status, originals = await answered(client, f"/admin/reidentification/research?PatientID={pseudonym}", EVE)
    assert status == 200
    assert {each["PatientID"] for each in originals} == {"MRN-4711"}
    assert stored.StudyInstanceUID in {each["StudyInstanceUID"] for each in originals}
    study = value(found[0], "0020000D")
    _, (original,) = await answered(client, f"/admin/reidentification/research?StudyInstanceUID={study}", EVE)
    assert original["StudyInstanceUID"] == stored.StudyInstanceUID
    for wrong, status in (
        ("PatientID=nobody", 404),
        ("PatientID=*", 404),
        ("StudyInstanceUID=*", 404),
        ("PatientName=Gray", 400),
        ("", 400),
    ):
        assert (await answered(client, f"/admin/reidentification/research?{wrong}", EVE))[0] == status
    assert (await answered(client, "/admin/reidentification/none?PatientID=1", EVE))[0] == 404
    core.trail.close()
    recorded = [each for each in lines(core) if each.get("action") == "reidentify"]
    assert {"allowed", "denied", "found", "not found"} <= {each["outcome"] for each in recorded}
    assert "MRN-4711" not in json.dumps(recorded)


def test_what_was_looked_at_can_be_released_and_nothing_else(core: Core, follower: Follower) -> None:
    pictures = [of_person(Modality="US"), of_person(Modality="US", PixelData=b"\0" * 32)]
    for each in pictures:
        keep(core, each)
    assert follower.follow().withheld == 2
    shown = core.views["research"]
    review = Review(shown, follower, core.trail)
    review.release(command_line("test"), pictures[0].SOPInstanceUID, "seen by the chief technologist: no text")
    assert shown.index.count(Search(MAIN, Level.INSTANCE)) == 1
    assert [each.key.sop_uid for each in shown.index.quarantined(MAIN)] == [pictures[1].SOPInstanceUID]
    with pytest.raises(NotFound):
        review.release(command_line("test"), "1.2.3", "nothing")
    assert follower.follow().made == 0


def test_an_ae_of_a_view_retrieves_by_pseudonyms_and_gets_no_more(
    core: Core, follower: Follower, dimse: DimseServer
) -> None:
    stored = of_person()
    keep(core, stored)
    follower.follow()
    answers = find(dimse, calling="RESEARCH", QueryRetrieveLevel="STUDY", PatientID="", StudyInstanceUID="")
    (study,) = [each for _, each in answers if each is not None]
    wanted = identifier("STUDY", StudyInstanceUID=study.StudyInstanceUID)
    responses, (received,) = get(dimse, wanted, calling="RESEARCH")
    assert responses[-1][0].Status == 0x0000
    assert received.StudyInstanceUID == study.StudyInstanceUID
    assert received.PatientID == study.PatientID
    assert received.PatientIdentityRemoved == "YES"
    for each in ("Gray", "MRN-4711", "19610703", stored.StudyInstanceUID, stored.SOPInstanceUID):
        assert each not in str(received)
    wanted = identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID)
    responses, received = get(dimse, wanted, calling="RESEARCH")
    assert (responses[-1][0].Status, received) == (0x0000, [])
    wanted = identifier("PATIENT", PatientID=stored.PatientID)
    responses, received = get(dimse, wanted, model=PATIENT_GET, calling="RESEARCH")
    assert (responses[-1][0].Status, received) == (0x0000, [])


def test_an_ae_of_a_view_finds_by_pseudonyms_and_only_those(core: Core, follower: Follower, dimse: DimseServer) -> None:
    stored = of_person()
    keep(core, stored)
    follower.follow()
    answers = find(dimse, calling="RESEARCH", QueryRetrieveLevel="STUDY", PatientID="", StudyInstanceUID="")
    (found,) = [identifier for _, identifier in answers if identifier is not None]
    assert found.PatientID.startswith("P")
    assert found.StudyInstanceUID.startswith("2.25.")
    assert found.StudyInstanceUID != stored.StudyInstanceUID
    for keys in (
        {"PatientID": "MRN-4711"},
        {"PatientName": "Gray*"},
        {"StudyInstanceUID": stored.StudyInstanceUID},
    ):
        asked = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", **keys}
        assert [each for _, each in find(dimse, calling="RESEARCH", **asked) if each is not None] == []
