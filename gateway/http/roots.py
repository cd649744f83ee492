"""Where a client reaches the gateway, for URLs in answers."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from gateway.errors import InvalidRequest
from gateway.http import proxies
from gateway.http.keys import CORE, ORIGIN
from gateway.http.proxies import Origin
from gateway.http.route import SHARED, TOKEN, VIEW, VIEW_PATH


def origin(request: web.Request) -> Origin:
    """Who sent a request, and what it was called before proxies passed it on; found out once."""
    if ORIGIN not in request:
        request[ORIGIN] = proxies.origin(request, request.app[CORE].settings.http)
    return request[ORIGIN]


def root(request: web.Request) -> str:
    """The URL of the gateway as the client reaches it, without a slash at the end; a link or view has its own.

    The configured public URL, else what a trusted proxy says, else the request's Host. Python's dicomweb-client sends
    Host without the port: then our own port is added, since such a request came to it. Raises InvalidRequest for a Host
    that is none.
    """
    settings = request.app[CORE].settings.http
    if settings.public_url is not None:
        return str(settings.public_url).rstrip("/") + _within(request)
    found = origin(request)
    scheme, host = found.scheme or request.scheme, found.host or request.host
    if not proxies.is_host(host):
        raise InvalidRequest("Host: not a host name")
    if not found.host and not found.scheme and not host.rpartition(":")[2].isdigit():
        address = request.transport.get_extra_info("sockname") if request.transport is not None else None
        default = {"http": 80, "https": 443}[scheme]
        if address is not None and address[1] != default:
            host = f"{host}:{address[1]}"
    return f"{scheme}://{host}{found.prefix}{settings.path_prefix}{_within(request)}"


def path(request: web.Request) -> str:
    """The path of ``root``, as a cookie has it."""
    return urlsplit(root(request)).path


def is_secure(request: web.Request) -> bool:
    """Whether the client reaches the gateway by https."""
    return root(request).startswith("https:")


def _within(request: web.Request) -> str:
    if (view := request.match_info.get(VIEW)) is not None:
        return VIEW_PATH.format(**{VIEW: view})
    token = request.match_info.get(TOKEN)
    return "" if token is None else f"{SHARED}/{token}"
