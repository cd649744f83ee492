"""The OpenAPI document of the entrance."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
import schemathesis

from gateway.calling.verifying import verify
from gateway.console.pages import page
from gateway.entrance import api
from gateway.entrance.routes import routes
from tests.gateway.entrance.conftest import Site


def test_every_route_is_described_and_nothing_else() -> None:
    described = {(each.method, each.path) for each in routes(page, verify)} - {
        ("GET", "/openapi.json"),
        ("GET", "/api"),
    }
    assert described == api.OPERATIONS.keys()


async def test_the_document_is_valid_and_says_what_needs_nobody(site: Site) -> None:
    found = (await site.ask("GET", "/openapi.json")).json
    operations = [each.ok() for each in schemathesis.openapi.from_dict(found).get_all_operations()]
    assert len(operations) == len(api.OPERATIONS)
    assert found["servers"] == [{"url": f"http://127.0.0.1:{site.client.port}"}]
    assert found["paths"]["/login"]["get"]["security"] == []
    assert "security" not in found["paths"]["/shares"]["post"]


@pytest.mark.parametrize(
    ("path", "body", "fits"),
    [
        ("/shares", {"studies": ["1.2"], "days": 2, "actions": ["read"], "uses": 3, "pin": "1234"}, True),
        ("/shares", {"studies": ["1.2"], "actions": ["fly"]}, False),
        ("/shares", {"studies": ["1.2"], "nonsense": 1}, False),
        ("/admin/keys", {"name": "robot", "roles": ["viewer"], "days": 3}, True),
        ("/admin/keys", {"name": "robot"}, False),
        ("/session/reason", {"reason": "x"}, True),
    ],
)
async def test_bodies_are_as_the_document_has_them(site: Site, path: str, body: dict[str, Any], fits: bool) -> None:
    found = (await site.ask("GET", "/openapi.json")).json
    schema = found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert jsonschema.Draft202012Validator(schema).is_valid(body) is fits


async def test_the_page_lists_every_path_and_runs_nothing(site: Site) -> None:
    answer = await site.ask("GET", "/api")
    listed = set(re.findall(r"<code>(/[^<]*)</code><span", answer.body.decode()))
    assert listed == {path for _, path in api.OPERATIONS}
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert b"<script" not in answer.body
