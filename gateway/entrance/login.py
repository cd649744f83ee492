"""Logging in with a browser: by a local user's password, or with an OpenID provider; and sessions."""

from __future__ import annotations

import hmac
import re
from html import escape
from typing import Annotated
from urllib.parse import urlencode

from aiohttp import web
from pydantic import Field

from gateway.access import sessions, users
from gateway.access.actions import Action
from gateway.audit.events import AuditEvent
from gateway.context import Caller, Principal, Source
from gateway.entrance import bodies, pages
from gateway.entrance.bodies import Body
from gateway.errors import Forbidden, IdentityUnavailable, InvalidParameter, NotFound, TooManyRequests, Unauthenticated
from gateway.http import callers, roots
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.route import Route

_STATE = "gateway-login"
_TO = re.compile(r"(?:[#?][ -~]*)?")
"""Where somebody goes on: a place of the console, never another site."""


class _Shown(Body):
    """What the form of the login page sends."""

    name: Annotated[str, Field(max_length=64)] = ""
    password: Annotated[str, Field(max_length=1024)] = ""
    code: Annotated[str, Field(max_length=16)] = ""
    to: Annotated[str, Field(max_length=512)] = ""


class _Reason(Body):
    reason: Annotated[str, Field(max_length=200)] = ""


async def form(request: web.Request) -> web.StreamResponse:
    """The page to log in by."""
    return _page(request, request.query.get("to", ""))


def _page(request: web.Request, to: str, wrong: str = "", status: int = 200) -> web.Response:
    to = _place(to)
    places = [
        f'<a class="button" href="login/{each.number}?{urlencode({"to": to})}">{escape(each.title)}</a>'
        for each in request.app[CORE].logins.choices
    ]
    content = (
        '<form method="post" action="login">'
        + pages.field("name", "Name", more='autocomplete="username" autofocus required maxlength="64"')
        + pages.field("password", "Password", kind="password", more='autocomplete="current-password" required')
        + pages.field("code", "Code of your authenticator, if you have one", more='inputmode="numeric" maxlength="8"')
        + f'<input type="hidden" name="to" value="{escape(to)}"><button type="submit">Log in</button></form>'
    )
    return pages.page("Log in", "".join(places) + content, wrong=wrong, status=status)


async def log_in(request: web.Request) -> web.StreamResponse:
    """Log in by name and password."""
    _check_own_page(request)
    given = await bodies.read(request, _Shown)
    core, where = request.app[CORE], callers.source(request)

    def call() -> Principal:
        found = users.recognise(core.control, given.name, given.password, given.code)
        if found is None:
            raise Unauthenticated("the name, the password or the code is not right")
        return found

    try:
        principal = await callers.attempt(request, where, given.name or "nobody", call)
    except (Unauthenticated, TooManyRequests) as error:
        return _page(request, given.to, str(error), 401 if isinstance(error, Unauthenticated) else 429)
    return await _begun(request, principal, where, given.to)


async def with_provider(request: web.Request) -> web.StreamResponse:
    """Go to an OpenID provider to log in there."""
    number = request.match_info["provider"]
    if not number.isdecimal() or len(number) > 3:
        raise NotFound("there is no such provider")
    to = _place(request.query.get("to", ""))
    back = f"{roots.root(request)}/login/callback"
    try:
        address, state = await request.app[OFFLOAD].run(
            Lane.ACCESS, request.app[CORE].logins.begin, int(number), back, to
        )
    except IdentityUnavailable as error:
        return _page(request, to, f"{error}; try again in a moment", 503)
    response = web.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
    # Whoever comes back has to be the browser that went.
    secure = back.startswith("https")
    response.set_cookie(_STATE, state, max_age=600, path=_path(request), httponly=True, samesite="Lax", secure=secure)
    return response


async def come_back(request: web.Request) -> web.StreamResponse:
    """Come back from an OpenID provider."""
    state, code = request.query.get("state", ""), request.query.get("code", "")
    kept = request.cookies.get(_STATE, "")
    core, where = request.app[CORE], callers.source(request)
    wrong = ""
    if "error" in request.query:
        wrong = "the identity provider did not let you in"
    elif not code or not state or not hmac.compare_digest(kept.encode(), state.encode("utf-8", "surrogatepass")):
        wrong = "this login was not begun in this browser, or too long ago; begin again"
    if wrong:
        return _page(request, "", wrong, 401)
    try:
        principal, to = await callers.attempt(
            request, where, callers.digest(state), lambda: core.logins.complete(state, code)
        )
    except (Unauthenticated, TooManyRequests, IdentityUnavailable) as error:
        return _page(request, "", str(error), 503 if isinstance(error, IdentityUnavailable) else 401)
    response = await _begun(request, principal, where, to, up="../")
    response.del_cookie(_STATE, path=_path(request))
    return response


