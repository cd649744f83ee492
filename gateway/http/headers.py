"""Headers that every answer has, so that a browser does with it what was meant and nothing else."""

from __future__ import annotations

from aiohttp import web

CONTENT_SECURITY_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
"""Of whatever has no policy of its own: data. Opened as a page it runs nothing, and is of no origin."""

_EVERY = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "private, no-store",
}


def secure(response: web.StreamResponse) -> None:
    """Add what the answer does not say for itself."""
    for name, value in _EVERY.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "gateway"  # rather than the names and versions of what it is made of


def strict_transport(response: web.StreamResponse, max_age_s: int) -> None:
    """Have browsers use https alone for this host from now on (RFC 6797); 0 says nothing."""
    if max_age_s:
        response.headers["Strict-Transport-Security"] = f"max-age={max_age_s}"
