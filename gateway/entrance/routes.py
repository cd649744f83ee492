"""All routes of the entrance."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.entrance import administration, api, login, shares
from gateway.http.route import Route


def routes(page: Callable[[web.Request], web.Response]) -> list[Route]:
    """Keys, links and sessions; ``page`` answers with the page for who has come in."""
    found = [*administration.routes(), *shares.routes(page), *login.routes()]
    return [*found, *api.routes(found)]
