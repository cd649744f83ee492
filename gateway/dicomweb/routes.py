"""All routes of the DICOMweb face."""

from __future__ import annotations

from gateway.dicomweb import changefeed, commitment, deletion, qido, rendered, stow, wado
from gateway.http.application import Route


def routes() -> list[Route]:
    """What PS3.18 defines, then what it does not: deletion and its undoing, the change feed."""
    return [
        *qido.routes(),
        *wado.routes(),
        *rendered.routes(),
        *stow.routes(),
        *commitment.routes(),
        *deletion.routes(),
        *changefeed.routes(),
    ]
