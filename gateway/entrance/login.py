"""Logging in with a browser: by a local user's password, or with an OpenID provider; and sessions."""

from __future__ import annotations

import hmac
import re
from html import escape
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from aiohttp import web
from pydantic import Field

from gateway.access import sessions, users
from gateway.access.actions import Action
from gateway.access.attempts import digest
from gateway.access.door import Door, View
from gateway.audit.events import AuditEvent
from gateway.context import Caller, Principal, Source
from gateway.entrance import bodies, pages
from gateway.entrance.bodies import Body
from gateway.errors import (
    Forbidden,
    GatewayError,
    IdentityUnavailable,
    InvalidParameter,
    NotFound,
    TooManyRequests,
    Unauthenticated,
)
from gateway.http import callers, roots
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.route import Route

_TITLE = "Log in"
_STATE = "gateway-login"
_TO = re.compile(r"(?:[#?][ -~]*)?")
"""Where somebody goes on: a place of the console, never another site."""


class Shown(Body):
    """What the form of the login page sends."""

    name: Annotated[str, Field(max_length=64)] = ""
    password: Annotated[str, Field(max_length=1024)] = ""
    code: Annotated[str, Field(max_length=16)] = ""
    to: Annotated[str, Field(max_length=512)] = ""


class Reason(Body):
    """Why the glass is broken; nothing ends it."""

    reason: Annotated[str, Field(max_length=200)] = ""


async def form(request: web.Request) -> web.StreamResponse:
    """The page to log in by."""
    return _referring(pages.page(_TITLE, _content(request, request.query.get("to", ""))))


def _content(request: web.Request, to: str, name: str = "", up: str = "") -> str:
    to = _place(to)
    query = f"?{urlencode({'to': to})}" if to else ""
    places = "".join(
        f'<a class="button" href="{up}login/{each.number}{query}">{escape(each.title)}</a>'
        for each in request.app[CORE].logins.choices
    )
    focused = {"name": "" if name else "autofocus", "password": "autofocus" if name else ""}
    return (
        (f'{places}<div class="or">or</div>' if places else "")
        + f'<form method="post" action="{up}login">'
        + pages.field(
            "name",
            "Name",
            more=f'value="{escape(name)}" autocomplete="username" autocapitalize="none" spellcheck="false" '
            f'required maxlength="64" {focused["name"]}',
        )
        + pages.field(
            "password",
            "Password",
            kind="password",
            more=f'autocomplete="current-password" required maxlength="1024" {focused["password"]}',
        )
        + pages.field(
            "code",
            "Code",
            note="of your authenticator, if you have one",
            more='inputmode="numeric" autocomplete="one-time-code" maxlength="8"',
        )
        + f'<input type="hidden" name="to" value="{escape(to)}"><button type="submit">Log in</button></form>'
    )


def _refused(request: web.Request, error: GatewayError, to: str, name: str = "", up: str = "") -> web.Response:
    return _referring(pages.refused(error, _TITLE, _content(request, to, name, up), up=up))


def _referring(page: web.Response) -> web.Response:
    """Without a referrer a browser would not say either that a form is sent from our own page."""
    page.headers["Referrer-Policy"] = "same-origin"
    return page


async def log_in(request: web.Request) -> web.StreamResponse:
    """Log in by name and password."""
    _check_own_page(request)
    given = await bodies.read(request, Shown)
    core, where = request.app[CORE], callers.source(request)

    def call() -> Principal:
        found = users.recognise(core.control, given.name, given.password, given.code)
        if found is None:
            raise Unauthenticated("the name, the password or the code is not right")
        return found

    try:
        principal = await callers.attempt(request, where, given.name or "nobody", call)
    except (Unauthenticated, TooManyRequests) as error:
        return _refused(request, error, given.to, given.name)
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
        return _refused(request, error, to, up="../")
    response = web.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
    # Whoever comes back has to be the browser that went.
    secure = roots.is_secure(request)
    response.set_cookie(_STATE, state, max_age=600, path=_path(request), httponly=True, samesite="Lax", secure=secure)
    return response


