"""Under which keys an application, and a request, hold what belongs to them."""

from __future__ import annotations

from aiohttp import web

from gateway.assembly import Core
from gateway.context import Caller, RequestId
from gateway.http.limits import Limits
from gateway.http.offload import Offload
from gateway.http.proxies import Origin
from gateway.services.pictures import Pictures
from gateway.services.projection import Projection

CORE = web.AppKey("core", Core)
OFFLOAD = web.AppKey("offload", Offload)
PICTURES = web.AppKey("pictures", Pictures)
LIMITS = web.AppKey("limits", Limits)

CALLER = web.RequestKey("caller", Caller)
SHOWN = web.RequestKey("shown", Projection)
"""What the caller of a request sees: the archive as stored, or through a view."""
ORIGIN = web.RequestKey("origin", Origin)
REQUEST_ID = web.RequestKey("request_id", RequestId)
