"""A2, over HTTP: how often a caller may ask, and what becomes of wrong keys."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway import assembly
from gateway.access import users
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.serving import HttpSettings
from gateway.dicomweb.routes import routes
from gateway.http import application
from tests import trails

Client = TestClient[Any, Any]
MakeClient = Callable[..., Awaitable[Client]]
PATH = "/dicomweb/studies"
GOOD = {"Authorization": "Bearer test"}
POLICY = """
[[principal]]
name = "viewer"
kind = "api_key"
api_key_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
actions = ["search"]
"""


@pytest.fixture
def http() -> dict[str, Any]:
    """Settings of the test."""
    return {}


@pytest.fixture
async def client(
    settings: Settings, tmp_path: Path, http: dict[str, Any], aiohttp_client: MakeClient
) -> AsyncIterator[Client]:
    (tmp_path / "policy.toml").write_text(POLICY)
    given = {
        "http": HttpSettings(port=0, workers=1, **http),
        "access": AccessSettings(policy_file=tmp_path / "policy.toml"),
    }
    core = assembly.build(settings.model_copy(update=given), "limited")
    yield await aiohttp_client(application.build(core, routes()))
    core.close()


def audited(tmp_path: Path) -> list[dict[str, Any]]:
    return trails.records(tmp_path / "data" / "audit")


async def status(client: Client, headers: dict[str, str]) -> int:
    async with client.get(PATH, headers=headers) as response:
        if response.status == 429:
            assert int(response.headers["Retry-After"]) >= 1
            assert "try again in" in (await response.json(content_type=None))["detail"]
        return response.status


@pytest.mark.parametrize("http", [{"failed_attempts": 3, "lockout_s": 30}])
async def test_a2_wrong_keys_lock_the_address_and_that_is_audited_once(client: Client, tmp_path: Path) -> None:
    wrong = [{"Authorization": f"Bearer guess-{number}"} for number in range(8)]
    assert [await status(client, each) for each in wrong] == [401] * 4 + [429] * 4
    assert await status(client, GOOD) == 429, "whether a key is right is not told while it is locked"
    assert await status(client, {"Authorization": "Bearer ä"}) == 429
    denied = [line for line in audited(tmp_path) if line["action"] == "authenticate"]
    assert [line["outcome"] for line in denied] == ["denied", "locked"], "equal denials are counted"


@pytest.mark.parametrize("http", [{"failed_attempts": 3, "lockout_s": 30}])
async def test_a2_who_came_with_a_good_key_before_is_not_locked_out_by_a_neighbour(client: Client) -> None:
    assert await status(client, GOOD) == 204
    for number in range(8):
        await status(client, {"X-API-Key": f"guess-{number}"})
    assert await status(client, {"X-API-Key": "guess"}) == 429
    assert await status(client, GOOD) == 204


@pytest.mark.parametrize("http", [{"failed_attempts": 3, "lockout_s": 30}])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_a2_a_forwarding_header_of_anybody_changes_no_source(client: Client, header: str) -> None:
    for number in range(6):
        text = f"for=10.0.0.{number}" if header == "Forwarded" else f"10.0.0.{number}"
        found = await status(client, {"Authorization": f"Bearer guess-{number}", header: text})
    assert found == 429


@pytest.mark.parametrize(
    "http", [{"failed_attempts": 3, "lockout_s": 30, "trusted_proxies": ("127.0.0.1/32",)}], ids=["proxied"]
)
async def test_a2_behind_a_trusted_proxy_each_client_counts_for_itself(client: Client) -> None:
    for number in range(6):
        guess = {"Authorization": f"Bearer guess-{number}", "X-Forwarded-For": f"9.9.9.{number}, 10.0.0.1"}
        found = await status(client, guess)
    assert found == 429, "what stands before the proxy's own word is the client's"
    assert await status(client, {**GOOD, "X-Forwarded-For": "10.0.0.2"}) == 204


@pytest.mark.parametrize("http", [{"unauthenticated_rate": 0.5}])
async def test_requests_without_a_key_are_refused_and_audited_up_to_a_rate(client: Client, tmp_path: Path) -> None:
    nobody = {"X-Forwarded-For": "1.2.3.4"}
    found = [await status(client, nobody) for _ in range(12)]
    assert found == [401] * 5 + [429] * 7
    assert len([line for line in audited(tmp_path) if line["action"] == "authenticate"]) == 1
    client.app[application.CORE].trail.close()
    counted = [line for line in audited(tmp_path) if line["action"] == "authenticate"][-1]
    assert counted["requests"] == 4, "beside the first"
    assert await status(client, GOOD) == 204


@pytest.mark.parametrize("http", [{"principal_rate": 0.5}, {"source_rate": 0.5}], ids=["principal", "source"])
async def test_requests_of_one_principal_or_address_are_held_to_a_rate(client: Client) -> None:
    began_s = time.monotonic()
    found = [await status(client, GOOD) for _ in range(12)]
    assert found[:5] == [204] * 5, "ten seconds' worth at once"
    assert 429 in found
    assert found.count(204) <= 5 + 1 + 0.5 * (time.monotonic() - began_s)


@pytest.mark.parametrize("http", [{"principal_rate": 0.1}])
async def test_a_rate_is_not_that_of_somebody_else_of_the_same_name(client: Client) -> None:
    users.add(client.app[application.CORE].control, "viewer", "correct horse battery", "other", ["viewer"])
    user = {"Authorization": "Basic " + base64.b64encode(b"viewer:correct horse battery").decode()}
    assert [await status(client, GOOD) for _ in range(2)] == [204, 429]
    assert [await status(client, user) for _ in range(2)] == [204, 429]


async def test_principals_have_no_rate_unless_one_is_set(client: Client) -> None:
    assert {await status(client, GOOD) for _ in range(60)} == {204}


@pytest.mark.parametrize("http", [{"failed_attempts": 3, "lockout_s": 30}])
async def test_a2_guesses_sent_at_once_are_no_more_than_one_after_the_other(client: Client, tmp_path: Path) -> None:
    for number in range(3):
        assert await status(client, {"Authorization": f"Bearer guess-{number}"}) == 401
    many = [{"Authorization": f"Bearer another-{number}"} for number in range(40)]
    found = await asyncio.gather(*(status(client, each) for each in many))
    assert sorted(found) == [401] + [429] * 39
    assert [line["outcome"] for line in audited(tmp_path)].count("locked") == 1