async def come_back(request: web.Request) -> web.StreamResponse:
    """Come back from an OpenID provider."""
    state, code = request.query.get("state", ""), request.query.get("code", "")
    core, where = request.app[CORE], callers.source(request)
    try:
        if "error" in request.query:
            raise Unauthenticated("the identity provider did not let you in")
        if not code or not state or not _is_same(request.cookies.get(_STATE, ""), state):
            raise Unauthenticated("this login was not begun in this browser, or too long ago; begin again")
        principal, to = await callers.attempt(request, where, digest(state), lambda: core.logins.complete(state, code))
    except (Unauthenticated, TooManyRequests, IdentityUnavailable) as error:
        return _refused(request, error, "", up="../")
    response = await _begun(request, principal, where, to, up="../")
    response.del_cookie(_STATE, path=_path(request))
    return response


def _is_same(kept: str, shown: str) -> bool:
    return hmac.compare_digest(digest(kept), digest(shown))


async def _begun(request: web.Request, principal: Principal, where: Source, to: str, up: str = "") -> web.Response:
    """Begin a session under a cookie of its own; one that the browser had before is over."""
    core, run = request.app[CORE], request.app[OFFLOAD].run
    core.door.record(AuditEvent("login", "allowed", Caller(principal, where), principal.tenant))
    secret = await run(Lane.ACCESS, sessions.begin, core.control, principal)
    if (before := callers.session_secret(request)) is not None:
        await run(Lane.ACCESS, sessions.end, core.control, before)
    response = web.Response(status=303, headers={"Location": f"{up}./{_place(to)}", "Cache-Control": "no-store"})
    name, secure = callers.session_cookie(request), roots.is_secure(request)
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
    """Who the caller is, and what it may do somewhere; for pages, with the token that their changes have to show.

    ``view`` is the de-identified view that it is shown unless it asks for another, "" for what is as stored;
    ``downloads`` and ``shares`` are the views through which it may download and share.
    """
    core, caller = request.app[CORE], request[CALLER]
    principal = caller.principal
    policy = core.door.policy
    told: dict[str, object] = {
        "principal": principal.name,
        "kind": principal.kind,
        "tenant": principal.tenant,
        "roles": sorted(each for each in principal.roles if ":" not in each),
        "actions": [each for each in Action if _may(core.door, caller, each)],
        "view": policy.default_view(principal, Action.SEARCH),
        "downloads": core.pseudonymisation.usable(caller, Action.DOWNLOAD),
        "shares": core.pseudonymisation.usable(caller, Action.SHARE),
        "mayBreakGlass": policy.may_break_glass(principal),
        "breaksGlass": bool(caller.reason),
    }
    if (secret := callers.session_secret(request)) is not None:
        session = await request.app[OFFLOAD].run(Lane.ACCESS, sessions.find, core.control, secret)
        if session is not None:
            told["csrf"] = session.csrf
    return web.json_response(told, headers={"Cache-Control": "no-store"})


def _may(door: Door, caller: Caller, action: Action) -> bool:
    """Whether a caller may do something by an action where no view is named."""
    return door.onto(View(door.policy.default_view(caller.principal, action))).is_open(caller, action)


async def break_glass(request: web.Request) -> web.StreamResponse:
    """State a reason for the rest of a session, or by an empty one that there is none any more."""
    given = await bodies.read(request, Reason)
    secret = callers.session_secret(request)
    if secret is None:
        raise InvalidParameter(f"only a session keeps a reason; others state it by {callers.BREAK_GLASS}")
    reason = given.reason.strip()
    if not reason.isprintable():
        raise InvalidParameter("reason: printable characters")
    core, caller = request.app[CORE], request[CALLER]
    outcome = "reason stated" if reason else "reason withdrawn"
    core.door.record(AuditEvent("login", outcome, caller, caller.principal.tenant, (), reason))
    if not await request.app[OFFLOAD].run(Lane.ACCESS, sessions.state_reason, core.control, secret, reason):
        raise Unauthenticated("the session is over; log in again")
    return web.Response(status=204)


def _check_own_page(request: web.Request) -> None:
    """Nobody is to be logged in as somebody else by a page of another site.

    A browser says where a form is from: over https, or on this machine, by Sec-Fetch-Site; else by Origin. A program
    says neither.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = (request.host, urlsplit(roots.root(request)).netloc)
    is_own = site in ("same-origin", "none") if site else origin is None or origin.partition("://")[2] in own
    if not is_own:
        raise Forbidden("log in by the page of this gateway")


def _place(to: str) -> str:
    return to if _TO.fullmatch(to) else ""


def _path(request: web.Request) -> str:
    return f"{roots.path(request)}/login"


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
