"""What the face can do, as a CapabilityStatement, and whom it trusts, as SMART App Launch has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway import assembly
from gateway.access.providers import Provider
from gateway.assembly import Core
from gateway.errors import NotFound
from gateway.fhir import answers, endpoints, imaging_studies, media_types, parameters, patients
from gateway.fhir.elements import Element, without_empty
from gateway.http.keys import CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.route import VIEW

_RELEASED = "2026-11-28"
"""When what the statement says was changed last."""
_SECURITY = "http://terminology.hl7.org/CodeSystem/restful-security-service"
_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_SMART_URIS = {"authorize": "authorization_endpoint", "token": "token_endpoint"}
"""Members of the extension, and what a provider calls them (RFC 8414)."""
_SMART_SAID = (
    "issuer", "jwks_uri", "authorization_endpoint", "token_endpoint", "introspection_endpoint", "revocation_endpoint",
    "grant_types_supported", "response_types_supported", "code_challenge_methods_supported",
    "token_endpoint_auth_methods_supported",
)  # fmt: skip
"""What is told of a provider as it says it itself."""
_SCOPES = tuple(
    f"{context}/ImagingStudy.{what}" for context in ("patient", "user", "system") for what in ("rs", "read")
)
_CAPABILITIES = ("smart-imaging-access", "permission-patient", "permission-user", "permission-v1", "permission-v2")
_TYPES: Mapping[str, Mapping[str, str]] = {
    "ImagingStudy": imaging_studies.PARAMETERS,
    "Patient": patients.PARAMETERS,
    "Endpoint": endpoints.PARAMETERS,
    "AuditEvent": parameters.TYPES,
}
_ONLY_AS_STORED = ("AuditEvent",)


async def metadata(request: web.Request) -> web.StreamResponse:
    """What this face can do, as a CapabilityStatement."""
    media_type, core = media_types.chosen(request), request.app[CORE]
    provider = _provider(core)
    said = {} if provider is None else await request.app[OFFLOAD].run(Lane.ACCESS, provider.said)
    in_view = VIEW in request.match_info
    types = [name for name in _TYPES if not in_view or name not in _ONLY_AS_STORED]
    rest = {
        "mode": "server",
        "security": _security(core, provider, said),
        "resource": [_resource(name, imaging_studies.ONLY_AS_STORED if in_view else frozenset()) for name in types],
    }
    statement = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _RELEASED,
        "kind": "instance",
        "software": {"name": "dicomweb-gateway", "version": assembly.release()},
        "implementation": {"description": "DICOMweb imaging gateway", "url": answers.base(request)},
        "fhirVersion": "4.0.1",
        "format": [media_types.FHIR_JSON, "json"],
        "rest": [rest],
    }
    return answers.resource(statement, media_type)


async def smart_configuration(request: web.Request) -> web.StreamResponse:
    """Where tokens for this face come from (SMART App Launch 2.2 "Conformance"); 404 without a provider of such."""
    core = request.app[CORE]
    provider = _provider(core)
    if provider is None or not provider.settings.smart:
        raise NotFound("no provider gives tokens with SMART scopes")
    said = await request.app[OFFLOAD].run(Lane.ACCESS, provider.said)
    found: dict[str, Any] = {
        "issuer": provider.settings.issuer,
        **{name: said[name] for name in _SMART_SAID if name in said},
        "scopes_supported": _SCOPES,
        "capabilities": _CAPABILITIES,
    }
    return answers.answer(orjson.dumps(found), media_types.JSON)


def _provider(core: Core) -> Provider | None:
    """The provider that the face tells of: the first whose tokens have SMART scopes, else the first."""
    with_scopes = (each for each in core.providers if each.settings.smart)
    return next(with_scopes, next(iter(core.providers), None))


def _security(core: Core, provider: Provider | None, said: Mapping[str, Any]) -> Element:
    found: Element = {"cors": bool(core.settings.http.cors_origins), "service": []}
    if provider is not None:
        code = "SMART-on-FHIR" if provider.settings.smart else "OAuth"
        found["service"].append({"coding": [{"system": _SECURITY, "code": code}]})
        uris = [{"url": name, "valueUri": str(said[known])} for name, known in _SMART_URIS.items() if said.get(known)]
        if uris:
            found["extension"] = [{"url": _OAUTH_URIS, "extension": uris}]
    found["service"].append({"coding": [{"system": _SECURITY, "code": "Basic"}]})
    found["description"] = "API keys and tokens as Bearer; users of the gateway by Basic"
    return found


def _resource(name: str, without: frozenset[str]) -> Element:
    found: Element = {
        "type": name,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchInclude": list(imaging_studies.INCLUDES) if name == "ImagingStudy" else [],
        "searchParam": [{"name": each, "type": kind} for each, kind in _TYPES[name].items() if each not in without],
    }
    return without_empty(found)
