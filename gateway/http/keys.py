"""Under which keys an application, and a request, hold what belongs to them."""

from __future__ import annotations

from aiohttp import web

from gateway.assembly import Core
from gateway.context import Caller, RequestId
from gateway.http.limits import Limits
from gateway.http.offload import Offload
from gateway.http.proxies import Origin

CORE = web.AppKey("core", Core)
OFFLOAD = web.AppKey("offload", Offload)
LIMITS = web.AppKey("limits", Limits)

CALLER = web.RequestKey("caller", Caller)
ORIGIN = web.RequestKey("origin", Origin)
REQUEST_ID = web.RequestKey("request_id", RequestId)
