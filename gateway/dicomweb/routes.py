"""All routes of the DICOMweb face."""

from __future__ import annotations

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
from gateway.http.application import Route


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
        *changefeed.routes(),
    ]
    return [*found, *capabilities.routes(found)]
