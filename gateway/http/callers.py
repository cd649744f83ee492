"""Who calls over HTTP: an API key, or somebody on this very machine."""

from __future__ import annotations

import hashlib
import ipaddress

from aiohttp import web

from gateway.access.door import Door
from gateway.access.throttle import source_of
from gateway.audit.events import AuditEvent
from gateway.context import Caller, Principal, PrincipalKind, RequestId, Source
from gateway.errors import Unauthenticated
from gateway.http.limits import Limits

_FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


def identify(request: web.Request, door: Door, limits: Limits, address: str, request_id: RequestId) -> Caller:
    """The caller of a request from an address (``proxies.origin``).

    Raises
    ------
    Unauthenticated
        Nobody that the policy knows.
    TooManyRequests
        There were too many such requests; this one was not looked at.
    """
    protocol = "DICOMweb" if "/dicomweb" in request.path else "HTTP"
    source = Source(protocol, address, request_id=request_id)
    counted = source_of(address)
    key = _api_key(request)
    locked_s = 0.0
    if key is not None:
        # One key is one identity; its digest stands for it, so that no key is kept.
        claimed = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        limits.attempts.check(counted, claimed)
        principal = door.policy.by_api_key(key, address) if key.isascii() else None
        refusal = "the API key is not known"
        if principal is None:
            locked_s = limits.attempts.failed(counted, claimed)
        else:
            limits.attempts.succeeded(counted, claimed)
    else:
        principal = door.policy.by_loopback(address) if _is_direct(request) else None
        refusal = "show an API key: Authorization: Bearer KEY"
        if principal is None:
            limits.unauthenticated.take(counted)
    if principal is None:
        nobody = Caller(Principal("unknown", PrincipalKind.API_KEY), source)
        door.record(AuditEvent("authenticate", "denied", nobody, detail=refusal))
        if locked_s:
            door.record(AuditEvent("authenticate", "locked", nobody, detail=f"for {locked_s:g} s"))
        raise Unauthenticated(refusal)
    return Caller(principal, source)


def _api_key(request: web.Request) -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return request.headers.get("X-API-Key") or None


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
