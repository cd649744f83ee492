"""The aiohttp application: routes that declare their action, and what surrounds every request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from aiohttp import web

from gateway import log
from gateway.access.throttle import source_of
from gateway.assembly import Core
from gateway.config.serving import HttpSettings
from gateway.context import RequestId, new_request_id
from gateway.errors import AuditUnavailable
from gateway.http import callers, cors, headers, problem, roots
from gateway.http.connections import Connection
from gateway.http.deprecation import DEPRECATED
from gateway.http.followers import Followers
from gateway.http.keys import CALLER, CORE, LIMITS, OFFLOAD, PICTURES, REQUEST_ID, SHOWN
from gateway.http.limits import limits
from gateway.http.offload import Lane, Offload
from gateway.http.route import SHARED_PATH, VIEW_PATH, Handler, Refusal, Route
from gateway.services.pictures import Pictures

_log = logging.getLogger("gateway.http")

PIECE_BYTES = 1 << 18
"""So much of an answer is handed to a connection at a time."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
_BELOW = frozenset(path.rpartition("/")[0] for path in (SHARED_PATH, VIEW_PATH))
"""Paths below which there are others once more, after the name of a link or view."""
_LEFT = 499
"""In metrics: the client left before its answer."""


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
FOLLOWERS = web.AppKey("followers", dict[str, Followers])
"""Who follows the changes of what is shown, by the view's name."""
REFUSALS = web.AppKey("refusals", dict[str, Refusal])
"""How errors are told, by the first part of a path."""


def build(core: Core, routes: Sequence[Route]) -> web.Application:
    """The application of one HTTP process."""
    app = web.Application(middlewares=[_surround], client_max_size=1 << 20)
    app[CORE] = core
    app[UNDER_WAY] = UnderWay()
    app[LIMITS] = limits(core)
    app[REFUSALS] = {each.path.split("/")[1]: each.refusal for each in routes if each.refusal is not None}
    app.cleanup_ctx.append(_offload)
    app.on_response_prepare.append(_headers)
    prefix = core.settings.http.path_prefix
    served = [
        *routes,
        *(replace(each, path=SHARED_PATH + each.path) for each in routes if each.for_links),
        *(replace(each, path=VIEW_PATH + each.path) for each in routes if each.for_views),
    ]
    # Those that begin alike are tried in turn, and there are dozens: an image is asked for more often than a study.
    for route in sorted(served, key=lambda route: ("{" in route.path, -route.path.count("/"))):
        path = route.path if route.fixed else prefix + route.path
        app.router.add_route(route.method, path, _served(route))
        if route.method == "GET":
            app.router.add_route("HEAD", path, _served(route))
    for path in {route.path for route in served if route.action is not None}:
        methods = sorted({route.method for route in served if route.path == path})
        app.router.add_route("OPTIONS", prefix + path, cors.preflight(core.settings.http.cors_origins, methods))
    if prefix:
        app.router.add_get(prefix, _to_page)
    return app


async def _to_page(request: web.Request) -> web.StreamResponse:
    """The page's own links are relative to the folder that it stands in."""
    return web.Response(status=308, headers={"Location": f"{request.path.rpartition('/')[2]}/"})


async def _offload(app: web.Application) -> AsyncIterator[None]:
    app[PICTURES] = pictures = Pictures(app[CORE].settings.imaging.picture_cache_bytes)
    app[OFFLOAD] = offload = Offload(app[CORE].metrics.in_lane)
    core, under_way = app[CORE], app[UNDER_WAY]
    app[FOLLOWERS] = {
        shown.view.name: Followers(
            partial(offload.run, Lane.INDEX, shown.feed.state),
            core.settings.http.max_followers,
            lambda: under_way.draining,
        )
        for shown in core.projections.every
    }
    yield
    pictures.close()
    await asyncio.to_thread(app[OFFLOAD].close)


def _served(route: Route) -> Handler:
    """Whose answers say that it is deprecated, where it is."""
    handler, deprecated = _guarded(route), route.deprecated
    if deprecated is None:
        return handler

    async def told(request: web.Request) -> web.StreamResponse:
        request[DEPRECATED] = deprecated
        return await handler(request)

    return told


