"""An operation that will go says so: in each of its answers, and in the OpenAPI document."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.http import api_page, application, openapi
from gateway.http.deprecation import Deprecation
from gateway.http.openapi import Operation
from gateway.http.route import Route

Client = TestClient[Any, Any]
GOING = Deprecation(
    datetime.date(2026, 1, 31), "/new", "https://gateway.example.org/docs/api/#changes", datetime.date(2027, 3, 1)
)


async def streamed(request: web.Request) -> web.StreamResponse:
    """Something old.

    With more to say.
    """
    if "fail" in request.query:
        raise web.HTTPNotFound
    response = web.StreamResponse()
    await response.prepare(request)
    if request.method == "GET":
        await response.write(b"streamed")
    return response


OLD, NEW = (Route("GET", path, streamed, Action.SEARCH) for path in ("/old", "/new"))


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, [replace(OLD, deprecated=GOING, for_views=True), NEW]))


@pytest.mark.parametrize(("method", "query"), [("GET", ""), ("HEAD", ""), ("GET", "?fail")])
async def test_each_answer_says_so(client: Client, method: str, query: str) -> None:
    answer = await client.request(method, f"/old{query}")
    assert answer.status == (404 if query else 200)
    assert answer.headers["Deprecation"] == "@1769817600"
    assert answer.headers["Sunset"] == "Mon, 01 Mar 2027 00:00:00 GMT"
    assert (
        answer.headers["Link"] == '<https://gateway.example.org/docs/api/#changes>; rel="deprecation"; type="text/html"'
    )


async def test_others_do_not(client: Client) -> None:
    answer = await client.get("/new")
    assert answer.status == 200
    assert {"Deprecation", "Sunset", "Link"} & set(answer.headers) == set()


def test_without_a_day_there_is_no_sunset() -> None:
    assert set(replace(GOING, sunset=None).headers) == {"Deprecation", "Link"}


def test_a_day_that_comes_too_soon_is_refused() -> None:
    with pytest.raises(ValueError, match="365 days"):
        replace(GOING, sunset=datetime.date(2026, 12, 31))


def test_the_document_and_its_page_mark_it() -> None:
    routes = [replace(OLD, deprecated=GOING), NEW]
    operations = {("GET", each.path): Operation("Things", {200: ("text/plain",)}) for each in routes}
    document = openapi.document(routes, operations, {}, "", "/", about="")
    old, new = (document["paths"][each.path]["get"] for each in routes)
    assert old["deprecated"] is True
    assert old["description"] == (
        "Deprecated since 2026-01-31, and goes on 2027-03-01 at the earliest; instead: /new. With more to say."
    )
    assert "deprecated" not in new
    page = api_page.render(document)
    assert page.count("<span class=quiet>deprecated</span>") == 1
