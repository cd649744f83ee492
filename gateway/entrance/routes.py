"""All routes of the entrance."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.entrance import (
    activity,
    administration,
    api,
    associations,
    deidentified,
    history,
    login,
    peers,
    quarantine,
    shares,
    trail,
)
from gateway.entrance.peers import Verify
from gateway.http.route import Route


def routes(page: Callable[[web.Request], web.Response], verify: Verify) -> list[Route]:
    """Keys, links, sessions and peers; ``page`` answers with the page for who has come in, ``verify`` asks a peer."""
    of_administrators = [
        *administration.routes(),
        *peers.routes(verify),
        *activity.routes(),
        *associations.routes(),
        *quarantine.routes(),
    ]
    found = [
        *of_administrators,
        *trail.routes(),
        *history.routes(),
        *deidentified.routes(),
        *shares.routes(page),
        *login.routes(),
    ]
    return [*found, *api.routes(found)]
