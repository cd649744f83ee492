"""Errors as OperationOutcome (FHIR R4 "OperationOutcome", https://hl7.org/fhir/R4/operationoutcome.html)."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from aiohttp import web

from gateway.context import RequestId
from gateway.fhir.elements import Element
from gateway.fhir.media_types import FHIR_JSON
from gateway.http import problem

_CODES = {
    HTTPStatus.BAD_REQUEST: "invalid",
    HTTPStatus.UNAUTHORIZED: "login",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "not-supported",
    HTTPStatus.NOT_ACCEPTABLE: "not-supported",
    HTTPStatus.GONE: "deleted",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too-costly",
    HTTPStatus.TOO_MANY_REQUESTS: "throttled",
    HTTPStatus.SERVICE_UNAVAILABLE: "transient",
}
"""Issue types by status; of any other it is ``exception``."""


def incomplete(gap: str) -> Element:
    """What a Bundle says of itself where something may be missing from it."""
    issue = {"severity": "warning", "code": "incomplete", "diagnostics": gap}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def told(status: HTTPStatus, detail: str, request_id: RequestId) -> web.Response:
    """The answer to an error; the request's id is that of the gateway's log."""
    outcome = {
        "resourceType": "OperationOutcome",
        "id": request_id,
        "issue": [{"severity": "error", "code": _CODES.get(status, "exception"), "diagnostics": detail}],
    }
    return web.Response(
        status=status,
        body=orjson.dumps(outcome),
        content_type=FHIR_JSON,
        charset="utf-8",
        headers=problem.headers_of(status),
    )
