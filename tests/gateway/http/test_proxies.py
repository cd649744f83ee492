"""Behind a proxy: whose word is taken, and what URLs in answers begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import assembly
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.console.pages import routes as console_routes
from gateway.dicomweb.routes import routes
from gateway.http import application, health
from tests.gateway.dicomweb.conftest import Client
from tests.instances import data_set, part10_file

KEY = {"Authorization": "Bearer test"}
POLICY = """
[[principal]]
name = "remote"
kind = "api_key"
api_key_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
networks = ["203.0.113.0/24"]
actions = ["search", "read", "store"]
"""
CLIENT, STRANGER = "203.0.113.7", "198.51.100.9"
Start = Callable[..., Awaitable[Client]]


@pytest.fixture
async def start(settings: Settings, tmp_path: Path, aiohttp_client: Any) -> AsyncIterator[Start]:
    """Starts a gateway whose one key is good from the client's network only."""
    (tmp_path / "policy.toml").write_text(POLICY)
    cores = []

    async def started(**http: Any) -> Client:
        section = settings.http.model_validate({**settings.http.model_dump(), **http})
        access = AccessSettings(policy_file=tmp_path / "policy.toml")
        core = assembly.build(settings.model_copy(update={"http": section, "access": access}), f"proxied-{len(cores)}")
        cores.append(core)
        client: Client = await aiohttp_client(application.build(core, [*routes(), *console_routes(), *health.routes()]))
        return client

    yield started
    for core in cores:
        core.close()


async def status(client: Client, **headers: str) -> int:
    async with client.get("/dicomweb/studies", headers={**KEY, **headers}) as response:
        return response.status


async def test_without_trusted_proxies_nobody_can_say_who_sent_a_request(start: Start) -> None:
    client = await start()
    assert await status(client, **{"X-Forwarded-For": CLIENT}) == 401
    assert await status(client, Forwarded=f"for={CLIENT}") == 401


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (CLIENT, 204),
        (STRANGER, 401),
        (f"{CLIENT}, {STRANGER}", 401),
        (f"{STRANGER}, {CLIENT}", 204),
        (f"{CLIENT}, 127.0.0.9", 204),
        (f"{CLIENT}:50123", 204),
        ("unknown", 401),
        ("", 401),
        ("nonsense, more", 401),
    ],
)
async def test_the_last_address_that_is_no_proxys_is_the_clients(start: Start, value: str, expected: int) -> None:
    client = await start(trusted_proxies=["127.0.0.0/8"])
    assert await status(client, **{"X-Forwarded-For": value}) == expected


async def test_only_the_kind_of_header_that_the_proxy_sets_is_believed(start: Start) -> None:
    spoofed = {"Forwarded": f"for={CLIENT}", "X-Forwarded-For": STRANGER}
    assert await status(await start(trusted_proxies=["127.0.0.0/8"]), **spoofed) == 401
    other = await start(trusted_proxies=["127.0.0.0/8"], forwarding_header="forwarded")
    assert await status(other, **spoofed) == 204


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"for={CLIENT};proto=https;host=x.example", 204),
        (f'For="{CLIENT}:4711"', 204),
        (f"for={CLIENT}, for={STRANGER}", 401),
        (f"for={STRANGER}, for={CLIENT}, for=127.0.0.1", 204),
        ('for="[2001:db8::1]:4711"', 401),
        ("for=_hidden", 401),
    ],
)
async def test_forwarded_is_read_as_rfc_7239_has_it(start: Start, value: str, expected: int) -> None:
    client = await start(trusted_proxies=["127.0.0.0/8"], forwarding_header="forwarded")
    assert await status(client, Forwarded=value) == expected


async def retrieve_url(client: Client, path: str = "/dicomweb", **headers: str) -> str:
    async with client.post(
        f"{path}/studies",
        data=part10_file(data_set()),
        headers={**KEY, "Content-Type": "application/dicom", **headers},
    ) as response:
        assert response.status == 200
        answer = await response.json(content_type=None)
    return str(answer["00081190"]["Value"][0]).partition("/studies/")[0]


@pytest.mark.parametrize(
    ("headers", "root"),
    [
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example"}, "https://pacs.example/dicomweb"),
        ({"X-Forwarded-Proto": "https", "Host": "pacs.example"}, "https://pacs.example/dicomweb"),
        ({"X-Forwarded-Host": "pacs.example", "X-Forwarded-Port": "8443"}, "http://pacs.example:8443/dicomweb"),
        ({"X-Forwarded-Host": "pacs.example", "X-Forwarded-Prefix": "/rad/"}, "http://pacs.example/rad/dicomweb"),
    ],
)
async def test_urls_in_answers_are_those_that_the_client_can_reach(
    start: Start, headers: dict[str, str], root: str
) -> None:
    client = await start(trusted_proxies=["127.0.0.0/8"])
    assert await retrieve_url(client, **{"X-Forwarded-For": CLIENT}, **headers) == root


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "evil.example/path?"},
        {"X-Forwarded-Host": 'a"b'},
        {"X-Forwarded-Proto": "javascript"},
        {"X-Forwarded-Prefix": "//evil.example"},
        {"X-Forwarded-Prefix": "/../.."},
    ],
)
async def test_what_is_no_host_scheme_or_prefix_is_passed_over(start: Start, headers: dict[str, str]) -> None:
    client = await start(trusted_proxies=["127.0.0.0/8"])
    plain = await retrieve_url(client, **{"X-Forwarded-For": CLIENT})
    assert await retrieve_url(client, **{"X-Forwarded-For": CLIENT}, **headers) == plain


async def test_the_public_url_decides_alone(start: Start) -> None:
    client = await start(trusted_proxies=["127.0.0.0/8"], public_url="https://public.example/imaging")
    headers = {"X-Forwarded-For": CLIENT, "X-Forwarded-Host": "other.example"}
    assert await retrieve_url(client, **headers) == "https://public.example/imaging/dicomweb"


async def test_everything_but_health_stands_under_the_path_prefix(start: Start) -> None:
    client = await start(trusted_proxies=["127.0.0.0/8"], path_prefix="/imaging")
    headers = {"X-Forwarded-For": CLIENT, "X-Forwarded-Host": "pacs.example"}
    assert await retrieve_url(client, "/imaging/dicomweb", **headers) == "http://pacs.example/imaging/dicomweb"
    for path, expected in (
        ("/imaging/dicomweb/studies", 200),
        ("/dicomweb/studies", 404),
        ("/imaging/", 200),
        ("/imaging", 200),
        ("/imaging/console/app.js", 200),
        ("/", 404),
        ("/health/live", 200),
    ):
        async with client.get(path, headers={**KEY, "X-Forwarded-For": CLIENT}) as response:
            assert response.status == expected, path
    async with client.options("/imaging/dicomweb/studies") as response:
        assert response.status == 204


async def test_the_audit_trail_names_the_client_and_not_the_proxy(start: Start, settings: Settings) -> None:
    client = await start(trusted_proxies=["127.0.0.0/8"])
    assert await status(client, **{"X-Forwarded-For": CLIENT}) == 204
    folder = assembly.audit_directory(settings)
    assert any(f'"address":"{CLIENT}"' in path.read_text() for path in folder.glob("*.jsonl"))
