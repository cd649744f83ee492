"""A gateway with everything that it serves over HTTP, where nobody is let in without showing something."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from aiohttp import DummyCookieJar
from aiohttp.test_utils import TestClient
from pydicom.dataset import Dataset
from yarl import URL

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.serving import HttpSettings
from gateway.http import application
from gateway.worker import routes
from tests import trails
from tests.instances import data_set, part10_file

KEYS = {
    "radiologist": 'roles = ["radiologist"]',
    "colleague": 'roles = ["radiologist"]',
    "viewer": 'roles = ["viewer"]',
    "boss": 'roles = ["administrator"]',
    "ct-only": 'actions = ["search", "read", "render", "share"]\nscope = { Modality = ["CT"] }',
    "pictures-only": 'actions = ["search", "read", "render", "share"]\nobligations = ["rendered_only"]',
    "no-download": 'actions = ["search", "read", "render", "share"]\nobligations = ["no_download"]',
    "elsewhere": 'roles = ["administrator"]\ntenant = "elsewhere"',
}
"""Who there is, and what each may do; the API key of each is its name."""

_PRINCIPAL = '[[principal]]\nname = "{name}"\nkind = "api_key"\napi_key_sha256 = "{digest}"\n{rules}\n'
_ON_CALL = """
[[role]]
name = "on-call"
[[role.rule]]
name = "pictures of CT"
actions = ["search", "render"]
scope = { Modality = ["CT"] }
[[role.rule]]
name = "emergency"
actions = ["search", "read", "render"]
obligations = ["break_glass"]
"""
POLICY = _ON_CALL + "\n".join(
    _PRINCIPAL.format(name=name, digest=hashlib.sha256(name.encode()).hexdigest(), rules=rules)
    for name, rules in KEYS.items()
)
POLICY += """
[[principal]]
name = "ct-1"
kind = "ae"
ae_title = "CT1"
actions = ["echo", "store", "read"]

[[principal]]
name = "ct-9"
kind = "ae"
ae_title = "CT9"
tenant = "elsewhere"
actions = ["echo", "store"]
"""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """What a problem document says."""
        assert self.headers["Content-Type"].startswith("application/problem+json")
        return str(self.json["detail"])

    def cookie(self, name: str) -> Any:
        """A cookie that is set; its attributes are its items."""
        found: SimpleCookie = SimpleCookie()
        for each in self.headers.getall("Set-Cookie", []):
            found.load(each)
        return found[name]


@dataclass(frozen=True)
class Site:
    """A gateway, and a client without a memory for cookies."""

    client: TestClient[Any, Any]
    core: Core

    async def ask(self, method: str, path: str | URL, key: str = "", cookies: str = "", **options: Any) -> Answer:
        """A request with an API key or cookies, which follows no redirect."""
        headers = {**options.pop("headers", {})}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        headers |= {"Cookie": cookies} if cookies else {}
        async with self.client.request(method, path, headers=headers, allow_redirects=False, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def store(self, found: Dataset, key: str = "boss") -> None:
        headers = {"Content-Type": "application/dicom"}
        path = f"{self.core.settings.http.path_prefix}/dicomweb/studies"
        answer = await self.ask("POST", path, key, headers=headers, data=part10_file(found))
        assert answer.status == 200, answer.body

    def trail(self, action: str) -> list[dict[str, Any]]:
        """Records of an action."""
        return [each for each in trails.records(self.core.trail.directory) if each["action"] == action]

    def outcomes(self, action: str) -> list[str]:
        return [each["outcome"] for each in self.trail(action)]


@pytest.fixture
def http(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of the HTTP face that a test has of its own, as its parameter."""
    return dict(getattr(request, "param", {}))


@pytest.fixture
def issuers() -> tuple[Any, ...]:
    """Identity providers of the test."""
    return ()


@pytest.fixture
async def site(
    settings: Settings,
    cheap_hashes: None,
    tmp_path: Path,
    http: dict[str, Any],
    issuers: tuple[Any, ...],
    aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]],
) -> AsyncIterator[Site]:
    (tmp_path / "policy.toml").write_text(POLICY)
    given = {
        "http": HttpSettings(port=0, workers=1, **http),
        "access": AccessSettings(policy_file=tmp_path / "policy.toml", issuers=issuers),
    }
    core = assembly.build(settings.model_copy(update=given), "entrance")
    yield Site(await aiohttp_client(application.build(core, routes()), cookie_jar=DummyCookieJar()), core)
    core.close()


def ct(**attributes: Any) -> Dataset:
    """An instance with a bulk value and pixels."""
    return data_set(EncapsulatedDocument=bytes(4096), **attributes)
