"""The aiohttp application: routes that declare their action, and what surrounds every request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from gateway import log
from gateway.access.policy import Action
from gateway.assembly import Core
from gateway.context import Caller, RequestId, new_request_id
from gateway.errors import AuditUnavailable
from gateway.http import callers, cors, problem, proxies
from gateway.http.followers import Followers
from gateway.http.offload import Lane, Offload

CORE = web.AppKey("core", Core)
OFFLOAD = web.AppKey("offload", Offload)

CALLER = web.RequestKey("caller", Caller)
ORIGIN = web.RequestKey("origin", proxies.Origin)
REQUEST_ID = web.RequestKey("request_id", RequestId)
_ACTION = web.RequestKey("action", Action)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger("gateway.http")

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
_LEFT = 499
"""In metrics: the client left before its answer."""

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Route:
    """A method, a path and its handler. ``action`` is what a caller needs; None declares the route public.

    The path goes under the configured prefix, unless it is ``fixed``: probes on this machine come past every proxy.
    """

    method: str
    path: str
    handler: Handler
    action: Action | None
    fixed: bool = False


class UnderWay:
    """Counts requests, so that a process can end between them.

    aiohttp's own shutdown drops what still arrives of a body, and an upload under way would never end.
    """

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()
        self.draining = False

    def begin(self) -> None:
        """A request begins."""
        self._count += 1
        self._none.clear()

    def end(self) -> None:
        """A request has been answered, or its client has gone."""
        self._count -= 1
        if not self._count:
            self._none.set()

    async def drained(self, within_s: float) -> None:
        """Wait until no request is under way, or the time is over; connections close after their answers."""
        self.draining = True
        try:
            async with asyncio.timeout(within_s):
                await self._none.wait()
        except TimeoutError:
            _log.warning("%d requests were not over in %.0f s and are cut off", self._count, within_s)


UNDER_WAY = web.AppKey("under_way", UnderWay)
FOLLOWERS = web.AppKey("followers", Followers)


def build(core: Core, routes: Sequence[Route]) -> web.Application:
    """The application of one HTTP process."""
    app = web.Application(middlewares=[_surround], client_max_size=1 << 20)
    app[CORE] = core
    app[UNDER_WAY] = UnderWay()
    app.cleanup_ctx.append(_offload)
    app.on_response_prepare.append(_headers)
    prefix = core.settings.http.path_prefix
    for route in routes:
        path = route.path if route.fixed else prefix + route.path
        app.router.add_route(route.method, path, _guarded(route))
        if route.method == "GET":
            app.router.add_route("HEAD", path, _guarded(route))
    for path in {route.path for route in routes if route.action is not None}:
        methods = sorted({route.method for route in routes if route.path == path})
        app.router.add_route("OPTIONS", prefix + path, cors.preflight(core.settings.http.cors_origins, methods))
    if prefix:
        app.router.add_get(prefix, _to_page)
    return app


async def _to_page(request: web.Request) -> web.StreamResponse:
    """The page's own links are relative to the folder that it stands in."""
    return web.Response(status=308, headers={"Location": f"{request.path.rpartition('/')[2]}/"})


async def _offload(app: web.Application) -> AsyncIterator[None]:
    app[OFFLOAD] = offload = Offload(app[CORE].metrics.in_lane)
    core, under_way = app[CORE], app[UNDER_WAY]
    app[FOLLOWERS] = Followers(
        lambda: offload.run(Lane.INDEX, core.feed.state),
        core.settings.http.max_followers,
        lambda: under_way.draining,
    )
    yield
    await asyncio.to_thread(app[OFFLOAD].close)


def _guarded(route: Route) -> Handler:
    """Identify the caller before the handler runs; a public route has none."""
    if route.action is None:
        return route.handler

    async def handler(request: web.Request) -> web.StreamResponse:
        core = request.app[CORE]
        request[ORIGIN] = origin = proxies.origin(request, core.settings.http)
        request[CALLER] = callers.identify(request, core.door, origin.address, request[REQUEST_ID])
        return await route.handler(request)

    return handler


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if request.app[UNDER_WAY].draining:
        response.force_close()
    response.headers["X-Request-Id"] = request.get(REQUEST_ID, "")
    cors.allow(request.app[CORE].settings.http.cors_origins, request, response)


@web.middleware
async def _surround(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A request id, errors as problems, one log line without patient data."""
    request_id = request[REQUEST_ID] = new_request_id()
    log.bind(request_id)
    core, route = request.app[CORE], _path(request)
    # Any word can stand there; it is counted and traced only when it is a method that we know.
    method = request.method if request.method in _METHODS else "other"
    started_s = time.monotonic()
    under_way = request.app[UNDER_WAY]
    under_way.begin()
    status = _LEFT
    try:
        with (
            core.metrics.requests_active.track_inprogress(),
            core.tracer.request(f"{method} {route}", request.headers, **{"http.route": route}) as span,
        ):
            span.set(**{"http.request.method": method, "gateway.request": request_id})
            response = await _answered(request, handler, request_id, started_s)
            status = response.status
            span.set(**{"http.response.status_code": status})
        return response
    finally:
        core.metrics.answered(route, method, status, time.monotonic() - started_s)
        under_way.end()


async def _answered(
    request: web.Request, handler: Handler, request_id: RequestId, started_s: float
) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as error:
        status = HTTPStatus(error.status)
        response = problem.body(status, status.description or status.phrase, request_id)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except asyncio.CancelledError:
        _log.info("%s %s left by the client", request_id, request.method)
        raise
    except AuditUnavailable as error:
        _log.critical("%s the audit trail cannot be written: %s", request_id, error.__cause__)
        response = problem.response(error, request_id)
    except Exception as error:  # the boundary: whatever it is becomes a problem document
        response = problem.response(error, request_id)
    _log.info("%s %s %s %d %.0f ms", request_id, request.method, _path(request), response.status, _ms(started_s))
    return response


def _path(request: web.Request) -> str:
    """The route rather than the URL: a query may hold names and ids of patients."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(no route)"


def _ms(started_s: float) -> float:
    return (time.monotonic() - started_s) * 1000
