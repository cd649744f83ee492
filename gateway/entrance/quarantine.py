"""The quarantine over HTTP, for administrators."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from gateway.access.actions import Action
from gateway.entrance.bodies import JSON
from gateway.errors import InvalidParameter
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.openapi import Operation, Parameter
from gateway.http.route import Route
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier

_HEADERS = {"Cache-Control": "no-store"}
_TAG, _PATH = "Administration", "/admin/quarantine"
_MOST = 200

PATH_PARAMETERS = {"version": Parameter("version", "Version of an instance in quarantine, as the list has it")}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", _PATH): Operation(
        _TAG,
        {200: (JSON,)},
        (
            Parameter("after", "The version to go on from"),
            Parameter("limit", f"How many at most, up to {_MOST} (50)", {"type": "integer"}),
        ),
        description="Instances in quarantine, oldest first, with what each contradicts and who sent it.",
    ),
    ("GET", f"{_PATH}/{{version}}"): Operation(
        _TAG, {200: (JSON,)}, (), (404, 409), description="One of them, compared with the archive; needs read as well."
    ),
    ("POST", f"{_PATH}/{{version}}/release"): Operation(
        _TAG, {200: (JSON,)}, (), (404, 409), description="Stores one as if it were sent again."
    ),
    ("POST", f"{_PATH}/{{version}}/discard"): Operation(
        _TAG, {204: ()}, (), (404, 409), description="Removes one for good."
    ),
}


async def listed(request: web.Request) -> web.StreamResponse:
    """Some of the quarantine, oldest first."""
    caller, query = request[CALLER], request.query
    try:
        limit = int(query.get("limit", "50"))
    except ValueError as error:
        raise InvalidParameter("limit: a number") from error
    if not 1 <= limit <= _MOST:
        raise InvalidParameter(f"limit: 1 to {_MOST}")
    service, tenant = request.app[CORE].quarantine, ids.Tenant(caller.principal.tenant)
    found, total = await request.app[OFFLOAD].run(
        Lane.LONG, service.listed, caller, tenant, query.get("after", ""), limit
    )
    return web.json_response(
        {"total": total, "instances": [each.fields("milliseconds") for each in found]}, headers=_HEADERS
    )


async def inspect(request: web.Request) -> web.StreamResponse:
    """One of it, compared with what the archive has."""
    caller, service = request[CALLER], request.app[CORE].quarantine
    found = await request.app[OFFLOAD].run(
        Lane.LONG, service.inspect, caller, ids.Tenant(caller.principal.tenant), _version(request)
    )
    compared = [{"keyword": each.keyword, "here": each.here, "archive": each.archive} for each in found.compared]
    told = {**found.item.fields("milliseconds"), "against": found.against, "compared": compared}
    return web.json_response(told, headers=_HEADERS)


async def release(request: web.Request) -> web.StreamResponse:
    """Store one as if it were sent again."""
    caller, service = request[CALLER], request.app[CORE].quarantine
    outcome = await request.app[OFFLOAD].run(
        Lane.LONG, service.release, caller, ids.Tenant(caller.principal.tenant), _version(request)
    )
    return web.json_response({"outcome": outcome.value}, headers=_HEADERS)


async def discard(request: web.Request) -> web.StreamResponse:
    """Remove one for good."""
    caller, service = request[CALLER], request.app[CORE].quarantine
    await request.app[OFFLOAD].run(
        Lane.LONG, service.discard, caller, ids.Tenant(caller.principal.tenant), _version(request)
    )
    return web.Response(status=204)


def _version(request: web.Request) -> ids.Version:
    try:
        return ids.version(request.match_info["version"])
    except InvalidIdentifier as error:
        raise InvalidParameter("version: as the list of the quarantine has it") from error


def routes() -> list[Route]:
    """``/admin/quarantine``."""
    return [
        Route("GET", _PATH, listed, Action.ADMIN),
        Route("GET", f"{_PATH}/{{version}}", inspect, Action.ADMIN),
        Route("POST", f"{_PATH}/{{version}}/release", release, Action.ADMIN),
        Route("POST", f"{_PATH}/{{version}}/discard", discard, Action.ADMIN),
    ]
