"""Share links to studies of a de-identified view."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.assembly import Core
from gateway.config import Settings
from gateway.console import pages
from gateway.dicomweb.routes import routes
from gateway.entrance import shares
from gateway.http import application
from gateway.viewing.following import Follower
from tests.gateway.dicomweb.conftest import Client
from tests.gateway.viewing.test_following import VIEW, of_person, put, search, value

pytestmark = pytest.mark.usefixtures("cheap_hashes")


@pytest.fixture
async def client(core: Core, settings: Settings, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, [*routes(), *shares.routes(pages.file(pages.INDEX))]))


async def made(client: Client, **wanted: Any) -> tuple[int, dict[str, Any]]:
    async with client.post("/shares", json={"view": "research", **wanted}) as response:
        return response.status, await response.json()


async def test_a_link_shows_its_study_de_identified_and_nothing_as_it_is_stored(
    client: Client, follower: Follower
) -> None:
    stored = of_person()
    await put(client, stored, of_person(PatientID="other"))
    follower.follow()
    study = next(value(each, "0020000D") for each in await search(client, "studies"))
    status, link = await made(client, studies=[study])
    assert (status, link["view"]) == (201, "research")
    root = f"/share/{link['url'].rstrip('/').rpartition('/')[2]}/dicomweb"
    async with client.get(f"{root}/studies") as response:
        (found,) = await response.json()
    assert value(found, "0020000D") == study
    async with client.get(f"{root}/studies/{study}/metadata") as response:
        assert response.status == 200
        assert value((await response.json(content_type=None))[0], "00120062") == "YES"
    for other in (stored.StudyInstanceUID, "1.2.3"):
        async with client.get(f"{root}/studies/{other}/metadata") as response:
            assert response.status == 404
    assert "Gray" not in json.dumps(found)


async def test_a_link_is_made_only_to_what_the_view_shows(client: Client, follower: Follower) -> None:
    stored = of_person()
    await put(client, stored)
    follower.follow()
    assert (await made(client, studies=[stored.StudyInstanceUID]))[0] == 404
    assert (await made(client, studies=[stored.StudyInstanceUID], view="nothing"))[0] == 404
    async with client.get(f"{VIEW}/studies") as response:
        (found,) = await response.json()
    assert (await made(client, studies=[value(found, "0020000D")], view=""))[0] == 404