async def _begun(request: web.Request, principal: Principal, where: Source, to: str, up: str = "") -> web.Response:
    core = request.app[CORE]
    core.door.record(AuditEvent("login", "allowed", Caller(principal, where), principal.tenant))
    secret = await request.app[OFFLOAD].run(Lane.ACCESS, sessions.begin, core.control, principal)
    response = web.Response(status=303, headers={"Location": f"{up}./{_place(to)}", "Cache-Control": "no-store"})
    secure = roots.root(request).startswith("https")
    name = callers.SECURE_COOKIE if secure else callers.COOKIE
    response.set_cookie(name, secret, path="/", httponly=True, samesite="Lax", secure=secure)
    return response


async def log_out(request: web.Request) -> web.StreamResponse:
    """End the session, here and for whoever may have its cookie."""
    core, caller = request.app[CORE], request[CALLER]
    if (secret := callers.session_secret(request)) is not None:
        await request.app[OFFLOAD].run(Lane.ACCESS, sessions.end, core.control, secret)
        core.door.record(AuditEvent("logout", "allowed", caller, caller.principal.tenant))
    response = web.Response(status=204)
    for name in (callers.COOKIE, callers.SECURE_COOKIE):
        response.del_cookie(name, path="/", secure=name == callers.SECURE_COOKIE, httponly=True, samesite="Lax")
    return response


async def who(request: web.Request) -> web.StreamResponse:
    """Who the caller is, and what it may do somewhere; for pages, with the token that their changes have to show."""
    core, caller = request.app[CORE], request[CALLER]
    principal = caller.principal
    policy = core.door.policy
    told: dict[str, object] = {
        "principal": principal.name,
        "kind": principal.kind,
        "tenant": principal.tenant,
        "roles": sorted(each for each in principal.roles if ":" not in each),
        "actions": [each for each in Action if policy.permission(principal, each) is not None],
        "breaksGlass": bool(caller.reason),
    }
    if (secret := callers.session_secret(request)) is not None:
        session = await request.app[OFFLOAD].run(Lane.ACCESS, sessions.find, core.control, secret)
        if session is not None:
            told["csrf"] = session.csrf
    return web.json_response(told, headers={"Cache-Control": "no-store"})


async def break_glass(request: web.Request) -> web.StreamResponse:
    """State a reason for the rest of a session, or by an empty one that there is none any more."""
    given = await bodies.read(request, _Reason)
    secret = callers.session_secret(request)
    if secret is None:
        raise InvalidParameter(f"only a session keeps a reason; others state it by {callers.BREAK_GLASS}")
    if not given.reason.isprintable():
        raise InvalidParameter("reason: printable characters")
    core, caller = request.app[CORE], request[CALLER]
    outcome = "reason stated" if given.reason else "reason withdrawn"
    core.door.record(AuditEvent("login", outcome, caller, caller.principal.tenant, (), given.reason))
    if not await request.app[OFFLOAD].run(
        Lane.ACCESS, sessions.state_reason, core.control, secret, given.reason.strip()
    ):
        raise Unauthenticated("the session is over; log in again")
    return web.Response(status=204)


def _check_own_page(request: web.Request) -> None:
    """Nobody is to be logged in as somebody else by a page of another site."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    if site not in ("same-origin", "none"):
        raise Forbidden("log in by the page of this gateway")


def _place(to: str) -> str:
    return to if _TO.fullmatch(to) else ""


def _path(request: web.Request) -> str:
    return f"{request.app[CORE].settings.http.path_prefix}/login"


def routes() -> list[Route]:
    """Logging in is for everybody; what a session can do is for whoever has one."""
    return [
        Route("GET", "/login", form, None),
        Route("POST", "/login", log_in, None),
        Route("GET", "/login/callback", come_back, None),
        Route("GET", "/login/{provider}", with_provider, None),
        Route("POST", "/logout", log_out, Action.SEARCH),
        Route("GET", "/session", who, Action.SEARCH),
        Route("POST", "/session/reason", break_glass, Action.SEARCH),
    ]
