"""Who calls over HTTP: tokens, keys, passwords, cookies and reasons, good and bad."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from joserfc.jwk import RSAKey

from gateway import assembly
from gateway.access import authentication, keys, sessions, users
from gateway.access.rules import attributes
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.serving import HttpSettings
from gateway.context import Principal, PrincipalKind
from gateway.dicomweb.routes import routes
from gateway.http import application, problem
from tests import trails
from tests.clock import let_pass
from tests.issuer import INTROSPECT, Issuer

PATH = "/dicomweb/studies"
DECLARED = "test"
PASSWORD = "correct horse battery"
POLICY = """
[[role]]
name = "on-call"
[[role.rule]]
name = "emergency"
actions = ["search"]
obligations = ["break_glass"]

[[principal]]
name = "declared"
kind = "api_key"
api_key_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
roles = ["viewer"]
networks = ["127.0.0.0/8", "10.0.0.0/8"]

[[principal]]
name = "rooms"
kind = "anonymous"
networks = ["10.3.0.0/16"]
actions = ["search", "store"]
"""


@dataclass(frozen=True)
class Site:
    """A gateway with a provider, a key and a user, and a client that is nobody by itself."""

    client: TestClient[Any, Any]
    core: Core
    key: str
    directory: Path

    async def ask(self, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Status and detail of a request with headers; the underscore stands for a hyphen."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(method, PATH, headers=sent) as response:
            if response.status == 401:
                assert response.headers["WWW-Authenticate"] == 'Bearer realm="gateway"'
            if response.status == 503:
                assert response.headers["Retry-After"] == str(problem.RETRY_AFTER_S)
            if response.status < 400:
                return response.status, ""
            return response.status, (await response.json(content_type=None)).get("detail", "")

    async def bearer(self, token: str, **headers: str) -> int:
        return (await self.ask(Authorization=f"Bearer {token}", **headers))[0]

    def trail(self) -> list[dict[str, Any]]:
        return trails.records(self.directory / "audit")

    def written(self) -> str:
        """Everything on the trail."""
        return "".join(json.dumps(line) for line in self.trail())


@pytest.fixture
def http() -> dict[str, Any]:
    """Settings of the test."""
    return {"failed_attempts": 0}


@pytest.fixture
async def site(
    settings: Settings,
    tmp_path: Path,
    http: dict[str, Any],
    issuer: Issuer,
    aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]],
) -> AsyncIterator[Site]:
    (tmp_path / "policy.toml").write_text(POLICY)
    asked = issuer.settings(introspection_url=f"{issuer.url}{INTROSPECT}", client_id="gateway")
    given = {
        "http": HttpSettings(port=0, workers=1, trusted_proxies=("127.0.0.1/32",), **http),
        "access": AccessSettings(policy_file=tmp_path / "policy.toml", issuers=(asked,)),
    }
    core = assembly.build(settings.model_copy(update=given), "callers")
    key, _ = keys.create(core.control, "program", "main", ["viewer"])
    yield Site(await aiohttp_client(application.build(core, routes())), core, key, tmp_path / "data")
    core.close()


def add_user(site: Site, name: str = "ann", *roles: str) -> None:
    assert users.add(site.core.control, name, PASSWORD, "main", roles or ("viewer",)) is not None


def basic(text: str | bytes) -> str:
    return f"Basic {base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()}"


# Tokens


async def test_a_token_of_the_provider_is_let_in_as_whom_it_names(site: Site, issuer: Issuer) -> None:
    assert await site.bearer(issuer.token(sub="Jörg")) == 204
    assert await site.bearer(issuer.token(roles=[])) == 403
    assert await site.bearer(issuer.token(roles=["own:declared", "smart:launch"])) == 403
    issuer.answers[INTROSPECT] = {"active": True, "sub": "opaque", "roles": ["viewer"]}
    assert await site.bearer("opaque-token") == 204
    found = [(line["principal"], line["kind"], line["outcome"]) for line in site.trail() if line["action"] == "search"]
    allowed = [("Jörg", "oidc", "allowed"), ("opaque", "oidc", "allowed")]
    assert found == [allowed[0], ("ann", "oidc", "denied"), allowed[1]], "equal denials are counted"


async def test_a1_bad_tokens_are_401_and_say_nothing_of_why(site: Site, issuer: Issuer, other_key: RSAKey) -> None:
    issuer.answers[INTROSPECT] = {"active": False}
    header, payload, signature = issuer.token().split(".")
    nothing = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    bad = {
        "unsigned": f"{nothing}.{payload}.",
        "cut": f"{header}.{payload}.{signature[:-9]}",
        "other key": issuer.token(key=other_key),
        "jku": issuer.token({"jku": f"{issuer.url}/keys", "jwk": other_key.as_dict(private=False)}, other_key),
        "audience": issuer.token(aud="another"),
        "issuer": issuer.token(iss="https://other.example.org"),
        "expired": issuer.token(exp=int(time.time()) - 100),
        "no end": issuer.token(exp=None),
        "far": issuer.token(exp=int(time.time()) + 10**7),
        "type": issuer.token({"typ": "id+jwt"}),
        "critical": issuer.token({"crit": ["kid"]}),
        "key id": issuer.token({"kid": "../../etc/passwd"}),
        "name": issuer.token(sub="a\r\nb"),
        "five parts": "a.b.c.d.e",
        "inactive": "opaque",
        "form": "...",
    }
    told = {name: await site.ask(Authorization=f"Bearer {token}") for name, token in bad.items()}
    assert set(told.values()) == {(401, "the API key or token is not accepted")}, told
    site.core.trail.close()
    details = {line["detail"] for line in site.trail() if line["action"] == "authenticate"}
    assert {"the token is for another audience", "the token has expired", "the token is not active"} <= details
    assert not any(token in site.written() for token in bad.values() if len(token) > 10)


async def test_a1_a_token_of_100_kb_is_refused(site: Site, issuer: Issuer) -> None:
    async with site.client.get(PATH, headers={"Authorization": f"Bearer {issuer.token(x='x' * 100_000)}"}) as answer:
        assert answer.status in {400, 431}
    assert await site.bearer(issuer.token(x="x" * 3000)) == 204


async def test_a1_without_keys_it_is_503_and_keys_of_the_gateway_still_work(site: Site, issuer: Issuer) -> None:
    issuer.is_down = True
    assert await site.bearer(issuer.token()) == 503
    assert await site.bearer("opaque") == 503
    assert await site.bearer(site.key) == 204
    assert await site.bearer(DECLARED) == 204
    assert not [line for line in site.trail() if line["outcome"] == "locked"]


async def test_a_token_that_ended_is_out_although_it_is_remembered(
    site: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token(exp=time.time() + 30.0)
    assert await site.bearer(token) == 204
    assert await site.bearer(token) == 204
    assert issuer.asked.total() == 2, "what is proven is remembered"
    assert site.core.authenticator.remembered(_bearer(token), "127.0.0.1") is not None
    let_pass(monkeypatch, 31.0, authentication)
    assert site.core.authenticator.remembered(_bearer(token), "127.0.0.1") is None


def _bearer(token: str) -> Any:
    from gateway.access.authentication import Credential, Scheme

    return Credential(Scheme.BEARER, token)


# Keys


async def test_a_key_is_shown_as_a_token_or_in_a_header_of_its_own(site: Site) -> None:
    for headers in (
        {"Authorization": f"Bearer {site.key}"},
        {"Authorization": f"bEARER   {site.key}  "},
        {"X_API_Key": site.key},
        {"Authorization": "Digest x", "X_API_Key": site.key},
    ):
        assert (await site.ask(**headers))[0] == 204
    both = {"Authorization": f"Bearer {site.key}x", "X_API_Key": site.key}
    assert (await site.ask(**both))[0] == 401, "the first one counts, and no provider is asked about it"


async def test_a2_an_unknown_key_and_a_wrong_secret_look_the_same(site: Site) -> None:
    _, key_id, secret = site.key.split("_", 2)
    wrong = f"gwk_{key_id}_{'A' * 43}"
    unknown = f"gwk_{'a' * 12}_{secret}"
    answers = {await site.ask(Authorization=f"Bearer {each}") for each in (wrong, unknown)}
    assert len(answers) == 1
    assert answers.pop()[0] == 401


@pytest.mark.parametrize("value", ["ä", "gwk_" + "ä" * 12 + "_" + "A" * 43, "\udcff"], ids=ascii)
async def test_a_key_that_is_not_ascii_is_nobodys(site: Site, issuer: Issuer, value: str) -> None:
    issuer.answers[INTROSPECT] = {"active": False}
    for headers in ({"X_API_Key": value}, {"Authorization": f"Bearer {value}"}):
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        assert await _raw_status(site, sent) == 401


async def _raw_status(site: Site, headers: dict[str, str]) -> int:
    """The status of a request whose headers no client library would send."""
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", site.client.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{headers.get(':method', 'GET')} {PATH} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{lines}\r\n"
    writer.write(request.encode("utf-8", "surrogateescape"))
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


# Passwords


async def test_a_password_is_shown_by_basic(site: Site) -> None:
    add_user(site)
    assert (await site.ask(Authorization=basic(f"ann:{PASSWORD}")))[0] == 204
    assert users.add(site.core.control, "colon", "pass:wörd:with:colons", "main", ["viewer"])
    assert (await site.ask(Authorization=basic("colon:pass:wörd:with:colons")))[0] == 204
    unknown = await site.ask(Authorization=basic(f"bob:{PASSWORD}"))
    assert unknown[0] == 401
    assert await site.ask(Authorization=basic("ann:wrong-password-here")) == unknown
    assert PASSWORD not in site.written()


async def test_what_is_no_password_is_nobodys(site: Site) -> None:
    add_user(site)
    for shown in (
        "Basic !!!",
        "Basic YW5u",
        basic(b"\xff\xfe:\xff"),
        basic("no-colon"),
        basic(":"),
        basic(f":{PASSWORD}"),
        basic("ann:"),
        basic("ann\x00:x"),
        basic(f"ANN:{PASSWORD}"),
        basic("../../ann:" + "x" * 2000),
        "Basic " + "A" * 4001,
    ):
        assert (await site.ask(Authorization=shown))[0] == 401, shown


# Cookies


def begin(site: Site, *roles: str, reason: str = "") -> str:
    found = Principal("ann", PrincipalKind.USER, "main", frozenset(roles), attributes("ann", ""))
    cookie = sessions.begin(site.core.control, found)
    if reason:
        assert sessions.state_reason(site.core.control, cookie, reason)
    return cookie


@pytest.mark.parametrize("name", ["gateway-session", "__Host-gateway-session"])
async def test_a_cookie_is_of_a_session(site: Site, name: str) -> None:
    cookie = begin(site, "viewer")
    assert (await site.ask(Cookie=f"{name}={cookie}"))[0] == 204
    for wrong in (cookie[:-1], "x" * 43, "ä", "%00", '"'):
        assert (await site.ask(Cookie=f"{name}={wrong}x"))[0] == 401
    assert await _raw_status(site, {"Cookie": f"{name}=\udcff\udcfe"}) == 401
    sessions.end(site.core.control, cookie)
    time.sleep(1.1)
    status, detail = await site.ask(Cookie=f"{name}={cookie}")
    assert (status, detail) == (401, "the session is over; log in again")


async def test_what_changes_something_with_a_cookie_has_to_come_from_a_page_of_ours(site: Site) -> None:
    cookie = begin(site, "radiologist")
    found = sessions.find(site.core.control, cookie)
    assert found is not None
    with_cookie = {"Cookie": f"gateway-session={cookie}", "Content_Type": "application/dicom"}
    for refused in (
        {},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "same-origin, cross-site"},
        {"X_CSRF_Token": ""},
        {"X_CSRF_Token": f"{found.csrf}x"},
        {"X_CSRF_Token": "ä"},
        {"Origin": "http://127.0.0.1", "Referer": "http://127.0.0.1/"},
    ):
        status, detail = await site.ask("POST", **with_cookie, **refused)
        assert status == 403
        assert "X-CSRF-Token" in detail
        assert found.csrf not in detail
    for taken in ({"Sec_Fetch_Site": "same-origin"}, {"X_CSRF_Token": found.csrf}):
        assert (await site.ask("POST", **with_cookie, **taken))[0] == 409, "let in, and then nothing was sent"
    assert (await site.ask("GET", **with_cookie))[0] == 204
    assert (await site.ask("POST", Authorization=f"Bearer {DECLARED}"))[0] != 401
    other = sessions.find(site.core.control, begin(site, "radiologist"))
    assert other is not None
    assert (await site.ask("POST", **with_cookie, X_CSRF_Token=other.csrf))[0] == 403, "each session has its own"


# Nothing


async def test_who_shows_nothing_is_let_in_where_the_policy_names_the_network(site: Site) -> None:
    from_room, elsewhere = {"X_Forwarded_For": "10.3.4.5"}, {"X_Forwarded_For": "10.4.4.5"}
    assert (await site.ask(**from_room))[0] == 204
    assert (await site.ask(**elsewhere))[0] == 401
    sent = {"Content_Type": "application/dicom"}
    assert (await site.ask("POST", **from_room, **sent))[0] == 409, "let in, and then nothing was sent"
    for page in ("cross-site", "same-site"):
        assert (await site.ask("POST", **from_room, **sent, Sec_Fetch_Site=page))[0] == 401
    assert (await site.bearer("gwk_no_such_key", **from_room)) == 401, "a wrong key is not as none"


# Breaking the glass


@pytest.fixture
def on_call(site: Site) -> str:
    return keys.create(site.core.control, "on-call", "main", ["on-call"])[0]


async def test_a_reason_breaks_the_glass_and_is_on_the_trail(
    site: Site, on_call: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await site.bearer(on_call) == 403
    with caplog.at_level(logging.INFO):
        assert await site.bearer(on_call, X_Break_Glass="  Notfall: Gefäßverschluß  ") == 204
        assert await site.bearer(on_call, X_Break_Glass="  Notfall: Gefäßverschluß  ") == 204
        assert await site.bearer(on_call, X_Break_Glass="another") == 204
    assert await site.bearer(on_call, X_Break_Glass="   ") == 403
    broken = [line for line in site.trail() if line["outcome"] == "break-glass"]
    assert {line["detail"] for line in broken} == {"Notfall: Gefäßverschluß", "another"}
    assert {line["principal"] for line in broken} == {"on-call"}
    assert site.core.metrics.glass_broken._value.get() == 2, "one occasion is one alarm"
    assert caplog.text.count("broke the glass") == 2
    assert "Notfall" not in caplog.text, "a reason may hold a patient's name"


async def test_a_reason_of_a_session_breaks_the_glass_too(site: Site) -> None:
    assert (await site.ask(Cookie=f"gateway-session={begin(site, 'on-call')}"))[0] == 403
    assert (await site.ask(Cookie=f"gateway-session={begin(site, 'on-call', reason='stroke')}"))[0] == 204
    assert [line["detail"] for line in site.trail() if line["outcome"] == "break-glass"] == ["stroke"]


@pytest.mark.parametrize(
    "reason", ["x" * 201, "a\tb", "a\x7fb", "a\u202eb", "a\u2028b", "\udcff", "\x1b[2J"], ids=ascii
)
async def test_a_reason_that_would_steer_a_log_is_refused(site: Site, on_call: str, reason: str) -> None:
    found = await _raw_status(site, {"Authorization": f"Bearer {on_call}", "X-Break-Glass": reason})
    assert found == 400
    assert not [line for line in site.trail() if line["outcome"] == "break-glass"]


async def test_a_reason_gives_nobody_a_role(site: Site) -> None:
    assert (await site.ask(X_Break_Glass="stroke"))[0] == 401
    headers = {"Authorization": f"Bearer {DECLARED}", "Content_Type": "application/dicom", "X_Break_Glass": "stroke"}
    assert (await site.ask("POST", **headers))[0] == 403


# Guessing


@pytest.mark.parametrize("http", [{"failed_attempts": 3, "lockout_s": 30}], ids=["locks"])
@pytest.mark.parametrize("what", ["password", "key"])
async def test_a2_guesses_at_a_user_or_key_lock_them_from_everywhere_but_where_they_are_known(
    site: Site, what: str
) -> None:
    add_user(site)
    good = {"Authorization": basic(f"ann:{PASSWORD}") if what == "password" else f"Bearer {site.key}"}
    guess = {"Authorization": basic("ann:wrong-guess-here") if what == "password" else f"Bearer {site.key[:-3]}abc"}
    assert (await site.ask(**good, X_Forwarded_For="10.0.0.1"))[0] == 204
    found = [(await site.ask(**guess, X_Forwarded_For=f"10.0.1.{n}"))[0] for n in range(6)]
    assert found == [401] * 4 + [429] * 2, "each from another address"
    assert (await site.ask(**good, X_Forwarded_For="10.0.2.1"))[0] == 429, "not told whether it is right"
    assert (await site.ask(**good, X_Forwarded_For="10.0.0.1"))[0] == 204, "who is known there is not locked out"
    others = basic("bob:wrong-guess-here") if what == "password" else f"Bearer {DECLARED}"
    assert (await site.ask(Authorization=others, X_Forwarded_For="10.0.3.1"))[0] != 429
    locked = [line for line in site.trail() if line["outcome"] == "locked"]
    assert [line["detail"] for line in locked] == ["for 30 s"]


@pytest.mark.parametrize("http", [{"failed_attempts": 3, "lockout_s": 30}], ids=["locks"])
async def test_a2_an_address_that_guesses_is_locked_for_keys_tokens_and_passwords_alike(
    site: Site, issuer: Issuer
) -> None:
    bad = [basic("ann:wrong-guess-here"), f"Bearer {issuer.token(aud='x')}", f"Bearer gwk_{'a' * 12}_{'A' * 43}"]
    for shown in (*bad, basic("bob:wrong-guess-here")):
        assert (await site.ask(Authorization=shown, X_Forwarded_For="10.0.0.9"))[0] == 401
    for shown in (*bad, f"Bearer {site.key}", f"Bearer {issuer.token()}"):
        assert (await site.ask(Authorization=shown, X_Forwarded_For="10.0.0.9"))[0] == 429
    assert (await site.ask(Authorization=f"Bearer {site.key}", X_Forwarded_For="10.0.0.8"))[0] == 204


@pytest.mark.parametrize("http", [{"failed_attempts": 3, "lockout_s": 30}], ids=["locks"])
async def test_a2_a_provider_that_is_down_locks_nobody(site: Site, issuer: Issuer) -> None:
    issuer.is_down = True
    assert {await site.bearer(issuer.token()) for _ in range(6)} == {503}
    assert await site.bearer(site.key) == 204


# Engines that fail


async def test_without_the_control_state_it_is_503_and_the_policy_files_keys_work(
    site: Site, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    add_user(site)
    cookie = begin(site, "viewer")
    assert await site.bearer(site.key) == 204
    site.core.control.close()
    for file in site.directory.glob("control.sqlite*"):
        file.write_bytes(b"no database" * 1000)
    time.sleep(1.1)
    with caplog.at_level(logging.INFO):
        for headers in (
            {"Authorization": f"Bearer {site.key}"},
            {"Authorization": basic(f"ann:{PASSWORD}")},
            {"Authorization": f"Bearer {issuer.token()}"},
            {"Cookie": f"gateway-session={cookie}"},
        ):
            assert (await site.ask(**headers))[0] == 503
        assert await site.bearer(DECLARED) == 204
    for secret in (site.key, PASSWORD, cookie):
        assert secret not in caplog.text + site.written()
