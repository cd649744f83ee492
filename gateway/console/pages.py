"""The console's static files. They hold no data: the page asks the DICOMweb face, with the rights of who looks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources

from aiohttp import web

from gateway.http.route import Handler, Route

FOLDER = "/console"
"""Where the files are found beside the page, which is "/"."""

INDEX = "index.html"
_SCRIPT, _STYLE, _PAGE, _PICTURE = "text/javascript", "text/css", "text/html", "image/svg+xml"
MEDIA_TYPES = {
    INDEX: _PAGE,
    "console.css": _STYLE,
    "administration.css": _STYLE,
    "icon.svg": _PICTURE,
    "activity.js": _SCRIPT,
    "associations.js": _SCRIPT,
    "attributes.js": _SCRIPT,
    "audit.js": _SCRIPT,
    "app.js": _SCRIPT,
    "arrivals.js": _SCRIPT,
    "access.js": _SCRIPT,
    "accesses.js": _SCRIPT,
    "account.js": _SCRIPT,
    "dicomweb.js": _SCRIPT,
    "download.js": _SCRIPT,
    "drops.js": _SCRIPT,
    "elements.js": _SCRIPT,
    "navigation.js": _SCRIPT,
    "operations.js": _SCRIPT,
    "part10.js": _SCRIPT,
    "peers.js": _SCRIPT,
    "pictures.js": _SCRIPT,
    "policy.js": _SCRIPT,
    "quarantine.js": _SCRIPT,
    "sending.js": _SCRIPT,
    "share.js": _SCRIPT,
    "shares.js": _SCRIPT,
    "studies.js": _SCRIPT,
    "study.js": _SCRIPT,
    "text.js": _SCRIPT,
    "upload.js": _SCRIPT,
    "viewer.js": _SCRIPT,
    "viewers.js": _SCRIPT,
}
"""Every file of the console; nothing else is served, so that no path can lead out of the folder."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Asked for again each time, so that a page never meets the scripts of another release.
    "Cache-Control": "no-cache",
}


def routes() -> list[Route]:
    """The page and its files; public, since somebody without an API key must be able to type one."""
    files = [
        Route("GET", f"{FOLDER}/{name}", _handler(name), None, for_links=True) for name in MEDIA_TYPES if name != INDEX
    ]
    return [Route("GET", "/", _handler(INDEX), None), *files]


def _handler(name: str) -> Handler:
    answer = file(name)

    async def handler(request: web.Request) -> web.StreamResponse:
        return answer(request)

    return handler


def file(name: str) -> Callable[[web.Request], web.Response]:
    """What answers with one file, read once: a release does not change while it runs."""
    media_type = MEDIA_TYPES[name]
    body = resources.files(__package__).joinpath("static", name).read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": etag}

    def answer(request: web.Request) -> web.Response:
        known = [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]
        if etag in known or "*" in known:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=media_type, charset="utf-8", headers=headers)

    return answer


page = file(INDEX)
"""What answers with the page itself."""
