"""Logging in with a browser: by password, with a provider; what a session is, and how it ends."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from aiohttp.test_utils import TestServer

from gateway.access import authentication, sessions, users
from gateway.config.access import IssuerSettings
from storage.control import base
from tests.clock import let_pass
from tests.gateway.entrance.conftest import Answer, Site, ct
from tests.gateway.entrance.provider import CLIENT, Provider

PASSWORD = "correct horse battery"
SAME, CROSS = {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}


@pytest.fixture
def user(site: Site) -> str:
    """Somebody who may look at things, and do a little more in an emergency."""
    assert users.add(site.core.control, "ann", PASSWORD, "main", ["viewer"], person="Gray^Ann") is not None
    return "ann"


async def log_in(site: Site, name: str = "ann", password: str = PASSWORD, **more: Any) -> Answer:
    headers = more.pop("headers", {})
    cookies = more.pop("cookies", "")
    return await site.ask(
        "POST", "/login", data={"name": name, "password": password, **more}, headers=headers, cookies=cookies
    )


def session_of(answer: Answer, name: str = "gateway-session") -> str:
    assert answer.status == 303, answer.body
    return f"{name}={answer.cookie(name).value}"


async def who(site: Site, cookies: str) -> Answer:
    return await site.ask("GET", "/session", cookies=cookies)


# By password


async def test_the_page_asks_for_name_and_password_and_runs_nothing(site: Site) -> None:
    answer = await site.ask("GET", "/login")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    for name in (b'name="name"', b'name="password"', b'name="code"'):
        assert name in answer.body
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_right_password_begins_a_session(site: Site, user: str) -> None:
    answer = await log_in(site, to="#/studies/1.2")
    assert (answer.status, answer.headers["Location"]) == (303, "./#/studies/1.2")
    cookie = answer.cookie("gateway-session")
    assert (cookie["path"], cookie["httponly"], cookie["samesite"], cookie["max-age"]) == ("/", True, "Lax", "")
    cookies = session_of(answer)
    told = (await who(site, cookies)).json
    assert (told["principal"], told["kind"], told["roles"]) == ("ann", "user", ["viewer"])
    assert told["actions"] == ["search", "read", "download", "render"]
    assert (await site.ask("GET", "/dicomweb/studies", cookies=cookies)).status == 204
    assert (await site.ask("GET", "/dicomweb/studies", cookies=cookies + "x")).status == 401
    assert site.outcomes("login") == ["allowed"]
    assert cookie.value not in str(site.trail("login"))


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "wrong horse battery"),
        ("ann", ""),
        ("bob", PASSWORD),
        ("", PASSWORD),
        ("Ann", PASSWORD),
        ("a\0n", "no name at all"),
    ],
)
async def test_a_wrong_password_and_an_unknown_name_read_alike(site: Site, user: str, name: str, password: str) -> None:
    answer = await log_in(site, name, password)
    assert answer.status == 401
    assert "Set-Cookie" not in answer.headers
    alert = re.search(rb'role="alert">([^<]*)<', answer.body)
    assert alert is not None
    assert alert[1] == b"The name, the password or the code is not right"
    if password:
        assert password.encode() not in answer.body
    (denied,) = site.trail("authenticate")
    assert (denied["outcome"], denied["principal"]) == ("denied", "unknown")


async def test_who_is_disabled_is_kept_out(site: Site, user: str) -> None:
    cookies = session_of(await log_in(site))
    users.alter(site.core.control, user, disabled=True)
    assert (await log_in(site)).status == 401
    sessions.end_all(site.core.control, user)
    await asyncio.sleep(1.05)
    assert (await who(site, cookies)).status == 401


async def test_who_has_an_authenticator_shows_its_code_once(site: Site, user: str) -> None:
    code = pyotp.parse_uri(users.require_totp(site.core.control, user, "gateway")).now()  # type: ignore[union-attr]
    assert (await log_in(site)).status == 401
    assert (await log_in(site, code="000000" if code != "000000" else "111111")).status == 401
    assert (await log_in(site, code="１２３４５６")).status == 401
    assert (await log_in(site, code=code)).status == 303
    assert (await log_in(site, code=code)).status == 401


@pytest.mark.parametrize("http", [{"failed_attempts": 2}], indirect=True)
async def test_guessing_a_password_locks_the_guesser_out(site: Site, user: str) -> None:
    statuses = [(await log_in(site, password=f"guess number {n}")).status for n in range(5)]
    assert statuses == [401] * 3 + [429] * 2
    answer = await log_in(site)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert b'name="password"' in answer.body
    assert site.outcomes("authenticate").count("locked") == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (SAME, 303),
        ({"Sec-Fetch-Site": "none"}, 303),
        ({"Origin": "http://127.0.0.1:{port}"}, 303),
        ({}, 303),
        (CROSS, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
async def test_a_page_of_another_site_logs_nobody_in(
    site: Site, user: str, headers: dict[str, str], status: int
) -> None:
    given = {name: each.format(port=site.client.port) for name, each in headers.items()}
    answer = await log_in(site, headers=given)
    assert answer.status == status
    assert ("Set-Cookie" in answer.headers) is (status == 303)


async def test_our_own_page_has_the_browser_say_where_a_form_is_from(site: Site) -> None:
    assert (await site.ask("GET", "/login")).headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "../x",
        "#\r\nX: y",
        "\\#",
        "@e",
    ],
)
async def test_logging_in_leads_to_no_other_site(site: Site, user: str, to: str) -> None:
    answer = await log_in(site, to=to)
    assert (answer.status, answer.headers["Location"]) == (303, "./")
    page = await site.ask("GET", "/login", params={"to": to})
    assert b"evil.example" not in page.body
    assert b"alert(1)" not in page.body


@pytest.mark.parametrize("to", ["#/studies/1.2.3", "?x=%22", '#"><b>', "#/studies/1.2/series/1.3"])
async def test_where_somebody_was_is_kept_over_the_login(site: Site, user: str, to: str) -> None:
    page = (await site.ask("GET", "/login", params={"to": to})).body.decode()
    assert "<b>" not in page
    assert (await log_in(site, to=to)).headers["Location"].startswith("./" + to[:2])


async def test_a_session_is_never_one_that_the_browser_had_before(site: Site, user: str) -> None:
    first = session_of(await log_in(site))
    second = session_of(await log_in(site, cookies=first))
    assert second != first
    planted = session_of(await log_in(site, cookies="gateway-session=planted"))
    assert "planted" not in planted
    await asyncio.sleep(1.05)
    assert (await who(site, first)).status == 401
    assert (await who(site, second)).status == 200


@pytest.mark.parametrize(
    ("headers", "form", "status"),
    [
        ({"Content-Type": "text/plain"}, b"name=ann", 415),
        ({"Content-Type": "application/json"}, b'{"name": 1}', 400),
        ({"Content-Type": "application/json"}, b'{"name": "ann", "admin": true}', 400),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"name=ann&admin=1", 400),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"name=" + b"a" * 65, 400),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"password=" + b"a" * 1025, 400),
        ({"Content-Type": "application/x-www-form-urlencoded; charset=x"}, b"name=ann", 400),
    ],
)
async def test_a_form_that_is_none_is_refused(site: Site, headers: dict[str, str], form: bytes, status: int) -> None:
    answer = await site.ask("POST", "/login", data=form, headers=headers)
    assert answer.status == status
    assert answer.detail


# Sessions


async def test_a_session_changes_things_for_our_own_pages_alone(site: Site) -> None:
    users.add(site.core.control, "boss", PASSWORD, "main", ["administrator"])
    cookies = session_of(await log_in(site, "boss"))
    csrf = (await who(site, cookies)).json["csrf"]
    found = ct()
    await site.store(found)
    wanted = {"json": {"studies": [found.StudyInstanceUID]}, "cookies": cookies}
    for headers, status in (
        ({}, 403),
        (CROSS, 403),
        ({"X-CSRF-Token": "wrong"}, 403),
        ({"X-CSRF-Token": ""}, 403),
        ({"X-CSRF-Token": csrf}, 201),
        (SAME, 201),
    ):
        assert (await site.ask("POST", "/shares", headers=headers, **wanted)).status == status
    logout = await site.ask("POST", "/logout", headers=CROSS, cookies=cookies)
    assert logout.status == 403
    assert (await who(site, cookies)).status == 200


async def test_logging_out_ends_the_session_for_whoever_has_its_cookie(site: Site, user: str) -> None:
    cookies = session_of(await log_in(site))
    assert (await who(site, cookies)).status == 200
    answer = await site.ask("POST", "/logout", cookies=cookies, headers=SAME)
    assert answer.status == 204
    assert answer.cookie("gateway-session")["max-age"] == "0"
    await asyncio.sleep(1.05)
    assert (await who(site, cookies)).status == 401
    assert (await site.ask("GET", "/dicomweb/studies", cookies=cookies)).status == 401
    assert (site.outcomes("login"), site.outcomes("logout")) == (["allowed"], ["allowed"])


async def test_a_session_ends_when_it_is_left_alone_and_in_any_case(
    site: Site, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = users.find(site.core.control, user)
    assert found is not None
    short = sessions.begin(site.core.control, users.principal(found), longest_s=30.0)
    monkeypatch.setattr(sessions, "IDLE_S", 30.0)
    alone = sessions.begin(site.core.control, users.principal(found))
    assert (await who(site, f"gateway-session={short}")).status == 200
    assert sessions.find(site.core.control, alone) is not None
    let_pass(monkeypatch, 31.0, authentication, base)
    assert (await who(site, f"gateway-session={short}")).status == 401
    assert sessions.find(site.core.control, alone) is None


async def test_with_an_api_key_the_cookie_beside_it_is_left_alone(site: Site, user: str) -> None:
    cookies = session_of(await log_in(site))
    assert (await site.ask("GET", "/session", "boss", cookies=cookies)).json["principal"] == "boss"
    assert "csrf" not in (await site.ask("GET", "/session", "boss", cookies=cookies)).json
    assert (await site.ask("POST", "/logout", "boss", cookies=cookies)).status == 204
    reason = await site.ask("POST", "/session/reason", "boss", cookies=cookies, json={"reason": "none of yours"})
    assert reason.status == 400
    await asyncio.sleep(1.05)
    told = await who(site, cookies)
    assert (told.status, told.json["breaksGlass"]) == (200, False)


async def test_who_somebody_is_says_what_it_may(site: Site) -> None:
    assert (await site.ask("GET", "/session")).status == 401
    told = {key: (await site.ask("GET", "/session", key)).json for key in ("viewer", "boss", "pictures-only")}
    assert told["viewer"] == {
        "principal": "viewer",
        "kind": "api_key",
        "tenant": "main",
        "roles": ["viewer"],
        "actions": ["search", "read", "download", "render"],
        "mayBreakGlass": False,
        "breaksGlass": False,
        "view": "",
        "downloads": [],
        "shares": [],
    }
    assert "admin" in told["boss"]["actions"]
    assert told["pictures-only"]["actions"] == ["search", "render", "share"]


async def test_a_reason_breaks_the_glass_for_the_rest_of_a_session(site: Site) -> None:
    hidden = ct(Modality="MR")
    await site.store(hidden)
    users.add(site.core.control, "eve", PASSWORD, "main", ["on-call"])
    cookies = session_of(await log_in(site, "eve"))
    told = (await who(site, cookies)).json
    assert (told["mayBreakGlass"], told["breaksGlass"]) == (True, False)
    path = f"/dicomweb/studies/{hidden.StudyInstanceUID}/metadata"
    assert (await site.ask("GET", path, cookies=cookies)).status == 403
    assert (await site.ask("POST", "/session/reason", cookies=cookies, json={"reason": "x"})).status == 403
    stated = await site.ask(
        "POST", "/session/reason", cookies=cookies, json={"reason": " unconscious, no history "}, headers=SAME
    )
    assert stated.status == 204
    await asyncio.sleep(1.05)
    assert (await who(site, cookies)).json["breaksGlass"] is True
    assert (await site.ask("GET", path, cookies=cookies)).status == 200
    (record,) = [each for each in site.trail("read") if each["outcome"] == "break-glass"]
    assert record["detail"] == "unconscious, no history"
    withdrawn = await site.ask("POST", "/session/reason", cookies=cookies, json={}, headers=SAME)
    assert withdrawn.status == 204
    await asyncio.sleep(1.05)
    assert (await site.ask("GET", path, cookies=cookies)).status == 403
    assert site.outcomes("login") == ["allowed", "reason stated", "reason withdrawn"]


@pytest.mark.parametrize("body", [{"reason": "x" * 201}, {"reason": "a\nb"}, {"reason": 1}, {"why": "x"}, []])
async def test_a_reason_that_is_none_is_refused(site: Site, user: str, body: Any) -> None:
    cookies = session_of(await log_in(site))
    assert (await site.ask("POST", "/session/reason", cookies=cookies, json=body, headers=SAME)).status == 400
    assert (await site.ask("POST", "/session/reason", "boss", json={"reason": "x"})).status == 400


@pytest.mark.parametrize(
    ("http", "prefix", "headers"),
    [
        ({"trusted_proxies": ("127.0.0.1",)}, "", {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example"}),
        ({"public_url": "https://pacs.example/imaging", "path_prefix": "/imaging"}, "/imaging", {}),
    ],
    indirect=["http"],
)
async def test_over_https_the_cookie_is_one_that_no_neighbour_can_set(
    site: Site, user: str, prefix: str, headers: dict[str, str]
) -> None:
    own = {**headers, "Origin": "https://pacs.example"}
    answer = await site.ask("POST", f"{prefix}/login", data={"name": user, "password": PASSWORD}, headers=own)
    cookie = answer.cookie("__Host-gateway-session")
    assert (cookie["secure"], cookie["path"], cookie["domain"], cookie["httponly"]) == (True, "/", "", True)
    right = {**headers, "Cookie": f"__Host-gateway-session={cookie.value}"}
    planted = {**headers, "Cookie": f"gateway-session={cookie.value}"}
    assert (await site.ask("GET", f"{prefix}/session", headers=right)).status == 200
    assert (await site.ask("GET", f"{prefix}/session", headers=planted)).status == 401
    out = await site.ask("POST", f"{prefix}/logout", headers={**right, **SAME})
    assert out.cookie("__Host-gateway-session")["secure"] is True


# With a provider


@pytest.fixture
async def provider(aiohttp_server: Callable[..., Awaitable[TestServer]]) -> Provider:
    found = Provider()
    server = await aiohttp_server(found.application())
    found.url = str(server.make_url("")).rstrip("/")
    return found


@pytest.fixture
def issuers(request: pytest.FixtureRequest) -> tuple[IssuerSettings, ...]:
    """The provider, in tests that have one."""
    if "provider" not in request.fixturenames:
        return ()
    url = request.getfixturevalue("provider").url
    more = getattr(request, "param", {})
    return (
        IssuerSettings.model_validate({"issuer": f"{url}/other", "audience": "gateway"}),
        IssuerSettings.model_validate(
            {"issuer": url, "audience": "gateway", "client_id": CLIENT, "login": True, "title": "City <Clinic>", **more}
        ),
    )


async def begin(site: Site, **options: Any) -> tuple[str, str]:
    """The address at the provider, and the cookie that a browser has meanwhile."""
    answer = await site.ask("GET", "/login/1", **options)
    assert answer.status == 303, answer.body
    cookie = answer.cookie("gateway-login")
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/login", True, "Lax")
    return answer.headers["Location"], f"gateway-login={cookie.value}"


async def come_back(site: Site, cookies: str, **query: str) -> Answer:
    return await site.ask("GET", "/login/callback", cookies=cookies, params=query)


def alert(answer: Answer) -> str:
    found = re.search(r'role="alert">([^<]*)<', answer.body.decode())
    assert found is not None
    return found[1]


async def test_somebody_logs_in_with_a_provider(provider: Provider, site: Site) -> None:
    page = await site.ask("GET", "/login", params={"to": "#/x"})
    assert b'href="login/1?to=%23%2Fx"' in page.body
    assert b"City &lt;Clinic&gt;" in page.body
    assert b"login/0" not in page.body
    address, cookie = await begin(site, params={"to": "#/x"})
    asked = parse_qs(urlsplit(address).query)
    assert address.startswith(f"{provider.url}/authorize?")
    assert asked["redirect_uri"] == [f"http://127.0.0.1:{site.client.port}/login/callback"]
    assert (asked["response_type"], asked["code_challenge_method"]) == (["code"], ["S256"])
    assert "openid" in asked["scope"][0].split()
    state, code = provider.authorize(address)
    answer = await come_back(site, cookie, state=state, code=code)
    assert (answer.status, answer.headers["Location"]) == (303, ".././#/x")
    assert answer.cookie("gateway-login")["max-age"] == "0"
    told = (await who(site, session_of(answer))).json
    assert (told["principal"], told["kind"], told["roles"]) == ("ann", "oidc", ["viewer"])
    assert site.outcomes("login") == ["allowed"]
    again = await come_back(site, cookie, state=state, code=code)
    assert (again.status, alert(again)) == (401, "No such login is under way; begin again")


@pytest.mark.parametrize("issuers", [{"client_secret": "s3cret"}], indirect=True)
async def test_the_gateway_shows_its_secret_to_the_provider(provider: Provider, site: Site) -> None:
    address, cookie = await begin(site)
    state, code = provider.authorize(address)
    assert (await come_back(site, cookie, state=state, code=code)).status == 303
    scheme, _, shown = provider.authorizations[0].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(shown).decode() == f"{CLIENT}:s3cret"


async def test_who_comes_back_is_the_browser_that_went(provider: Provider, site: Site) -> None:
    address, _ = await begin(site)
    state, code = provider.authorize(address)
    _, other = await begin(site)
    for cookie in ("", other, "gateway-login=\udcff"):
        answer = await come_back(site, cookie, state=state, code=code)
        assert answer.status == 401
        assert "not begun in this browser" in alert(answer)
        assert "Set-Cookie" not in answer.headers
    assert provider.forms == []
    # The page's own links lead out of /login/callback again.
    assert b'action="../login"' in answer.body
    assert b'href="../login/1"' in answer.body


@pytest.mark.parametrize(
    "query", [{}, {"state": "x"}, {"code": "x"}, {"state": "", "code": ""}, {"error": "access_denied", "code": "x"}]
)
async def test_coming_back_with_less_is_refused(provider: Provider, site: Site, query: dict[str, str]) -> None:
    _, cookie = await begin(site)
    state = cookie.partition("=")[2]
    answer = await come_back(site, cookie, **{**query, **({"state": state} if "error" in query else {})})
    assert answer.status == 401
    assert "access_denied" not in answer.body.decode()
    assert site.outcomes("login") == []


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "other"},
        {"nonce": None},
        {"aud": "gateway"},
        {"aud": []},
        {"aud": [CLIENT, "other"]},
        {"azp": "other"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"sub": ""},
    ],
)
async def test_an_id_token_of_something_else_logs_nobody_in(
    provider: Provider, site: Site, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    address, cookie = await begin(site)
    state, code = provider.authorize(address)
    answer = await come_back(site, cookie, state=state, code=code)
    assert answer.status == 401, answer.body
    assert "gateway-session" not in str(answer.headers.getall("Set-Cookie", []))
    assert site.outcomes("login") == []
    assert "denied" in site.outcomes("authenticate")


async def test_an_id_token_for_several_audiences_says_that_it_is_ours(provider: Provider, site: Site) -> None:
    provider.claims = {"aud": [CLIENT, "other"], "azp": CLIENT}
    address, cookie = await begin(site)
    state, code = provider.authorize(address)
    assert (await come_back(site, cookie, state=state, code=code)).status == 303


@pytest.mark.parametrize(
    "answer", [{}, {"id_token": ""}, {"id_token": 1}, {"id_token": "a.b.c"}, {"id_token": "x" * 20_000}]
)
async def test_an_answer_without_an_id_token_logs_nobody_in(
    provider: Provider, site: Site, answer: dict[str, Any]
) -> None:
    address, cookie = await begin(site)
    provider.answer = answer
    state, code = provider.authorize(address)
    assert (await come_back(site, cookie, state=state, code=code)).status == 401


async def test_a_code_that_the_provider_does_not_know_logs_nobody_in(provider: Provider, site: Site) -> None:
    address, cookie = await begin(site)
    state, _ = provider.authorize(address)
    answer = await come_back(site, cookie, state=state, code="guessed\u00ff")
    assert answer.status in (401, 503)
    assert (await come_back(site, cookie, state=state, code="again")).status == 401


async def test_while_the_provider_is_down_the_page_says_so(provider: Provider, site: Site, user: str) -> None:
    provider.is_down = True
    answer = await site.ask("GET", "/login/1")
    assert answer.status == 503
    assert "does not answer" in alert(answer) or "answers with" in alert(answer)
    assert b'action="../login"' in answer.body
    assert (await log_in(site)).status == 303
    provider.is_down = False
    address, cookie = await begin(site)
    state, code = provider.authorize(address)
    provider.is_down = True
    answer = await come_back(site, cookie, state=state, code=code)
    assert answer.status == 503
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("number", ["0", "2", "999", "1000", "-1", "x", "%D9%A3", "1.0"])
async def test_there_is_no_other_provider(provider: Provider, site: Site, number: str) -> None:
    assert (await site.ask("GET", f"/login/{number}")).status == 404


@pytest.mark.parametrize("http", [{"public_url": "https://pacs.example/imaging"}], indirect=True)
async def test_behind_a_proxy_the_provider_leads_back_to_it(provider: Provider, site: Site) -> None:
    answer = await site.ask("GET", "/login/1")
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["redirect_uri"] == [
        "https://pacs.example/imaging/login/callback"
    ]
    cookie = answer.cookie("gateway-login")
    assert (cookie["path"], cookie["secure"]) == ("/imaging/login", True)
