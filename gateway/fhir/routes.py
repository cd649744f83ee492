"""The FHIR face: search and read of AuditEvent (https://hl7.org/fhir/R4/http.html)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from gateway import assembly
from gateway.access.actions import Action
from gateway.audit.atna import Patients
from gateway.audit.patients import IndexPatients
from gateway.fhir import audit_event, parameters
from gateway.http import roots
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.route import Route

PREFIX = "/fhir"
MEDIA_TYPE = "application/fhir+json"
_PATH = f"{PREFIX}/AuditEvent"
_MAX_QUERY = 2048
_RELEASED = "2026-11-27"
"""When what the statement says was changed last."""


async def search(request: web.Request) -> web.StreamResponse:
    """Records of the caller's tenant, latest first, as a Bundle; ``link`` leads to the next page."""
    core = request.app[CORE]
    question = parameters.parse(request.query)
    asked = urlencode([(name, "..." if "patient" in name else text) for name, text in request.query.items()])
    base = roots.root(request) + PREFIX

    def ask() -> bytes:
        page = core.audit.search(
            request[CALLER], question.wanted, question.patients, question.admits, question.count, asked[:_MAX_QUERY]
        )
        links = [{"relation": "self", "url": f"{base}/AuditEvent?{_query(request)}"}]
        if page.after is not None:
            following = _query(request, **{parameters.PAGE: parameters.page(page.after)})
            links.append({"relation": "next", "url": f"{base}/AuditEvent?{following}"})
        reporter, whose = assembly.reporter(core.settings), _patients(request)
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "link": links}
        if page.after is None and parameters.PAGE not in request.query:
            bundle["total"] = len(page.records)
        entries = [
            {
                "fullUrl": f"{base}/AuditEvent/{record.name}",
                "resource": audit_event.resource(record, reporter, whose),
                "search": {"mode": "match"},
            }
            for record in page.records
        ]
        if entries:
            bundle["entry"] = entries
        return orjson.dumps(bundle)

    return _answer(await request.app[OFFLOAD].run(Lane.LONG, ask))


async def read(request: web.Request) -> web.StreamResponse:
    """One record of the caller's tenant."""
    core, name = request.app[CORE], request.match_info["id"]

    def ask() -> bytes:
        record = core.audit.get(request[CALLER], name[:128])
        return orjson.dumps(audit_event.resource(record, assembly.reporter(core.settings), _patients(request)))

    return _answer(await request.app[OFFLOAD].run(Lane.LONG, ask))


def _patients(request: web.Request) -> Patients:
    return IndexPatients(lambda: request.app[CORE].archive.index)


def _query(request: web.Request, **changed: str) -> str:
    kept = [(name, text) for name, text in request.query.items() if name not in changed]
    return urlencode([*kept, *changed.items()])


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type=MEDIA_TYPE, charset="utf-8", headers={"Cache-Control": "no-store"})


async def metadata(request: web.Request) -> web.StreamResponse:
    """What this face can do, as a CapabilityStatement."""
    return _answer(orjson.dumps(_capabilities(roots.root(request) + PREFIX)))


def _capabilities(base: str) -> dict[str, Any]:
    names = [name for name in parameters.NAMES if not name.startswith("_") and ":" not in name]
    event = {
        "type": "AuditEvent",
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [{"name": name, "type": parameters.TYPES[name]} for name in names],
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _RELEASED,
        "kind": "instance",
        "software": {"name": "dicomweb-gateway", "version": assembly.release()},
        "implementation": {"description": "DICOMweb imaging gateway", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server", "resource": [event]}],
    }


def routes() -> list[Route]:
    """Search, read, and the capability statement, which is public: it tells nothing of the archive."""
    return [
        Route("GET", f"{PREFIX}/metadata", metadata, None),
        Route("GET", _PATH, search, Action.AUDIT_READ),
        Route("GET", f"{_PATH}/{{id}}", read, Action.AUDIT_READ),
    ]
