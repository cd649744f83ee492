"""What the service says of itself."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from gateway.dicomweb.api import OPERATIONS
from gateway.dicomweb.routes import routes
from tests.gateway.dicomweb.conftest import Client

NS = "{http://wadl.dev.java.net/2009/02}"


async def document(client: Client) -> dict[str, Any]:
    async with client.get("/dicomweb/openapi.json") as response:
        assert response.status == 200
        found: dict[str, Any] = await response.json()
        return found


def test_every_route_that_asks_for_a_caller_has_its_operation_and_no_other_has() -> None:
    guarded = {(route.method, route.path) for route in routes() if route.action is not None}
    assert guarded == set(OPERATIONS)


async def test_the_document_has_every_path_and_names_its_server(client: Client) -> None:
    found = await document(client)
    assert found["openapi"] == "3.1.0"
    assert found["servers"] == [{"url": str(client.make_url("/dicomweb"))}]
    methods = {
        (method.upper(), f"/dicomweb{path}"): operation
        for path, entry in found["paths"].items()
        for method, operation in entry.items()
        if method != "parameters"
    }
    assert set(methods) == set(OPERATIONS)
    assert len({each["operationId"] for each in methods.values()}) == len(methods)
    assert all(each["summary"] for each in methods.values())


async def test_capabilities_come_as_wadl_and_as_json(client: Client) -> None:
    async with client.options("/dicomweb") as response:
        assert (response.status, response.content_type) == (200, "application/vnd.sun.wadl+xml")
        root = ET.fromstring(await response.text())
    paths = {resource.get("path") for resource in root.iter(f"{NS}resource")}
    assert {"studies", "studies/{study}", "studies/{study}/series/{series}/metadata"} <= paths
    (search,) = [each for each in root.iter(f"{NS}resource") if each.get("path") == "studies"]
    names = {each.get("name") for each in search.iter(f"{NS}param")}
    assert {"limit", "offset", "includefield", "PatientName", "StudyDate"} <= names
    async with client.options("/dicomweb", headers={"Accept": "application/json"}) as response:
        assert (await response.json())["paths"] == (await document(client))["paths"]
    async with client.options("/dicomweb", headers={"Accept": "image/png"}) as response:
        assert response.status == 406


async def test_the_page_lists_the_operations_and_runs_nothing(client: Client) -> None:
    async with client.get("/dicomweb/api") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        assert "script" not in response.headers["Content-Security-Policy"]
        text = await response.text()
        etag = response.headers["ETag"]
    assert "/studies/{study}/series/{series}/instances/{instance}/rendered" in text
    assert "<script" not in text
    async with client.get("/dicomweb/api", headers={"If-None-Match": etag}) as response:
        assert response.status == 304


@pytest.mark.parametrize("path", ["/dicomweb/openapi.json", "/dicomweb/api"])
async def test_what_the_service_says_of_itself_needs_no_key(client: Client, path: str) -> None:
    async with client.get(path, headers={"X-Forwarded-For": "10.0.0.1"}) as response:
        assert response.status == 200
