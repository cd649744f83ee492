"""What each route of the FHIR face takes and gives, as data; and the OpenAPI document that is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
from aiohttp import web

from gateway.fhir import audit_events, endpoints, imaging_studies, media_types, parameters, patients
from gateway.fhir.answers import PREFIX, SEARCH
from gateway.fhir.media_types import FHIR_JSON, FORM, JSON
from gateway.http import openapi, roots
from gateway.http.openapi import Operation, Parameter, Schema
from gateway.http.route import Route

_ABOUT = (
    "FHIR R4, read only: ImagingStudy, Patient, Endpoint, AuditEvent. Below /views/NAME the same paths show a "
    "de-identified view, but for AuditEvent."
)
_TYPES = (FHIR_JSON, JSON)
_WHOLE: Schema = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_FORMAT = Parameter("_format", "json or one of the media types, before the Accept header")
_PREFER = Parameter("Prefer", "handling=lenient passes unknown parameters over; otherwise they are 400", where="header")
_OUTCOME: Schema = {
    "type": "object",
    "description": "OperationOutcome",
    "required": ["resourceType", "issue"],
    "properties": {
        "resourceType": {"const": "OperationOutcome"},
        "id": {"type": "string", "description": "The id under which the gateway's log has the request"},
        "issue": {"type": "array", "items": {"type": "object"}},
    },
}

PATH_PARAMETERS = {"id": Parameter("id", "Logical id", {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"})}


def _reading(tag: str, *refusals: int) -> Operation:
    return Operation(tag, {200: _TYPES}, (_FORMAT,), (404, 406, *refusals))


def _searching(tag: str, known: Mapping[str, str], *more: Parameter) -> Operation:
    of_resource = [Parameter(name, f"{kind.capitalize()} parameter of {tag}") for name, kind in known.items()]
    paging = (
        Parameter("_count", "Most resources of a page", _WHOLE),
        Parameter("_page", "From a link of the answer before"),
        _FORMAT,
        _PREFER,
    )
    return Operation(tag, {200: _TYPES}, [*of_resource, *more, *paging], (406, 413))


def _posted(found: Operation) -> Operation:
    """The same search with its parameters in a form."""
    fields = {each.name: each.schema for each in found.parameters if each.where == "query"}
    return Operation(
        found.tag, found.answers, (_PREFER,), (*found.refusals, 415), {FORM: {"type": "object", "properties": fields}}
    )


_COUNTING = (
    Parameter("_summary", "count: the number alone", {"type": "string", "enum": ["count", "false"]}),
    Parameter("_total", "Whether the number is told", {"type": "string", "enum": ["none", "estimate", "accurate"]}),
)
_STUDY, _PATIENT, _ENDPOINT, _EVENT = "ImagingStudy", "Patient", endpoints.KIND, audit_events.KIND

_GIVEN: Mapping[tuple[str, str], Operation] = {
    ("GET", f"{PREFIX}/metadata"): Operation("Capabilities", {200: _TYPES}, (_FORMAT,), (406,)),
    ("GET", f"{PREFIX}/.well-known/smart-configuration"): Operation("Capabilities", {200: (JSON,)}, (), (404,)),
    ("GET", f"{PREFIX}/{_STUDY}"): _searching(
        _STUDY,
        imaging_studies.PARAMETERS,
        Parameter("patient:identifier", "Patient ID, or SYSTEM|ID"),
        Parameter("_include", "What comes with the studies", {"type": "string", "enum": [*imaging_studies.INCLUDES]}),
        Parameter("_sort", "-started"),
        *_COUNTING,
    ),
    ("GET", f"{PREFIX}/{_STUDY}/{{id}}"): _reading(_STUDY, 410),
    ("GET", f"{PREFIX}/{_PATIENT}"): _searching(
        _PATIENT, patients.PARAMETERS, Parameter("name:contains", "Text within a name"), *_COUNTING
    ),
    ("GET", f"{PREFIX}/{_PATIENT}/{{id}}"): _reading(_PATIENT),
    ("GET", f"{PREFIX}/{_ENDPOINT}"): _searching(_ENDPOINT, endpoints.PARAMETERS),
    ("GET", f"{PREFIX}/{_ENDPOINT}/{{id}}"): _reading(_ENDPOINT),
    ("GET", f"{PREFIX}/{_EVENT}"): _searching(_EVENT, parameters.TYPES),
    ("GET", f"{PREFIX}/{_EVENT}/{{id}}"): _reading(_EVENT),
}
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    **_GIVEN,
    **{
        ("POST", f"{PREFIX}/{kind}/{SEARCH}"): _posted(_GIVEN["GET", f"{PREFIX}/{kind}"])
        for kind in (_STUDY, _PATIENT, _ENDPOINT, _EVENT)
    },
}
"""Every operation, by method and path."""


def routes(described: Sequence[Route]) -> list[Route]:
    """The document of other routes; public, since it tells nothing of the archive."""

    async def document(request: web.Request) -> web.StreamResponse:
        """The OpenAPI document."""
        server = roots.root(request) + PREFIX
        found = openapi.document(
            described, OPERATIONS, PATH_PARAMETERS, PREFIX, server, about=_ABOUT, error=(FHIR_JSON, _OUTCOME)
        )
        return web.Response(
            body=orjson.dumps(found), content_type=media_types.JSON, headers={"Cache-Control": "no-cache"}
        )

    return [Route("GET", f"{PREFIX}/openapi.json", document, None)]