def _guarded(route: Route) -> Handler:
    """Identify the caller before the handler runs; a public route has none."""
    action = route.action
    if action is None:
        return route.handler

    async def handler(request: web.Request) -> web.StreamResponse:
        bounds = request.app[LIMITS]
        bounds.sources.take(source_of(roots.origin(request).address))
        request[CALLER] = caller = await callers.identify(request)
        who = caller.principal
        bounds.principals.take(f"{who.kind} {who.name} of {who.tenant}")
        request[SHOWN] = callers.shown(request, caller, action)
        return await route.handler(request)

    return handler


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    headers.secure(response)
    http = request.app[CORE].settings.http
    if _by_https(request, http):
        headers.strict_transport(response, http.hsts_max_age_s)
    if request.app[UNDER_WAY].draining or (isinstance(request.protocol, Connection) and request.protocol.gives_up):
        response.force_close()
    response.headers["X-Request-Id"] = request.get(REQUEST_ID, "")
    if DEPRECATED in request:
        response.headers.extend(request[DEPRECATED].headers)
    cors.allow(http.cors_origins, request, response)


def _by_https(request: web.Request, http: HttpSettings) -> bool:
    """Whether the client came by https, to us or to a trusted proxy of a public URL that is https."""
    if http.tls_certificate_file is not None:
        return True
    if http.public_url is None or http.public_url.scheme != "https" or not http.trusted_proxies:
        return False
    return roots.origin(request).scheme == "https"


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
    # In tests an application may be served by aiohttp itself.
    connection = request.protocol if isinstance(request.protocol, Connection) else None
    if connection is not None:
        connection.begun(request)
    status = _LEFT
    try:
        with (
            core.metrics.requests_active.track_inprogress(),
            core.tracer.request(f"{method} {route}", request.headers, **{"http.route": route}) as span,
        ):
            span.set(**{"http.request.method": method, "gateway.request": request_id})
            response = await _in_pieces(request, await _answered(request, handler, request_id, started_s))
            status = response.status
            span.set(**{"http.response.status_code": status})
        return response
    finally:
        core.metrics.answered(route, method, status, time.monotonic() - started_s)
        under_way.end()
        if connection is not None:
            connection.ended()


async def _in_pieces(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Send a long body piece by piece: at once it would lie in the connection's buffers, with TLS twice."""
    body = response.body if isinstance(response, web.Response) else None
    if not isinstance(body, bytes) or len(body) <= PIECE_BYTES or request.method == "HEAD" or response.prepared:
        return response
    response.headers["Content-Length"] = str(len(body))
    sent = web.StreamResponse(status=response.status, headers=response.headers)
    with contextlib.suppress(ConnectionError):  # the client has gone
        await sent.prepare(request)
        view = memoryview(body)
        for start in range(0, len(body), PIECE_BYTES):
            await sent.write(view[start : start + PIECE_BYTES])
        await sent.write_eof()
    return sent


async def _answered(
    request: web.Request, handler: Handler, request_id: RequestId, started_s: float
) -> web.StreamResponse:
    refusal = _refusal(request)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        status = HTTPStatus(error.status)
        response = refusal(status, status.description or status.phrase, request_id)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except asyncio.CancelledError:
        _log.info("%s %s left by the client", request_id, request.method)
        raise
    except AuditUnavailable as error:
        _log.critical("%s the audit trail cannot be written: %s", request_id, error.__cause__)
        response = problem.response(error, request_id, refusal)
    except Exception as error:  # the boundary: whatever it is becomes an answer
        response = problem.response(error, request_id, refusal)
    _log.info("%s %s %s %d %.0f ms", request_id, request.method, _path(request), response.status, _ms(started_s))
    return response


def _refusal(request: web.Request) -> Refusal:
    """How errors are told where a request leads, whether or not there is anything."""
    parts = request.path.removeprefix(request.app[CORE].settings.http.path_prefix).split("/")[1:] or [""]
    if f"/{parts[0]}" in _BELOW:
        parts = parts[2:] or [""]
    return request.app[REFUSALS].get(parts[0], problem.body)


def _path(request: web.Request) -> str:
    """The route rather than the URL: a query may hold names and ids of patients."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(no route)"


def _ms(started_s: float) -> float:
    return (time.monotonic() - started_s) * 1000
