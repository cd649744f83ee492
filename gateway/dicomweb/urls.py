"""URLs in answers, and identifiers in requests."""

from __future__ import annotations

from aiohttp import web

from gateway.http import roots
from storage.dicom import identifiers as ids

PREFIX = "/dicomweb"
COUNT = "count"
"""Last part of the paths that count what a search would find."""


def service_root(request: web.Request) -> str:
    """The URL of the service as the client reaches it, as ``roots.root``, without a slash at the end."""
    return roots.root(request) + PREFIX


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
