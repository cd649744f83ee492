"""Where a view shows what somebody looks at as it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from pydicom import dcmread
from yarl import URL

from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.dicomweb.routes import routes
from gateway.entrance import deidentified, login
from gateway.http import application
from gateway.viewing.following import Follower
from tests import trails
from tests.gateway.dicomweb.conftest import Client
from tests.gateway.viewing.test_following import of_person, put
from tests.instances import uid

RULES = """
[[role]]
name = "stored"
[[role.rule]]
name = "as stored"
actions = ["search", "read"]
[[role]]
name = "no-download"
[[role.rule]]
name = "looking through the view"
view = "research"
actions = ["search", "read_deidentified"]
obligations = ["no_download"]
[[role]]
name = "through"
[[role.rule]]
name = "through the view"
view = "research"
actions = ["search", "read_deidentified"]
scope = { Modality = ["CT"] }
"""
ROLES = {
    "both": ["stored", "through"],
    "stored": ["stored"],
    "through": ["through"],
    "looks": ["stored", "no-download"],
    "boss": ["administrator"],
}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    policy = tmp_path / "policy.toml"
    people = "".join(
        f'[[principal]]\nname = "{name}"\nkind = "api_key"\nroles = {roles}\n'
        f'api_key_sha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
        for name, roles in ROLES.items()
    )
    policy.write_text(RULES + people + '[[principal]]\nname = "here"\nkind = "loopback"\nroles = ["administrator"]\n')
    return settings.model_copy(update={"access": AccessSettings(policy_file=policy)})


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, [*routes(), *deidentified.routes(), *login.routes()]))


@pytest.fixture
async def study(client: Client, follower: Follower) -> Any:
    """A study of a CT and an MR series, of which the view has made its own."""
    found = of_person()
    await put(client, found, of_person(StudyInstanceUID=found.StudyInstanceUID, Modality="MR"))
    follower.follow()
    return found


async def asked(client: Client, path: str | URL, name: str) -> tuple[int, bytes]:
    async with client.get(path, headers={"Authorization": f"Bearer {name}"}) as response:
        return response.status, await response.read()


async def found(client: Client, path: str, name: str) -> tuple[int, str]:
    async with client.get(path, headers={"Authorization": f"Bearer {name}"}) as response:
        answer = await response.json()
        return response.status, str(URL(answer["url"]).path) if "url" in answer else ""


async def test_who_may_look_at_both_gets_the_study_de_identified(client: Client, core: Core, study: Any) -> None:
    path = f"/deidentified/research/studies/{study.StudyInstanceUID}"
    status, place = await found(client, path, "both")
    assert status == 200
    assert study.StudyInstanceUID not in place
    status, body = await asked(client, f"{place}?accept=application/zip", "both")
    assert status == 200
    with ZipFile(BytesIO(body)) as archive:
        names = [each for each in archive.namelist() if each != "DICOMDIR"]
        (only,) = [dcmread(BytesIO(archive.read(each))) for each in names]  # the MR series is not in the rule's scope
    assert only.Modality == "CT"
    assert only.PatientName != study.PatientName
    status, below = await found(client, f"{path}?series={study.SeriesInstanceUID}", "both")
    assert (status, below.rpartition("/")[0]) == (200, f"{place}/series")
    assert (await asked(client, f"{below}?accept=application/zip", "both"))[0] == 200
    core.trail.close()
    recorded = [each for each in trails.records(core.trail.directory) if each.get("principal") == "both"]
    assert {"read", "download"} <= {each["action"] for each in recorded}


@pytest.mark.parametrize(("name", "status"), [("stored", 403), ("through", 403), ("looks", 403)])
async def test_who_may_look_at_one_alone_is_not_told(client: Client, study: Any, name: str, status: int) -> None:
    assert (await found(client, f"/deidentified/research/studies/{study.StudyInstanceUID}", name))[0] == status


async def test_what_is_not_there_or_not_shown_is_not_found(client: Client, study: Any, follower: Follower) -> None:
    later = of_person()
    await put(client, later)
    for path in (
        f"/deidentified/research/studies/{uid()}",
        f"/deidentified/none/studies/{study.StudyInstanceUID}",
        f"/deidentified/research/studies/{study.StudyInstanceUID}?series={uid()}",
        f"/deidentified/research/studies/{later.StudyInstanceUID}",
    ):
        assert (await found(client, path, "boss"))[0] == 404, path
    follower.follow()
    assert (await found(client, f"/deidentified/research/studies/{later.StudyInstanceUID}", "boss"))[0] == 200
    assert (await found(client, "/deidentified/research/studies/x", "boss"))[0] == 400


@pytest.mark.parametrize(
    ("name", "view", "downloads", "action"),
    [
        ("both", "", ["research"], "read"),
        ("stored", "", [], "download"),
        ("through", "research", ["research"], "download"),
        ("looks", "", [], "search"),
        ("boss", "", ["research"], "admin"),
    ],
)
async def test_a_session_says_which_views_somebody_may_download_through(
    client: Client, name: str, view: str, downloads: list[str], action: str
) -> None:
    async with client.get("/session", headers={"Authorization": f"Bearer {name}"}) as response:
        told = await response.json()
    assert (told["view"], told["downloads"]) == (view, downloads)
    assert told["shares"] == (["research"] if name == "boss" else [])
    assert action in told["actions"]
