"""Cross-origin requests from exactly the configured viewers (Fetch Standard "CORS protocol")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

_MAX_AGE_S = 86_400
_EXPOSED = (
    "Content-Range, ETag, Warning, Content-Location, Location, Retry-After, X-Total-Count, X-Total-Count-Relation, "
    "X-Snapshot, X-Request-Id, Deprecation, Sunset, Link"
)
_REQUEST_HEADERS = (
    "Authorization, X-API-Key, Accept, Content-Type, If-None-Match, If-Range, Range, Last-Event-ID, Prefer, "
    "X-Break-Glass"
)


def allow(origins: Sequence[str], request: web.Request, response: web.StreamResponse) -> None:
    """Let a configured origin's page read the response; any other gets nothing."""
    if origins:
        response.headers.add("Vary", "Origin")
    origin = request.headers.get("Origin")
    if origin is None or origin not in origins:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"


def preflight(origins: Sequence[str], methods: Sequence[str]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler of a path's OPTIONS: no caller is asked for and no engine touched."""
    allowed = ", ".join([*methods, "OPTIONS"])

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.Response(status=204, headers={"Allow": allowed})
        if request.headers.get("Origin") in origins:
            response.headers["Access-Control-Allow-Methods"] = allowed
            response.headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
            response.headers["Access-Control-Max-Age"] = str(_MAX_AGE_S)
        return response

    return handler
