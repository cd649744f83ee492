"""Liveness, which asks nothing, and readiness, which asks every engine."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from gateway.http import problem
from gateway.http.keys import CORE, OFFLOAD, REQUEST_ID
from gateway.http.offload import Lane
from gateway.http.route import Route


async def live(_request: web.Request) -> web.StreamResponse:
    """The process answers."""
    return web.json_response({"status": "live"})


async def ready(request: web.Request) -> web.StreamResponse:
    """Index and objects answer; 503 otherwise. Says so where the archive is only read."""
    fault = await request.app[OFFLOAD].run(Lane.LONG, request.app[CORE].probe.fault)
    if fault is not None:
        return problem.body(HTTPStatus.SERVICE_UNAVAILABLE, fault, request[REQUEST_ID])
    reading = {"read_only": True} if request.app[CORE].settings.storage.read_only else {}
    return web.json_response({"status": "ready", **reading})


def routes() -> list[Route]:
    """The health routes; public, since they tell nothing of the archive."""
    return [
        Route("GET", "/health/live", live, None, fixed=True),
        Route("GET", "/health/ready", ready, None, fixed=True),
    ]
