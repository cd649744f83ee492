"""Errors as HTTP answers: one mapping, one JSON shape (RFC 9457 "Problem Details for HTTP APIs")."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus

import orjson
from aiohttp import web

from gateway import errors
from gateway.context import RequestId
from gateway.http.route import Refusal
from gateway.imaging import errors as imaging
from storage import errors as storage

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

_log = logging.getLogger("gateway.http")

STATUS: dict[type[Exception], HTTPStatus] = {
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotStored: HTTPStatus.CONFLICT,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Gone: HTTPStatus.GONE,
    errors.UnderHold: HTTPStatus.CONFLICT,
    errors.TransactionInUse: HTTPStatus.CONFLICT,
    errors.AlreadyThere: HTTPStatus.CONFLICT,
    errors.NoLongerOpen: HTTPStatus.CONFLICT,
    errors.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    errors.UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.PayloadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.QuotaExceeded: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.IdentityUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    errors.AuditUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    # What a client can do about pixels that cannot be shown: ask for another representation.
    imaging.InvalidDescription: HTTPStatus.NOT_ACCEPTABLE,
    imaging.NotDecodable: HTTPStatus.NOT_ACCEPTABLE,
    imaging.NotEncodable: HTTPStatus.NOT_ACCEPTABLE,
    imaging.FrameMismatch: HTTPStatus.NOT_ACCEPTABLE,
    imaging.FrameDamaged: HTTPStatus.NOT_ACCEPTABLE,
    imaging.FrameTooLarge: HTTPStatus.NOT_ACCEPTABLE,
    imaging.InvalidRendering: HTTPStatus.BAD_REQUEST,
    imaging.ImagingTimeout: HTTPStatus.NOT_ACCEPTABLE,
    imaging.ImagingBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    storage.InvalidIdentifier: HTTPStatus.BAD_REQUEST,
    storage.Unreadable: HTTPStatus.CONFLICT,
    storage.FramesNotLocatable: HTTPStatus.NOT_ACCEPTABLE,
    storage.InvalidCondition: HTTPStatus.BAD_REQUEST,
    storage.SearchTooBroad: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    storage.ObjectNotFound: HTTPStatus.INTERNAL_SERVER_ERROR,
    storage.ObjectRemoved: HTTPStatus.GONE,
    storage.ObjectExists: HTTPStatus.INTERNAL_SERVER_ERROR,
    storage.ObjectDamaged: HTTPStatus.INTERNAL_SERVER_ERROR,
    storage.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    storage.StorageUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    # Not 503: trying again here would never help.
    storage.ReadOnly: HTTPStatus.FORBIDDEN,
    storage.SchemaMismatch: HTTPStatus.INTERNAL_SERVER_ERROR,
    storage.StepTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    storage.StaleObject: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The status of each domain error, by the nearest class in its line."""

_SILENT = frozenset((HTTPStatus.INTERNAL_SERVER_ERROR,))


def status_of(error: Exception) -> HTTPStatus:
    """The status of an error; 500 for one that is no domain error."""
    for kind in type(error).__mro__:
        found = STATUS.get(kind)
        if found is not None:
            return HTTPStatus(found)
    return HTTPStatus.INTERNAL_SERVER_ERROR


def response(error: Exception, request_id: RequestId, refusal: Refusal | None = None) -> web.Response:
    """The answer to an error, told as ``refusal`` has it. A defect shows nothing but the request id, and is logged."""
    status = status_of(error)
    detail = str(error)
    if status in _SILENT:
        _log.error("request %s failed", request_id, exc_info=error)
        detail = "the gateway failed; its log has more under the request id"
    found = (refusal or body)(status, detail, request_id)
    if isinstance(error, errors.TooManyRequests):
        found.headers["Retry-After"] = str(math.ceil(error.after_s))
    return found


def body(status: HTTPStatus, detail: str, request_id: RequestId) -> web.Response:
    """A problem document."""
    problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail, "request": request_id}
    return web.Response(status=status, body=orjson.dumps(problem), content_type=MEDIA_TYPE, headers=headers_of(status))


def headers_of(status: HTTPStatus) -> dict[str, str]:
    """Headers of an error, however it is told."""
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="gateway"'
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return headers
