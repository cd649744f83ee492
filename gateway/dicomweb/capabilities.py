"""What the service can do, for programs and for people: capabilities (PS3.18 8.9), OpenAPI, and a page of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from html import escape
from typing import Any
from xml.sax.saxutils import quoteattr

from aiohttp import web

from gateway.dicomweb import negotiation
from gateway.dicomweb.api import OPERATIONS, PATH_PARAMETERS
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.http import api_page, openapi
from gateway.http.route import Handler, Route
from storage.dicom import json_model

WADL = "application/vnd.sun.wadl+xml"
JSON = "application/json"
OPENAPI = "application/vnd.oai.openapi+json"
_ABOUT = (
    "DICOMweb (PS3.18): search, retrieve, store, commitment; deletion and a change feed. Below /views/NAME the same "
    "paths search, retrieve and store through a de-identified view; below /share/TOKEN they show what a link shares."
)


def routes(described: Sequence[Route]) -> list[Route]:
    """Capabilities, document and page of other routes; public, since they tell nothing of the archive."""
    return [
        # The target of PS3.18 8.9 is "/" below the service root; clients that cut the stroke off ask for the other.
        *(Route("OPTIONS", path, _capabilities(described), None) for path in (PREFIX, f"{PREFIX}/")),
        Route("GET", f"{PREFIX}/openapi.json", _openapi(described), None),
        Route("GET", f"{PREFIX}/api", _page(described), None),
    ]


def _document(request: web.Request, described: Sequence[Route]) -> dict[str, Any]:
    return openapi.document(described, OPERATIONS, PATH_PARAMETERS, PREFIX, service_root(request), about=_ABOUT)


def _capabilities(described: Sequence[Route]) -> Handler:
    async def capabilities(request: web.Request) -> web.StreamResponse:
        """What the service can do, as WADL (PS3.18 Annex H) or OpenAPI."""
        kind = negotiation.choose(request, (WADL, "application/xml", "text/xml", JSON, OPENAPI))
        document = _document(request, described)
        body = json_model.dumps(document) if kind in (JSON, OPENAPI) else _wadl(document)
        return _answer(request, body, kind)

    return capabilities


def _openapi(described: Sequence[Route]) -> Handler:
    async def document(request: web.Request) -> web.StreamResponse:
        """The OpenAPI document."""
        kind = negotiation.choose(request, (JSON, OPENAPI))
        return _answer(request, json_model.dumps(_document(request, described)), kind)

    return document


def _page(described: Sequence[Route]) -> Handler:
    async def page(request: web.Request) -> web.StreamResponse:
        """The OpenAPI document for people."""
        response = _answer(request, api_page.render(_document(request, described)).encode(), "text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = api_page.CONTENT_SECURITY_POLICY
        return response

    return page


def _answer(request: web.Request, body: bytes, content_type: str) -> web.Response:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept", "Content-Type": content_type}
    if request.method == "OPTIONS":
        headers["Allow"] = "OPTIONS"
    elif etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)


def _wadl(document: dict[str, Any]) -> bytes:
    """The document as WADL: a resource a path, its parameters, media types as representations."""
    found = [
        '<?xml version="1.0" encoding="UTF-8"?>\n<application xmlns="http://wadl.dev.java.net/2009/02"',
        ' xmlns:xs="http://www.w3.org/2001/XMLSchema">',
        f"<resources base={quoteattr(document['servers'][0]['url'])}>",
    ]
    for path, entry in document["paths"].items():
        found.append(f"<resource path={quoteattr(path.lstrip('/'))}>")
        found += [_wadl_parameter(each, "template") for each in entry["parameters"]]
        found += [_wadl_method(name, each) for name, each in entry.items() if name != "parameters"]
        found.append("</resource>")
    found.append("</resources></application>")
    return "".join(found).encode()


def _wadl_parameter(parameter: dict[str, Any], style: str) -> str:
    kind = "xs:int" if parameter["schema"].get("type") == "integer" else "xs:string"
    repeating = ' repeating="true"' if parameter["schema"].get("type") == "array" else ""
    doc = f"<doc>{escape(parameter['description'])}</doc>"
    return f'<param name={quoteattr(parameter["name"])} style="{style}" type="{kind}"{repeating}>{doc}</param>'


def _wadl_method(name: str, operation: dict[str, Any]) -> str:
    parameters = "".join(_wadl_parameter(each, each["in"]) for each in operation.get("parameters", ()))
    bodies = _representations(operation.get("requestBody", {}).get("content", {}))
    answers = "".join(
        f'<response status="{status}">{_representations(response.get("content", {}))}</response>'
        for status, response in operation["responses"].items()
    )
    begin = f"<method name={quoteattr(name.upper())} id={quoteattr(operation['operationId'])}>"
    doc = f"<doc>{escape(operation['summary'])}</doc>"
    return f"{begin}{doc}<request>{parameters}{bodies}</request>{answers}</method>"


def _representations(content: dict[str, Any]) -> str:
    return "".join(f"<representation mediaType={quoteattr(each)}/>" for each in content)
