"""Keys and explanations of the policy over HTTP, for administrators of a tenant."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from aiohttp import web
from pydantic import Field

from gateway.access.actions import Action
from gateway.access.rules import attributes
from gateway.context import Principal, PrincipalKind
from gateway.entrance import bodies
from gateway.entrance.bodies import Body
from gateway.errors import InvalidParameter
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.route import Route
from gateway.viewing import reidentifying
from storage.dicom import identifiers as ids

_HEADERS = {"Cache-Control": "no-store"}


class Wanted(Body):
    """A key to be made."""

    name: str
    roles: Annotated[frozenset[str], Field(min_length=1)]
    networks: tuple[str, ...] = ()
    days: Annotated[float, Field(gt=0, le=36_600)] | None = None


async def make_key(request: web.Request) -> web.StreamResponse:
    """Make an API key; it is told this once."""
    wanted = await bodies.read(request, Wanted)
    caller = request[CALLER]
    key, made = await request.app[OFFLOAD].run(
        Lane.ACCESS,
        request.app[CORE].accounts.create_key,
        caller,
        caller.principal.tenant,
        wanted.name,
        wanted.roles,
        networks=wanted.networks,
        days=wanted.days,
    )
    return web.json_response({"key": key, **dataclasses.asdict(made)}, status=201, headers=_HEADERS)


async def list_keys(request: web.Request) -> web.StreamResponse:
    """The API keys that are good, without what is secret of them."""
    caller = request[CALLER]
    found = await request.app[OFFLOAD].run(
        Lane.ACCESS, request.app[CORE].accounts.keys, caller, caller.principal.tenant
    )
    return web.json_response({"keys": [dataclasses.asdict(each) for each in found]}, headers=_HEADERS)


async def revoke_key(request: web.Request) -> web.StreamResponse:
    """Make an API key no good."""
    caller = request[CALLER]
    accounts, key_id = request.app[CORE].accounts, request.match_info["key"]
    await request.app[OFFLOAD].run(Lane.ACCESS, accounts.revoke_key, caller, caller.principal.tenant, key_id)
    return web.Response(status=204)


async def explain(request: web.Request) -> web.StreamResponse:
    """Which rules let a principal do something, and why the others do not."""
    caller, query = request[CALLER], request.query
    try:
        action = Action(query.get("action", Action.READ))
    except ValueError as error:
        raise InvalidParameter(f"action: one of {', '.join(Action)}") from error
    study = ids.study_uid(query["study"]) if "study" in query else None
    accounts, tenant = request.app[CORE].accounts, caller.principal.tenant
    run = request.app[OFFLOAD].run
    if "principal" in query:
        principal = await run(Lane.ACCESS, accounts.known, tenant, query["principal"])
    elif "role" in query:
        person = query.get("person", "")
        roles = frozenset(query.getall("role"))
        principal = Principal("somebody", PrincipalKind.OIDC, tenant, roles, attributes("somebody", person))
    else:
        raise InvalidParameter("principal or role: one of them is needed")
    reason = query.get("reason", "")
    found = await run(Lane.ACCESS, accounts.explain, caller, tenant, principal, action, study, reason)
    return web.json_response(found.told(), headers=_HEADERS)


async def reidentify(request: web.Request) -> web.StreamResponse:
    """Whose a pseudonym of a view is."""
    caller, query = request[CALLER], request.query
    if len(query) != 1:
        raise InvalidParameter(f"one of {', '.join(reidentifying.KEYS)}")
    ((key, value),) = query.items()
    found = await request.app[OFFLOAD].run(
        Lane.INDEX,
        request.app[CORE].reidentification.find,
        caller,
        caller.principal.tenant,
        request.match_info["name"],
        key,
        value,
    )
    return web.json_response([dict(each.told()) for each in found], headers=_HEADERS)


def routes() -> list[Route]:
    """``/admin``."""
    return [
        Route("POST", "/admin/keys", make_key, Action.ADMIN),
        Route("GET", "/admin/keys", list_keys, Action.ADMIN),
        Route("DELETE", "/admin/keys/{key}", revoke_key, Action.ADMIN),
        Route("GET", "/admin/explain", explain, Action.ADMIN),
        Route("GET", "/admin/reidentification/{name}", reidentify, Action.REIDENTIFY),
    ]
