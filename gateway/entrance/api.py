"""What each route of the entrance takes and gives, as data; and the OpenAPI document and page made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from gateway.access.actions import Action
from gateway.entrance import (
    activity,
    administration,
    associations,
    deidentified,
    history,
    login,
    peers,
    quarantine,
    shares,
    trail,
)
from gateway.entrance.bodies import FORM, JSON, Body
from gateway.http import api_page, openapi, roots
from gateway.http.openapi import Operation, Parameter, Schema
from gateway.http.route import SHARED_PATH, TOKEN, Route
from gateway.viewing import reidentifying

_HTML = "text/html"
_ABOUT = (
    "Share links, logging in and sessions, API keys, explanations of the policy, peers, activity, quarantine, "
    "the audit trail."
)


def _body(kind: type[Body], *media_types: str) -> Mapping[str, Schema]:
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    found = schema.pop("$defs", {})
    # Actions are the one thing that bodies name beside values.
    schema = orjson.loads(
        orjson.dumps(schema).replace(b'{"$ref":"#/components/schemas/Action"}', orjson.dumps(found.get("Action", {})))
    )
    return dict.fromkeys(media_types, schema)


_SHARE, _VIEWS, _LOGIN, _ADMIN = "Share links", "De-identified views", "Logging in", "Administration"
_STUDY: Schema = {"type": "string", "pattern": r"^[0-9.]+$", "maxLength": 64}
_ACTION: Schema = {"type": "string", "enum": [each.value for each in Action]}
_TO = Parameter("to", "Where on the console to go on: a fragment or query of its address")

PATH_PARAMETERS = {
    "link": Parameter("link", "Id of a share link"),
    TOKEN: Parameter(TOKEN, "Token of a share link"),
    "key": Parameter("key", "Id of an API key"),
    "name": Parameter("name", "Name of a de-identified view"),
    **peers.PATH_PARAMETERS,
    **quarantine.PATH_PARAMETERS,
    **history.PATH_PARAMETERS,
    "provider": Parameter("provider", "Number of the provider in the settings, from 0", {"type": "integer"}),
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/shares"): Operation(_SHARE, {201: (JSON,)}, (), (404, 413, 415), _body(shares.Wanted, JSON)),
    ("GET", "/shares"): Operation(_SHARE, {200: (JSON,)}),
    ("DELETE", "/shares/{link}"): Operation(_SHARE, {204: ()}, (), (404,)),
    ("GET", SHARED_PATH): Operation(_SHARE, {308: ()}, (), (404,)),
    ("GET", f"{SHARED_PATH}/"): Operation(
        _SHARE,
        {200: (_HTML,), 404: (_HTML,)},
        description="Beside it, dicomweb/ is the service root of the link: search, retrieval and rendering.",
    ),
    ("POST", f"{SHARED_PATH}/"): Operation(
        _SHARE, {200: (JSON,), 303: ()}, (), (404, 413, 415), _body(shares.Opening, JSON, FORM)
    ),
    ("GET", deidentified.PATH): Operation(
        _VIEWS,
        {200: (JSON,)},
        (Parameter("series", "Series Instance UID", _STUDY),),
        (404,),
        description="Needs read as stored, and download through the view.",
    ),
    ("GET", "/login"): Operation(_LOGIN, {200: (_HTML,)}, (_TO,)),
    ("POST", "/login"): Operation(
        _LOGIN, {303: (), 401: (_HTML,), 429: (_HTML,)}, (), (413, 415), _body(login.Shown, FORM, JSON)
    ),
    ("GET", "/login/{provider}"): Operation(_LOGIN, {303: (), 503: (_HTML,)}, (_TO,), (404,)),
    ("GET", "/login/callback"): Operation(
        _LOGIN,
        {303: (), 401: (_HTML,), 503: (_HTML,)},
        (Parameter("state", "As the browser took it along"), Parameter("code", "The provider's code")),
    ),
    ("POST", "/logout"): Operation(_LOGIN, {204: ()}),
    ("GET", "/session"): Operation(_LOGIN, {200: (JSON,)}),
    ("POST", "/session/reason"): Operation(_LOGIN, {204: ()}, (), (413, 415), _body(login.Reason, JSON)),
    ("POST", "/admin/keys"): Operation(_ADMIN, {201: (JSON,)}, (), (413, 415), _body(administration.Wanted, JSON)),
    ("GET", "/admin/keys"): Operation(_ADMIN, {200: (JSON,)}),
    ("DELETE", "/admin/keys/{key}"): Operation(_ADMIN, {204: ()}, (), (404,)),
    ("GET", "/admin/explain"): Operation(
        _ADMIN,
        {200: (JSON,)},
        (
            Parameter("principal", "Name of a principal of the policy, a user or a key; or role"),
            Parameter("role", "Roles of somebody", many=True),
            Parameter("person", "The person's name as in a data set, with role"),
            Parameter("action", "What is to be done; read unless given", _ACTION),
            Parameter("study", "Study Instance UID", _STUDY),
            Parameter("reason", "Why the glass is broken"),
        ),
        (404,),
    ),
    ("GET", "/admin/reidentification/{name}"): Operation(
        _ADMIN,
        {200: (JSON,)},
        tuple(Parameter(keyword, f"{keyword} as the view has it; one of them") for keyword in reidentifying.KEYS),
        (404,),
        description="What stands behind a pseudonym of a de-identified view; needs the action reidentify.",
    ),
    **peers.OPERATIONS,
    **activity.OPERATIONS,
    **associations.OPERATIONS,
    **history.OPERATIONS,
    **quarantine.OPERATIONS,
    **trail.OPERATIONS,
}
"""Every operation, by method and path."""


def routes(described: Sequence[Route]) -> list[Route]:
    """Document and page of other routes; public, since they tell nothing of anybody."""

    def made(request: web.Request) -> dict[str, Any]:
        return openapi.document(described, OPERATIONS, PATH_PARAMETERS, "", roots.root(request), about=_ABOUT)

    async def document(request: web.Request) -> web.StreamResponse:
        """The OpenAPI document."""
        return web.Response(body=orjson.dumps(made(request)), content_type=JSON, headers={"Cache-Control": "no-cache"})

    async def page(request: web.Request) -> web.StreamResponse:
        """The OpenAPI document for people."""
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": api_page.CONTENT_SECURITY_POLICY}
        return web.Response(text=api_page.render(made(request)), content_type=_HTML, headers=headers)

    return [Route("GET", "/openapi.json", document, None), Route("GET", "/api", page, None)]
