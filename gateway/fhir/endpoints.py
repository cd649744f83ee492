"""Search and read of Endpoint (https://hl7.org/fhir/R4/endpoint.html#search)."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from aiohttp import web

from gateway.access.actions import Action
from gateway.errors import NotFound
from gateway.fhir import answers, endpoint, media_types, values
from gateway.fhir.asked import given, parsed
from gateway.fhir.elements import Element
from gateway.fhir.seen import Seen
from gateway.http.keys import CALLER, CORE, OFFLOAD, SHOWN
from gateway.http.offload import Lane

KIND = "Endpoint"
PARAMETERS = {"_id": "token", "connection-type": "token", "status": "token"}
"""Search parameters, and the types that FHIR gives them."""


async def search(request: web.Request) -> web.StreamResponse:
    """The service roots of WADO-RS that the caller may read from, as a Bundle."""
    parameters = await given(request)
    media_type = media_types.chosen(request, parameters)
    asked = parsed(request, parameters, PARAMETERS)
    wanted = [(name, values.tokens(name, text)) for name, text in asked.of_resource]

    def ask() -> bytes:
        found = [
            each
            for each in _entered(request, Action.SEARCH)
            if all(_code(each, name) in {token.code for token in tokens} for name, tokens in wanted)
        ]
        pages = Seen(request).page_names(KIND)
        (start,) = map(int, pages.position(asked.page) or (0,))
        end = start + asked.count
        following = f"{KIND}?{asked.query(pages.after((end,)))}" if asked.count and found[end:] else None
        this = f"{KIND}?{asked.query()}" if asked.understood else KIND
        return orjson.dumps(answers.searchset(answers.base(request), this, following, len(found), found[start:end]))

    return answers.answer(await request.app[OFFLOAD].run(Lane.INDEX, ask), media_type)


async def read(request: web.Request) -> web.StreamResponse:
    """One service root of WADO-RS."""
    media_type, name = media_types.chosen(request), answers.logical_id(request)

    def ask() -> bytes:
        found = next((each for each in _entered(request, Action.READ) if each["id"] == name), None)
        if found is None:
            raise NotFound("there is no such endpoint")
        return orjson.dumps(found)

    return answers.answer(await request.app[OFFLOAD].run(Lane.INDEX, ask), media_type)


def _entered(request: web.Request, action: Action) -> Sequence[Element]:
    """The endpoints, for who may do anything here: otherwise they would tell which views there are."""
    request.app[CORE].door.onto(request[SHOWN].view).enter(request[CALLER], action, (KIND,))
    return [each.resource() for each in endpoint.every(request)]


def _code(found: Element, name: str) -> str:
    """What a search parameter looks at."""
    value = {"_id": found["id"], "status": found["status"], "connection-type": found["connectionType"]["code"]}[name]
    return str(value)
