"""Claims of content negotiation (PS3.18 8.7), capabilities (8.9), HTTP itself, and deletion."""

from __future__ import annotations

from gateway.conformance import material
from gateway.conformance.claims import Broken, Service, Unsupported, claim
from gateway.conformance.client import DICOM, JSON
from gateway.conformance.visit import Visit, of

_WADL = "application/vnd.sun.wadl+xml"


@claim(Service.NEGOTIATION, "8.7.8", "a media type that a resource does not have: 406")
def accept_unknown(visit: Visit) -> str | None:
    for path in ("/studies?limit=1", f"{visit.found.instance}/metadata"):
        visit.client.get(path, "image/png").has(406)
    return None


@claim(Service.NEGOTIATION, "8.7.8, RFC 9110 12.5.1", "of a list of types, one that the resource has")
def accept_list(visit: Visit) -> str | None:
    accept = f"image/png, {JSON}, multipart/related; type=application/octet-stream; transfer-syntax=*"
    visit.client.get(f"{visit.found.instance}/metadata", accept).has(200).typed(JSON)
    return None


@claim(Service.NEGOTIATION, "8.7.8, RFC 9110 12.5.1", "*/* and no Accept at all give the default: DICOM JSON")
def accept_anything(visit: Visit) -> str | None:
    for accept in ("*/*", None):
        visit.client.get(f"{visit.found.instance}/metadata", accept).has(200).typed(JSON)
    return None


@claim(Service.NEGOTIATION, "8.7.8, RFC 9110 12.4.2", "q-values decide")
def accept_q_values(visit: Visit) -> str | None:
    multipart = 'multipart/related; type="application/dicom+xml"'
    for better, worse, wanted in ((multipart, JSON, "multipart/related"), (JSON, multipart, JSON)):
        accept = f"{worse};q=0.2, {better};q=0.9"
        visit.client.get(f"{visit.found.instance}/metadata", accept).has(200).typed(wanted)
    return None


@claim(Service.NEGOTIATION, "8.3.3.1, 8.7.8", "the query parameter accept comes before the header")
def accept_parameter(visit: Visit) -> str | None:
    query = [("accept", 'multipart/related;type="application/dicom+xml"')]
    visit.client.get(f"{visit.found.instance}/metadata", JSON, query).has(200).typed("multipart/related")
    return None


@claim(Service.CAPABILITIES, "8.9", "OPTIONS of the service root describes the service in WADL", required=False)
def capabilities(visit: Visit) -> str | None:
    answer = visit.client.ask("OPTIONS", "/", _WADL).offered().has(200, 204)
    if not answer.body:
        raise Unsupported("the answer is empty")
    answer.typed(_WADL, "application/xml", "text/xml")
    if not answer.xml().tag.endswith("}application"):
        raise Broken("the document is no WADL")
    return None


@claim(Service.CAPABILITIES, "8.1.1.1, RFC 9110 9.3.2", "HEAD answers as GET does, without a body", required=False)
def head(visit: Visit) -> str | None:
    answer = visit.client.ask("HEAD", f"{visit.found.instance}/metadata", JSON).offered()
    answer.has(200).typed(JSON)
    return None


@claim(Service.CAPABILITIES, "RFC 9110 13.1.2", "If-None-Match with the current ETag: 304", required=False)
def conditional(visit: Visit) -> str | None:
    tag = visit.client.get(f"{visit.found.instance}/metadata", JSON).has(200).headers.get("ETag")
    if tag is None:
        raise Unsupported("there is no ETag")
    answer = visit.client.get(f"{visit.found.instance}/metadata", JSON, If_None_Match=tag).has(304)
    if answer.body:
        raise Broken("304 has no body")
    return None


@claim(Service.CAPABILITIES, "RFC 9110 14.2", "a range of an instance: 206 and Content-Range", required=False)
def ranges(visit: Visit) -> str | None:
    answer = visit.client.get(visit.found.instance, f"{DICOM}; transfer-syntax=*", Range="bytes=128-131").offered()
    if answer.status == 200:
        raise Unsupported("the range is passed over")
    if answer.has(206).body != b"DICM" or not answer.headers.get("Content-Range", "").startswith("bytes 128-131/"):
        raise Broken("bytes 128 to 131 of a Part 10 file are DICM, and Content-Range says which they are")
    return None


@claim(
    Service.CAPABILITIES, "RFC 9110 15.5.6", "a method that a resource does not have: 405 with Allow", required=False
)
def method_not_allowed(visit: Visit) -> str | None:
    answer = visit.client.ask("PATCH", f"{visit.found.instance}/metadata", JSON, body=b"")
    if answer.status in (400, 404, 501):
        raise Unsupported
    if "GET" not in answer.has(405).headers.get("Allow", ""):
        raise Broken("there is no Allow that names GET")
    return None


@claim(
    Service.DELETION, "not of PS3.18", "a study is deleted by DELETE, and no longer found nor retrieved",
    required=False, stores=True,
)  # fmt: skip
def deletion(visit: Visit) -> str | None:
    there = of(visit.own().plain[0])
    visit.client.ask("DELETE", there.study, JSON).offered().has(200, 202, 204)
    visit.stored = False
    if visit.client.search("/studies", StudyInstanceUID=there.study_uid):
        raise Broken("it is still found")
    visit.client.get(there.study, f'multipart/related; type="{DICOM}"').has(404, 410)
    return None


@claim(
    Service.DELETION, "not of PS3.18", "what cannot be deleted, since it is not there: 404 or 410",
    required=False, stores=True,
)  # fmt: skip
def deletion_of_nothing(visit: Visit) -> str | None:
    answer = visit.client.ask("DELETE", f"/studies/{material.uid()}", JSON)
    if answer.status in (405, 501):
        raise Unsupported
    answer.has(404, 410)
    return None
