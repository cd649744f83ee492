"""What surrounds every request."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, make_mocked_request

from gateway import errors
from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.serving import HttpSettings
from gateway.context import RequestId
from gateway.dicomweb.routes import routes
from gateway.http import application, health, problem
from gateway.http.route import Route
from gateway.imaging import errors as imaging
from storage import errors as storage
from tests.instances import data_set, part10_file

Client = TestClient[Any, Any]
ORIGIN = "https://viewer.example.org"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"http": HttpSettings(port=0, cors_origins=(ORIGIN,))})


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    async def fail(_request: web.Request) -> web.StreamResponse:
        raise RuntimeError("Patient^Name in a traceback")

    return await aiohttp_client(
        application.build(core, [*routes(), *health.routes(), Route("GET", "/fail", fail, Action.READ)])
    )


@pytest.mark.parametrize("module", [errors, storage, imaging], ids=lambda module: module.__name__)
def test_every_error_of_the_trees_has_a_status(module: Any) -> None:
    for kind in vars(module).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, Exception)
            and kind is not Exception
            and not kind.__subclasses__()
        ):
            assert any(base in problem.STATUS for base in kind.__mro__), kind


def test_a_defect_shows_nothing_of_itself_but_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    response = problem.response(KeyError("Patient^Name"), RequestId("abc"))
    assert response.status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert isinstance(response.body, bytes)
    body = json.loads(response.body)
    assert body.keys() == {"type", "title", "status", "detail", "request"}
    assert b"Patient" not in response.body
    assert body["request"] == "abc"


async def test_errors_have_one_shape(client: Client) -> None:
    for path, status in (
        ("/fail", 500),
        ("/nowhere", 404),
        ("/dicomweb/studies?limit=x", 400),
        ("/dicomweb/studies/a/metadata", 400),
    ):
        async with client.get(path) as response:
            assert response.status == status
            assert response.content_type == problem.MEDIA_TYPE
            body = await response.json(content_type=None)
            assert body["status"] == status
            assert body["request"] == response.headers["X-Request-Id"]
            assert "Traceback" not in str(body)
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_method_that_a_path_does_not_have_is_405_with_allow(client: Client) -> None:
    async with client.put("/dicomweb/series") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]


async def test_logs_hold_no_query_and_no_patient(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for path in ("/dicomweb/studies?PatientName=Secret*&PatientID=S3CR3T", "/dicomweb/studies?Nonsense=Secret"):
        async with client.get(path):
            pass
    # The access log of the tests' own server is off in a worker; tests/interop looks at a worker's real output.
    text = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("gateway"))
    assert "/dicomweb/studies" in text
    assert "secret" not in text.lower()
    assert "S3CR3T" not in text


async def test_liveness_and_readiness(client: Client, core: Core) -> None:
    for path in ("/health/live", "/health/ready"):
        async with client.get(path) as response:
            assert response.status == 200


async def test_a_preflight_from_a_configured_origin_is_allowed_and_asks_nobody(client: Client) -> None:
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", "Forwarded": "for=1.2.3.4"}
    async with client.options("/dicomweb/studies", headers=headers) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert response.headers["Access-Control-Max-Age"] == "86400"
        assert "GET" in response.headers["Access-Control-Allow-Methods"]
    async with client.get("/dicomweb/studies", headers={"Origin": ORIGIN}) as response:
        assert "ETag" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    "origin", ["null", "https://evil.example", ORIGIN + ".evil.example", "http://viewer.example.org"]
)
async def test_other_origins_get_nothing(client: Client, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        async with client.request(method, "/dicomweb/studies", headers={"Origin": origin}) as response:
            assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "10.0.0.1"},
        {"Forwarded": "for=10.0.0.1"},
        {"X-Real-IP": "10.0.0.1"},
        {"Host": "gateway.example.org"},
        {"Host": "127.0.0.1.evil.example"},
        {"Authorization": "Bearer wrong"},
        {"X-API-Key": "wrong"},
    ],
    ids=lambda headers: f"{next(iter(headers.items()))}",
)
async def test_who_is_not_this_machine_needs_a_key(client: Client, core: Core, headers: dict[str, str]) -> None:
    async with client.get("/dicomweb/studies", headers=headers) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


POLICY = """
[[principal]]
name = "viewer"
kind = "api_key"
api_key_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
actions = ["search", "read"]
scope = { Modality = ["CT"] }
"""


@pytest.fixture
async def keyed(settings: Settings, tmp_path: Any, aiohttp_client: Callable[..., Awaitable[Client]]) -> Any:
    from gateway import assembly

    (tmp_path / "policy.toml").write_text(POLICY)
    core = assembly.build(
        settings.model_copy(update={"access": AccessSettings(policy_file=tmp_path / "policy.toml")}), "keyed"
    )
    yield await aiohttp_client(application.build(core, routes()))
    core.close()


async def test_a_key_opens_what_its_policy_allows_and_nothing_else(keyed: Client) -> None:
    headers = {"Authorization": "Bearer test"}
    async with keyed.get("/dicomweb/studies", headers=headers) as response:
        assert response.status == 204
    body = b"--b\r\n\r\nx\r\n--b--"
    headers |= {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    async with keyed.post("/dicomweb/studies", headers=headers, data=body) as response:
        assert response.status == 403
    async with keyed.get("/dicomweb/studies") as response:
        assert response.status == 401


SCOPED = """
[[principal]]
name = "anyone-here"
kind = "loopback"
actions = ["search", "read", "store"]
scope = { Modality = ["CT"] }
"""


async def test_storing_into_a_study_out_of_scope_does_not_open_it(
    settings: Settings, tmp_path: Any, aiohttp_client: Callable[..., Awaitable[Client]]
) -> None:
    from gateway import assembly

    hidden = data_set(Modality="MR", PatientName="Hidden^Name")
    fitting = data_set(StudyInstanceUID=hidden.StudyInstanceUID, Modality="CT", PatientID=None)
    (tmp_path / "policy.toml").write_text(SCOPED)
    everything = assembly.build(settings, "everything")
    access = AccessSettings(policy_file=tmp_path / "policy.toml")
    scoped = assembly.build(settings.model_copy(update={"access": access}), "scoped")
    headers = {"Content-Type": "application/dicom"}
    first = await aiohttp_client(application.build(everything, routes()))
    async with first.post("/dicomweb/studies", data=part10_file(hidden), headers=headers) as response:
        assert response.status == 200
    second = await aiohttp_client(application.build(scoped, routes()))
    async with second.post("/dicomweb/studies", data=part10_file(fitting), headers=headers) as response:
        assert response.status == 409
        answer = await response.json(content_type=None)
        assert answer["00081198"]["Value"][0]["00081197"]["Value"] == [0x0124]
    async with second.get("/dicomweb/studies") as response:
        assert response.status == 204
    everything.close()
    scoped.close()


def test_what_is_asked_for_most_is_tried_first(core: Core) -> None:
    router = application.build(core, routes()).router
    tried = [each.canonical for each in router.resources() if each.canonical.startswith("/dicomweb/studies")]
    instance = "/dicomweb/studies/{study}/series/{series}/instances/{instance}"
    assert not any("{" in each for each in tried[: tried.index("/dicomweb/studies")])
    assert tried.index(f"{instance}/frames/{{frames}}") < 6
    assert tried.index(f"{instance}/rendered") < tried.index(instance) < tried.index("/dicomweb/studies/{study}")


async def test_every_route_is_found_by_its_own_path(core: Core) -> None:
    app = application.build(core, routes())
    for route in routes():
        path = route.path.replace("{study}", "1.2").replace("{", "").replace("}", "")
        found = await app.router.resolve(make_mocked_request(route.method, path))
        assert found.route.resource is not None
        assert (found.route.method, found.route.resource.canonical) == (route.method, route.path)
