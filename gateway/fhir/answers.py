"""Answers of the FHIR face: resources and Bundles (FHIR R4 "Bundle", https://hl7.org/fhir/R4/bundle.html)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from aiohttp import web

from gateway.fhir.elements import Element
from gateway.http import roots

PREFIX = "/fhir"
SEARCH = "_search"
"""Last part of the paths that searches are posted to."""


def base(request: web.Request) -> str:
    """The URL that resources are below, as the client reaches it."""
    return roots.root(request) + PREFIX


def logical_id(request: web.Request) -> str:
    """The logical id that the path names."""
    if request.match_info["id"] == SEARCH:
        # A path of its own, which has no other method than POST.
        raise web.HTTPMethodNotAllowed(request.method, ("POST", "OPTIONS"))
    return request.match_info["id"]


def resource(found: Element, media_type: str) -> web.Response:
    """One resource."""
    return answer(orjson.dumps(found), media_type)


def answer(body: bytes, media_type: str) -> web.Response:
    """A body, kept by nobody: what it says is of a patient, and may be of another scope a moment later."""
    return web.Response(
        body=body, content_type=media_type, charset="utf-8", headers={"Cache-Control": "no-store", "Vary": "Accept"}
    )


def searchset(
    where: str,
    query: str,
    following: str | None,
    total: int | None,
    matches: Iterable[Element],
    included: Sequence[Element] = (),
    outcomes: Sequence[Element] = (),
) -> dict[str, Any]:
    """The Bundle of a search.

    Parameters
    ----------
    where
        The URL of the FHIR service.
    query, following
        Path and query of this page below it, and of the next one.
    total
        How many match in all, where that is known.
    outcomes
        OperationOutcomes about the search itself.
    """
    links = [{"relation": "self", "url": f"{where}/{query}"}]
    if following is not None:
        links.append({"relation": "next", "url": f"{where}/{following}"})
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "link": links}
    if total is not None:
        bundle["total"] = total
    entries = [
        *(_entry(where, each, "match") for each in matches),
        *(_entry(where, each, "include") for each in included),
        *({"resource": each, "search": {"mode": "outcome"}} for each in outcomes),
    ]
    if entries:
        bundle["entry"] = entries
    return bundle


def _entry(where: str, found: Element, mode: str) -> Element:
    return {
        "fullUrl": f"{where}/{found['resourceType']}/{found['id']}",
        "resource": found,
        "search": {"mode": mode},
    }
