"""Peers over HTTP, for administrators: who they are, when they were last here, and whether one answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from gateway.access.actions import Action
from gateway.config.serving import DimseSettings
from gateway.entrance.bodies import JSON
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.openapi import Operation, Parameter
from gateway.http.route import Handler, Route
from gateway.services.peers import Peer, Verification

_HEADERS = {"Cache-Control": "no-store"}
_TAG = "Administration"

Verify = Callable[[DimseSettings, str], Verification]
"""Asks a peer of the settings by C-ECHO."""

PATH_PARAMETERS = {"aet": Parameter("aet", "AE title of one of dimse.destinations")}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/admin/peers"): Operation(
        _TAG, {200: (JSON,)}, description="The peers of the settings and the policy, with their last contacts."
    ),
    ("POST", "/admin/peers/{aet}/echo"): Operation(
        _TAG, {200: (JSON,)}, (), (404,), description="Asks a peer by C-ECHO; the answer says whether it answers."
    ),
}


async def listed(request: web.Request) -> web.StreamResponse:
    """The peers, by AE title."""
    core, caller = request.app[CORE], request[CALLER]
    found = await request.app[OFFLOAD].run(Lane.LONG, core.peers.known, caller)
    told = {"aeTitle": core.settings.dimse.ae_title, "peers": [_told(each) for each in found]}
    return web.json_response(told, headers=_HEADERS)


def _verifying(verify: Verify) -> Handler:
    async def ask(request: web.Request) -> web.StreamResponse:
        """Ask a peer whether it is there."""
        peers, title = request.app[CORE].peers, request.match_info["aet"]
        found = await request.app[OFFLOAD].run(Lane.LONG, peers.verify, request[CALLER], title, verify)
        told = {
            "answers": found.answers,
            "detail": found.detail,
            "advice": found.advice,
            "associatedSeconds": found.associated_s,
            "answeredSeconds": found.answered_s,
        }
        return web.json_response(told, headers=_HEADERS)

    return ask


def _told(peer: Peer) -> dict[str, Any]:
    listens, verified = peer.listens, peer.verified
    return {
        "aeTitle": peer.ae_title,
        "listens": None if listens is None else {"host": listens.host, "port": listens.port, "tls": listens.tls},
        "principals": peer.principals,
        "contacts": [
            {
                "address": each.address,
                "time": each.time,
                "what": f"{each.action} {each.outcome}",
                "failed": each.failed,
                "failure": each.failure,
            }
            for each in peer.contacts
        ],
        "sent": peer.sent and {"time": peer.sent.time, "what": peer.sent.what},
        "verified": verified and {"time": verified.time, "answers": verified.answers, "detail": verified.detail},
    }


def routes(verify: Verify) -> list[Route]:
    """``/admin/peers``."""
    return [
        Route("GET", "/admin/peers", listed, Action.ADMIN),
        Route("POST", "/admin/peers/{aet}/echo", _verifying(verify), Action.ADMIN),
    ]
