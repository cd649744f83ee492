"""The OpenAPI 3.1 document of the routes (https://spec.openapis.org/oas/v3.1.0), and the operations it is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from gateway.http.problem import MEDIA_TYPE as PROBLEM
from gateway.http.route import Route

Schema = dict[str, Any]

_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_REFUSALS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""What every route that asks for a caller may answer."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query or header parameter."""

    name: str
    description: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    where: str = "query"
    many: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route takes and gives.

    ``answers`` are media types by status, ``()`` for one without a body; ``refusals`` are statuses with a problem
    document beyond those of every route. ``body`` are media types with their schemas. Summary and description are those
    of the handler's docstring unless given.
    """

    tag: str
    answers: Mapping[int, Sequence[str]]
    parameters: Sequence[Parameter] = ()
    refusals: Sequence[int] = ()
    body: Mapping[str, Schema] = field(default_factory=dict)
    summary: str = ""
    description: str = ""


def document(
    routes: Iterable[Route],
    operations: Mapping[tuple[str, str], Operation],
    path_parameters: Mapping[str, Parameter],
    prefix: str,
    server: str,
    *,
    about: str,
    error: tuple[str, Schema] | None = None,
) -> dict[str, Any]:
    """The document.

    Parameters
    ----------
    routes
        Those that stand in it; each needs its operation, by method and path.
    path_parameters
        By the name that they have in paths.
    prefix
        Left out of the paths: the server's URL ends with it.
    about
        What they are, in a sentence.
    error
        Media type and schema of what errors are told as; problem documents unless given.
    """
    error_type, error_schema = error or (PROBLEM, _PROBLEM_SCHEMA)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = operations[route.method, route.path]
        entry = paths.setdefault(route.path.removeprefix(prefix) or "/", {})
        names = _PATH_PARAMETER.findall(route.path)
        entry["parameters"] = [_parameter(path_parameters[name], "path") for name in names]
        entry[route.method.lower()] = _operation(route, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DICOMweb imaging gateway",
            "version": version("dicomweb-gateway"),
            "description": about,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "security": [{"bearer": []}, {"key": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "schemas": {"Problem": error_schema},
            "responses": {
                str(status): _problem(HTTPStatus(status), error_type) for status in _all_refusals(operations)
            },
        },
    }


_PROBLEM_SCHEMA: Schema = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "request"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what would be right; no patient data"},
        "request": {"type": "string", "description": "The id under which the gateway's log has the request"},
    },
}


def _all_refusals(operations: Mapping[tuple[str, str], Operation]) -> list[int]:
    found = {int(status) for operation in operations.values() for status in operation.refusals}
    return sorted(found | {int(status) for status in _REFUSALS})


def _problem(status: HTTPStatus, media_type: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": status.phrase, "content": {media_type: {"schema": schema}}}


def _operation(route: Route, operation: Operation) -> dict[str, Any]:
    summary, _, rest = (route.handler.__doc__ or "").partition("\n\n")
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{route.handler.__name__}_{_slug(route.path)}",
        "tags": [operation.tag],
        "summary": operation.summary or " ".join(summary.split()),
        "responses": _responses(operation),
    }
    description = operation.description or " ".join(rest.split())
    if route.deprecated is not None:
        found["deprecated"] = True
        description = f"{route.deprecated.text} {description}".strip()
    if description:
        found["description"] = description
    if route.action is None:
        found["security"] = []
    if operation.parameters:
        found["parameters"] = [_parameter(each, each.where) for each in operation.parameters]
    if operation.body:
        content = {media_type: {"schema": schema} for media_type, schema in operation.body.items()}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _slug(path: str) -> str:
    return re.sub(r"\W+", "_", path).strip("_")


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, media_types in operation.answers.items():
        found[str(status)] = {"description": HTTPStatus(status).phrase}
        if media_types:
            found[str(status)]["content"] = {each: {} for each in media_types}
    for refusal in (*_REFUSALS, *operation.refusals):
        found.setdefault(str(int(refusal)), {"$ref": f"#/components/responses/{int(refusal)}"})
    return dict(sorted(found.items()))


def _parameter(parameter: Parameter, where: str) -> dict[str, Any]:
    schema = {"type": "array", "items": parameter.schema} if parameter.many else parameter.schema
    found: dict[str, Any] = {"name": parameter.name, "in": where, "description": parameter.description}
    found["schema"] = schema
    return {**found, "required": True} if where == "path" else found
