"""Who calls over HTTP: a key, a token, a password, a browser that logged in, or somebody on this very machine."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from aiohttp import web

from gateway.access.actions import Action
from gateway.access.attempts import digest
from gateway.access.authentication import Credential, Proven, Scheme
from gateway.access.throttle import source_of
from gateway.context import Caller, Principal, Source
from gateway.errors import Forbidden, InvalidParameter, Unauthenticated
from gateway.http import roots
from gateway.http.keys import CORE, LIMITS, OFFLOAD, REQUEST_ID
from gateway.http.offload import Lane
from gateway.http.route import TOKEN, VIEW
from gateway.services.projection import Projection

COOKIE, SECURE_COOKIE = "gateway-session", "__Host-gateway-session"
"""Of a browser's session; the second one over https, which no page of a neighbouring host can set."""
OPENED = "gateway-share"
"""The cookie that the opening of a share link gives, for the link's own path."""
BREAK_GLASS, CSRF = "X-Break-Glass", "X-CSRF-Token"
_PROTOCOLS = (("/dicomweb", "DICOMweb"), ("/fhir", "FHIR"))
_LONGEST_REASON = 200
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
T = TypeVar("T")

_TOLD = "the API key or token is not accepted"
"""Why is for the trail: whoever tries what a token may be like learns nothing."""
_HOW = "show an API key or token: Authorization: Bearer KEY"


async def identify(request: web.Request) -> Caller:
    """The caller of a request.

    Raises
    ------
    Unauthenticated
        Nobody that is known.
    NotFound
        There is no such share link, or none any more.
    TooManyRequests
        There were too many such requests; this one was not looked at.
    Forbidden
        A page of another site had a browser send it.
    IdentityUnavailable, storage.errors.StorageUnavailable
        Who it is cannot be found out now.
    """
    where, shown = source(request), _shown(request)
    if shown is None:
        principal = _of_place(request, where.address)
        if principal is None:
            bounds = request.app[LIMITS]
            bounds.unauthenticated.take(source_of(where.address))
            bounds.attempts.refused(where, _HOW)
            raise Unauthenticated(_HOW)
        return Caller(principal, where, _reason(request))
    proven = await _prove(request, shown, where)
    if shown.scheme is Scheme.SESSION and request.method not in _SAFE:
        _check_same_site(request, proven)
    return Caller(proven.principal, where, _reason(request) or proven.reason)


def source(request: web.Request) -> Source:
    """Where a request comes from."""
    protocol = next((name for part, name in _PROTOCOLS if part in request.path), "HTTP")
    return Source(protocol, roots.origin(request).address, request_id=request[REQUEST_ID])


def _of_place(request: web.Request, address: str) -> Principal | None:
    """Who somebody is by nothing but the place where the request comes from."""
    policy = request.app[CORE].door.policy
    found = policy.by_loopback(address) if _is_direct(request) else None
    if found is not None:
        return found
    # A page of another site must not have somebody's browser change something only because of where that stands.
    elsewhere = request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none")
    return None if elsewhere and request.method not in _SAFE else policy.anonymous(address)


def shown(request: web.Request, caller: Caller, action: Action) -> Projection:
    """What a caller sees, in the view that the path names if it does. Raises as ``Projections.of``."""
    return request.app[CORE].projections.of(caller, action, request.match_info.get(VIEW))


async def by_link(request: web.Request) -> None:
    """Look whether a share link, and what its opening gave, let in. Raises as ``identify``."""
    shown = _shown(request)
    assert shown is not None
    await _prove(request, shown, source(request))


