"""Tokens that OpenID providers of others give: JWTs of oauth2-mock-server, opaque ones of oidc-provider-mock."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from aiohttp.test_utils import TestClient

from gateway import assembly
from gateway.config import Settings
from gateway.config.access import AccessSettings, IssuerSettings
from gateway.config.serving import DimseSettings, HttpSettings
from gateway.config.storing import StorageSettings
from gateway.dicomweb.routes import routes
from gateway.http import application
from tests.issuer import Listener
from tests.ports import free_port
from tests.programs import need_program, running

Ask = Callable[[str], Awaitable[int]]
Serve = Callable[..., Awaitable[Ask]]


@pytest.fixture
def serve(tmp_path: Path, aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]]) -> Iterator[Serve]:
    """Serves a gateway that accepts a provider; what it gives tells the status of a search with a token."""
    cores = []
    (tmp_path / "policy.toml").write_text("")

    async def made(**issuer: Any) -> Ask:
        access = AccessSettings(policy_file=tmp_path / "policy.toml", issuers=(IssuerSettings.model_validate(issuer),))
        settings = Settings(
            http=HttpSettings(port=0),
            dimse=DimseSettings(port=0),
            storage=StorageSettings(directory=tmp_path / "data", fsync=False),
            access=access,
        )
        cores.append(assembly.build(settings, "provided"))
        client = await aiohttp_client(application.build(cores[-1], routes()))

        async def ask(token: str) -> int:
            async with client.get("/dicomweb/studies", headers={"Authorization": f"Bearer {token}"}) as answer:
                return answer.status

        return ask

    yield made
    for core in cores:
        core.close()


def client_credentials(issuer: str, roles: str = "viewer", audience: str = "gateway") -> str:
    """An access token of a program."""
    form = {"grant_type": "client_credentials", "client_id": "program", "aud": audience, "roles": roles}
    return str(requests.post(f"{issuer}/token", data=form, timeout=30).json()["access_token"])


def key_id(token: str) -> str:
    header = token.partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"])


@need_program("node", "nodejs")
async def test_jwts_of_oauth2_mock_server(
    javascript_provider: tuple[str, IO[str], IO[str]], serve: Serve, tmp_path: Path
) -> None:
    issuer, commands, answers = javascript_provider
    ask = await serve(issuer=issuer, audience="gateway", roles_claim="realm_access.roles", refresh_s=1)
    assert await ask(client_credentials(issuer)) == 204
    assert await ask(client_credentials(issuer, roles="")) == 403
    assert await ask(client_credentials(issuer, audience="another")) == 401
    assert await ask(client_credentials(issuer)[:-8]) == 401
    trail = "".join(file.read_text() for file in (tmp_path / "data" / "audit").glob("*.jsonl"))
    assert '"principal":"program"' in trail.replace(" ", "")

    commands.write("rotate\n")
    commands.flush()
    rotated = answers.readline().strip()
    time.sleep(1)
    tokens = [client_credentials(issuer) for _ in range(2)]
    assert rotated in {key_id(token) for token in tokens}, "it signs with one key after the other"
    assert [await ask(token) for token in tokens] == [204, 204]


@pytest.fixture(scope="module")
def python_provider() -> Iterator[str]:
    """Where oidc-provider-mock is."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://localhost:{port}"
        deadline_s = time.monotonic() + 60
        while True:
            with suppress(requests.RequestException):
                requests.get(f"{url}/.well-known/openid-configuration", timeout=5)
                break
            assert process.poll() is None, "oidc-provider-mock has ended"
            assert time.monotonic() < deadline_s, "oidc-provider-mock does not answer"
            time.sleep(0.05)
        yield url


def logged_in(provider: str, user: str) -> str:
    """The access token of a user who logged in with the authorization code flow."""
    back = "http://localhost/back"
    asked = {"client_id": "viewer", "redirect_uri": back, "response_type": "code", "scope": "openid profile"}
    form = {"sub": user}
    answer = requests.post(f"{provider}/oauth2/authorize", params=asked, data=form, allow_redirects=False, timeout=30)
    (code,) = parse_qs(urlsplit(answer.headers["Location"]).query)["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
    found = requests.post(f"{provider}/oauth2/token", data=form, auth=("viewer", "secret"), timeout=30).json()
    return str(found["access_token"])


def introspection(provider: str, listener: Listener) -> Callable[[BaseHTTPRequestHandler], None]:
    """What the provider lacks (RFC 7662), by what it has: whose a token is."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (token,) = listener.forms[-1]["token"]
        found = requests.get(f"{provider}/userinfo", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        body = json.dumps({**found.json(), "active": True} if found.ok else {"active": False}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


async def test_opaque_tokens_of_oidc_provider_mock(python_provider: str, serve: Serve) -> None:
    listener = Listener()
    listener.answers["/introspect"] = introspection(python_provider, listener)
    requests.put(f"{python_provider}/users/ann", json={"roles": ["viewer"]}, timeout=30).raise_for_status()
    ask = await serve(
        issuer=python_provider,
        audience="gateway",
        introspection_url=f"{listener.url}/introspect",
        client_id="gateway",
        client_secret="secret",
    )
    ann, bob = logged_in(python_provider, "ann"), logged_in(python_provider, "bob")
    assert "." not in ann, "no JWT"
    assert [await ask(token) for token in (ann, bob, f"{ann}x")] == [204, 403, 401]
    requests.post(f"{python_provider}/users/ann/revoke-tokens", timeout=30).raise_for_status()
    time.sleep(1.1)
    assert await ask(ann) == 401, "it says nothing of the token's end, so that it is asked about each second"
    listener.close()
