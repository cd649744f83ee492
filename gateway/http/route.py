"""Routes, which declare the action that a caller needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from gateway.access.actions import Action
from gateway.context import RequestId
from gateway.http.deprecation import Deprecation

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refusal = Callable[[HTTPStatus, str, RequestId], web.Response]
"""Makes the answer that tells an error, of its status and what is wrong."""

TOKEN = "share"  # noqa: S105 - a name
"""The part of a path that is a share link's token."""
VIEW = "view"
"""The part of a path that is a view's name."""
VIEW_PATH = f"/views/{{{VIEW}}}"
"""Below this a view has a service root of its own."""
SHARED = "/share"
SHARED_PATH = f"{SHARED}/{{{TOKEN}}}"
"""Below this a share link has a service root, and a page, of its own."""


@dataclass(frozen=True, slots=True)
class Route:
    """A method, a path and its handler. ``action`` is what a caller needs; None declares the route public.

    The path goes under the configured prefix, unless it is ``fixed``: probes on this machine come past every proxy.
    What is there ``for_links`` too is found a second time below each share link, and what is there ``for_views`` below
    each view. ``refusal`` tells its errors, and those of whatever else begins with the same part of a path; without it
    they are problem documents.
    """

    method: str
    path: str
    handler: Handler
    action: Action | None
    fixed: bool = False
    for_links: bool = False
    for_views: bool = False
    refusal: Refusal | None = None
    deprecated: Deprecation | None = None
