"""Endpoints: where the DICOM objects of what a caller sees are retrieved from, as Endpoint resources of FHIR R4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.context import PrincipalKind
from gateway.fhir.elements import Element
from gateway.http import roots
from gateway.http.keys import CALLER, CORE, SHOWN
from gateway.http.route import VIEW, VIEW_PATH

NAME = "dicom-wado-rs"
_CONNECTION_TYPE = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
_TOKEN_NEEDED = "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token"  # noqa: S105 - a URL
_BY_PLACE = frozenset((PrincipalKind.LOOPBACK, PrincipalKind.ANONYMOUS))
"""Callers that show nothing, here or there."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service root of WADO-RS, and what it shows."""

    id: str
    name: str
    address: str
    needs_token: bool

    def resource(self) -> Element:
        """The resource; studies are at its address and ``/studies/UID``."""
        return {
            "resourceType": "Endpoint",
            "id": self.id,
            "extension": [{"url": _TOKEN_NEEDED, "valueBoolean": self.needs_token}],
            "status": "active",
            "connectionType": {"system": _CONNECTION_TYPE, "code": NAME},
            "name": self.name,
            "payloadType": [{"text": "DICOM"}],
            "payloadMimeType": ["application/dicom", "application/dicom+json"],
            "address": self.address,
        }


def here(request: web.Request) -> Endpoint | None:
    """The endpoint for what is seen here; None for who may not read it."""
    if not request[SHOWN].retrieve.is_open(request[CALLER]):
        return None
    view = request.match_info.get(VIEW)
    return _endpoint(request, roots.root(request), "" if view is None else view)


def every(request: web.Request) -> Sequence[Endpoint]:
    """Those that a caller may read from: here, and of each view beside it."""
    found = here(request)
    endpoints = [] if found is None else [found]
    if request.match_info.get(VIEW) is not None:
        return endpoints
    core, caller = request.app[CORE], request[CALLER]
    for name, shown in core.projections.views.items():
        # A view is of one tenant, and to others as if it were not.
        if core.settings.views[name].tenant == caller.principal.tenant and shown.retrieve.is_open(caller):
            endpoints.append(_endpoint(request, roots.root(request) + VIEW_PATH.format(**{VIEW: name}), name))
    return endpoints


def _endpoint(request: web.Request, root: str, view: str) -> Endpoint:
    needs_token = request[CALLER].principal.kind not in _BY_PLACE
    if not view:
        return Endpoint(NAME, "The archive", f"{root}/dicomweb", needs_token)
    return Endpoint(f"{NAME}-{view}", f"The de-identified view {view}", f"{root}/dicomweb", needs_token)
