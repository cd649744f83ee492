"""The FHIR face beside the DICOMweb face, on a Core of its own; every answer is validated by the models of FHIR."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.endpoint import Endpoint
from fhir.resources.R4B.imagingstudy import ImagingStudy
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.patient import Patient

from gateway.assembly import Core
from gateway.dicomweb.routes import routes as dicomweb_routes
from gateway.fhir.routes import routes
from gateway.http import application

Client = TestClient[Any, Any]
MODELS: dict[str, Any] = {
    "AuditEvent": AuditEvent,
    "Bundle": Bundle,
    "CapabilityStatement": CapabilityStatement,
    "Endpoint": Endpoint,
    "ImagingStudy": ImagingStudy,
    "OperationOutcome": OperationOutcome,
    "Patient": Patient,
}


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    """A client of the application; its address is this machine's, so it may do everything."""
    return await aiohttp_client(application.build(core, [*routes(), *dicomweb_routes()]))


def valid(found: dict[str, Any]) -> dict[str, Any]:
    """A resource, by the model of its type; in a Bundle each of its own."""
    MODELS[found["resourceType"]].model_validate(found)
    for entry in found.get("entry", ()):
        valid(entry["resource"])
    return found


async def get(
    client: Client, path: str, status: int = 200, headers: dict[str, str] | None = None, root: str = "/fhir"
) -> dict[str, Any]:
    """A resource, which has to be valid."""
    where = path if path.startswith(("/", "http")) else f"{root}/{path}"
    async with client.get(where, headers=headers or {}) as response:
        found = await response.json(content_type=None)
        assert response.status == status, found
        assert response.headers["Content-Type"] == "application/fhir+json; charset=utf-8"
        return valid(found)


def matches(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    """What a search found, without what came with it."""
    return [entry["resource"] for entry in bundle.get("entry", ()) if entry["search"]["mode"] == "match"]


def ids(bundle: dict[str, Any]) -> list[str]:
    """The logical ids of what a search found."""
    return [each["id"] for each in matches(bundle)]


def links(bundle: dict[str, Any]) -> dict[str, str]:
    """A Bundle's links by their relation, below the host."""
    return {each["relation"]: "/" + each["url"].split("/", 3)[3] for each in bundle["link"]}
