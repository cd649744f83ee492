"""URLs in answers, and identifiers in requests."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import InvalidRequest
from gateway.http import proxies
from gateway.http.application import CORE, ORIGIN
from storage.dicom import identifiers as ids

PREFIX = "/dicomweb"
COUNT = "count"
"""Last part of the paths that count what a search would find."""


def service_root(request: web.Request) -> str:
    """The URL of the service as the client reaches it, without a slash at the end.

    The configured public URL, else what a trusted proxy says, else the request's Host. Python's dicomweb-client sends
    Host without the port: then our own port is added, since such a request came to it. Raises InvalidRequest for a Host
    that is none.
    """
    settings = request.app[CORE].settings.http
    if settings.public_url is not None:
        return str(settings.public_url).rstrip("/") + PREFIX
    origin = request[ORIGIN]
    scheme, host = origin.scheme or request.scheme, origin.host or request.host
    if not proxies.is_host(host):
        raise InvalidRequest("Host: not a host name")
    if not origin.host and not origin.scheme and not host.rpartition(":")[2].isdigit():
        address = request.transport.get_extra_info("sockname") if request.transport is not None else None
        default = {"http": 80, "https": 443}[scheme]
        if address is not None and address[1] != default:
            host = f"{host}:{address[1]}"
    return f"{scheme}://{host}{origin.prefix}{settings.path_prefix}{PREFIX}"


def study(request: web.Request) -> ids.StudyUid:
    """The study that the path names; raises InvalidIdentifier."""
    if request.match_info["study"] == COUNT:
        # A path of its own, which has no other method than GET.
        raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD", "OPTIONS"))
    return ids.study_uid(request.match_info["study"])


def series(request: web.Request) -> ids.SeriesUid | None:
    """The series that the path names, if it does; raises InvalidIdentifier."""
    text = request.match_info.get("series")
    return None if text is None else ids.series_uid(text)


def instance(request: web.Request) -> ids.SopUid | None:
    """The instance that the path names, if it does; raises InvalidIdentifier."""
    text = request.match_info.get("instance")
    return None if text is None else ids.sop_uid(text)
