"""Who calls over HTTP: a key, a token, a password, a browser that logged in, or somebody on this very machine."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from typing import NoReturn

from aiohttp import web

from gateway.access.authentication import Credential, Proven, Scheme
from gateway.access.throttle import Throttle, source_of
from gateway.assembly import Core
from gateway.audit.events import AuditEvent
from gateway.context import Caller, Principal, PrincipalKind, RequestId, Source
from gateway.errors import Forbidden, InvalidParameter, Unauthenticated
from gateway.http.limits import Limits
from gateway.http.offload import Lane, Offload
from gateway.http.proxies import Origin

COOKIE, SECURE_COOKIE = "gateway-session", "__Host-gateway-session"
"""Of a browser's session; the second one over https, which no page of a neighbouring host can set."""
BREAK_GLASS, CSRF = "X-Break-Glass", "X-CSRF-Token"
_LONGEST_REASON = 200
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
_HOW = "show an API key or token: Authorization: Bearer KEY"


async def identify(
    request: web.Request, core: Core, offload: Offload, limits: Limits, origin: Origin, request_id: RequestId
) -> Caller:
    """The caller of a request.

    Raises
    ------
    Unauthenticated
        Nobody that is known.
    TooManyRequests
        There were too many such requests; this one was not looked at.
    Forbidden
        A page of another site had a browser send it.
    IdentityUnavailable, storage.errors.StorageUnavailable
        Who it is cannot be found out now.
    """
    protocol = "DICOMweb" if "/dicomweb" in request.path else "HTTP"
    source = Source(protocol, origin.address, request_id=request_id)
    shown = _shown(request)
    if shown is None:
        principal = core.door.policy.by_loopback(origin.address) if _is_direct(request) else None
        if principal is None:
            limits.unauthenticated.take(source_of(origin.address))
            refuse(core, source, _HOW)
        return Caller(principal, source, _reason(request))
    proven = await prove(core, offload, limits.attempts, shown, source)
    if shown.scheme is Scheme.SESSION and request.method not in _SAFE:
        _check_same_site(request, proven)
    return Caller(proven.principal, source, _reason(request) or proven.reason)


async def prove(core: Core, offload: Offload, attempts: Throttle, shown: Credential, source: Source) -> Proven:
    """Whose a credential is; failures are counted and recorded. Raises as ``identify``."""
    counted = source_of(source.address)
    # Where nothing else names it, its digest does, so that no secret is kept.
    claimed = shown.claimed or hashlib.sha256(shown.secret.encode("utf-8", "surrogateescape")).hexdigest()
    attempts.check(counted, claimed)
    found = core.authenticator.declared(shown, source.address) or core.authenticator.remembered(shown, source.address)
    if found is None:
        try:
            found = await offload.run(Lane.ACCESS, core.authenticator.prove, shown, source.address)
        except Unauthenticated as error:
            locked_s = attempts.failed(counted, claimed)
            refuse(core, source, str(error), locked_s)
    attempts.succeeded(counted, claimed)
    return found


def refuse(core: Core, source: Source, refusal: str, locked_s: float = 0.0) -> NoReturn:
    """Record that somebody is not let in, and say so: raises Unauthenticated, always."""
    nobody = Caller(Principal("unknown", PrincipalKind.API_KEY), source)
    core.door.record(AuditEvent("authenticate", "denied", nobody, detail=refusal))
    if locked_s:
        core.door.record(AuditEvent("authenticate", "locked", nobody, detail=f"for {locked_s:g} s"))
    raise Unauthenticated(refusal)


def _shown(request: web.Request) -> Credential | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    value = value.strip()
    if value and scheme.lower() == "bearer":
        return _ascii(Credential(Scheme.BEARER, value))
    if value and scheme.lower() == "basic":
        return _basic(value)
    if (key := request.headers.get("X-API-Key")) is not None and key:
        return _ascii(Credential(Scheme.BEARER, key))
    cookie = request.cookies.get(SECURE_COOKIE) or request.cookies.get(COOKIE)
    return Credential(Scheme.SESSION, cookie) if cookie else None


def _ascii(found: Credential) -> Credential:
    if not found.secret.isascii():
        # Nobody's, but counted as any other.
        return Credential(Scheme.BEARER, hashlib.sha256(found.secret.encode("utf-8", "surrogateescape")).hexdigest())
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
    shown = request.headers.get(CSRF, "")
    if shown and hmac.compare_digest(shown.encode(), proven.csrf.encode()):
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
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
