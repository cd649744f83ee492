"""All routes of the DICOMweb face."""

from __future__ import annotations

from gateway.dicomweb import instances, qido, rendered, stow, wado
from gateway.http.application import Route


def routes() -> list[Route]:
    """Search, retrieve, rendered resources, store."""
    return [*qido.routes(), *instances.routes(), *wado.routes(), *rendered.routes(), *stow.routes()]