async def _prove(request: web.Request, shown: Credential, where: Source) -> Proven:
    authenticator, attempts = request.app[CORE].authenticator, request.app[LIMITS].attempts
    # Where nothing else names it, its digest does, so that no secret is kept.
    claimed = shown.claimed or digest(shown.secret)
    if attempts.check(where, claimed):
        # Who comes again costs no question to an engine; of others it is asked whether another host has locked them.
        found = authenticator.declared(shown, where.address) or authenticator.remembered(shown, where.address)
        if found is not None:
            attempts.succeeded(where, claimed)
            return found

    def prove() -> Proven:
        return authenticator.declared(shown, where.address) or authenticator.prove(shown, where.address)

    try:
        return await attempt(request, where, claimed, prove)
    except Unauthenticated as error:
        if shown.scheme is not Scheme.BEARER:
            raise
        raise Unauthenticated(_TOLD) from error


async def attempt(request: web.Request, where: Source, claimed: str, call: Callable[[], T]) -> T:
    """Have something proven in a thread, as ``Attempts.prove`` does. Raises as that, and Busy."""
    return await request.app[OFFLOAD].run(Lane.ACCESS, request.app[LIMITS].attempts.prove, where, claimed, call)


def _shown(request: web.Request) -> Credential | None:
    if (token := request.match_info.get(TOKEN)) is not None:
        # The link alone counts: whoever follows it may be somebody else in the same browser.
        return Credential(Scheme.SHARE, token, opened=request.cookies.get(OPENED, ""))
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    value = value.strip()
    if value and scheme.lower() == "bearer":
        return _ascii(Credential(Scheme.BEARER, value))
    if value and scheme.lower() == "basic":
        return _basic(value)
    if (key := request.headers.get("X-API-Key")) is not None and key:
        return _ascii(Credential(Scheme.BEARER, key))
    cookie = _cookie(request)
    return _ascii(Credential(Scheme.SESSION, cookie)) if cookie else None


def session_secret(request: web.Request) -> str | None:
    """What the cookie of a session holds, if that is how the caller shows who it is."""
    shown = _shown(request)
    return shown.secret if shown is not None and shown.scheme is Scheme.SESSION else None


def _cookie(request: web.Request) -> str:
    """The cookie of a session, "" without one. Over https only the one that no neighbouring host can have set."""
    kept = request.cookies
    if SECURE_COOKIE in kept or COOKIE not in kept:
        return kept.get(SECURE_COOKIE, "")
    return "" if roots.is_secure(request) else kept[COOKIE]


def session_cookie(request: web.Request) -> str:
    """The name of a session's cookie, as the client reaches us."""
    return SECURE_COOKIE if roots.is_secure(request) else COOKIE


def _ascii(found: Credential) -> Credential:
    if not found.secret.isascii():
        # Nobody's, but counted as any other.
        return Credential(found.scheme, digest(found.secret))
    return found


def _basic(value: str) -> Credential:
    """RFC 7617."""
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        user = colon = password = ""
    return Credential(Scheme.BASIC, password, user if colon else "")


def _reason(request: web.Request) -> str:
    """What breaks the glass, as the request states it. Raises InvalidParameter."""
    reason = request.headers.get(BREAK_GLASS, "").strip()
    if len(reason) > _LONGEST_REASON or not reason.isprintable():
        raise InvalidParameter(f"{BREAK_GLASS}: up to {_LONGEST_REASON} printable characters")
    return reason


def _check_same_site(request: web.Request, proven: Proven) -> None:
    """A cookie comes along whoever had the browser send the request; what changes something needs more."""
    shown = request.headers.get(CSRF, "").encode("utf-8", "surrogateescape")
    if shown and hmac.compare_digest(shown, proven.csrf.encode()):
        return
    # Written by the browser itself: no page can (Fetch Metadata Request Headers).
    if request.headers.get("Sec-Fetch-Site") == "same-origin":
        return
    raise Forbidden(f"a request that changes something needs the session's {CSRF}, or to come from a page of ours")


def _is_direct(request: web.Request) -> bool:
    """Whether the request comes from a program on this machine, for this machine.

    A proxy on this machine speaks for others, and a web page of another site can make the browser here send requests
    under a name that resolves to this machine; neither is let in as "this machine".
    """
    if any(name in request.headers for name in _FORWARDING):
        return False
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    return host == "localhost" or _is_loopback(host.strip("[]"))


@lru_cache(64)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
