"""All routes of the DICOMweb face."""

from __future__ import annotations

from dataclasses import replace

from gateway.access.shares import LOOKING
from gateway.dicomweb import (
    capabilities,
    changefeed,
    commitment,
    deletion,
    instances,
    qido,
    rendered,
    stow,
    wado,
    wado_uri,
)
from gateway.http.route import Route


def routes() -> list[Route]:
    """What PS3.18 defines, then what it does not: deletion and its undoing, the change feed."""
    found = [
        *qido.routes(),
        *instances.routes(),
        *wado.routes(),
        *rendered.routes(),
        *wado_uri.routes(),
        *stow.routes(),
        *commitment.routes(),
        *deletion.routes(),
    ]
    # What a share link can be good for is only ever asked for by GET. The change feed would tell of the whole archive
    # how much goes on in it.
    looked_at = [each.method == "GET" and each.action in LOOKING for each in found]
    found = [
        replace(each, for_links=looks, for_views=looks or each.for_views)
        for each, looks in zip(found, looked_at, strict=True)
    ]
    found += [replace(each, for_views=True) for each in changefeed.routes()]
    return [*found, *capabilities.routes(found)]
