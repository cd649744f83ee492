"""Media types of the FHIR face, and which of them goes out (FHIR R4 "RESTful API", 3.1.0.1.9 and 3.1.0.1.11)."""

from __future__ import annotations

from aiohttp import web
from multidict import MultiMapping

from gateway.errors import InvalidParameter, NotAcceptable

FHIR_JSON = "application/fhir+json"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
_BY_FORMAT = {"json": FHIR_JSON, FHIR_JSON: FHIR_JSON, JSON: JSON, "text/json": JSON}
_ANY = frozenset(("*/*", "application/*"))
_VERSIONS = frozenset(("4.0", "4.0.1"))
_MAX_CHARACTERS = 4096


def chosen(request: web.Request, given: MultiMapping[str] | None = None) -> str:
    """The type that a request accepts: what ``_format`` names, else the best of the Accept header, else the default.

    A client that asks for plain JSON gets the same under that name. Raises NotAcceptable, InvalidParameter.

    Parameters
    ----------
    given
        The parameters of a search, also from its body.
    """
    formats = (request.query if given is None else given).getall("_format", [])
    if formats:
        # A plus that was not escaped has become a space.
        name, version = _parsed(formats[0].replace(" ", "+").lower())
        return _version_checked(_BY_FORMAT.get(name), version)
    header = ",".join(request.headers.getall("Accept", []))
    if len(header) > _MAX_CHARACTERS:
        raise InvalidParameter("the Accept header is too long")
    if not header.strip():
        return FHIR_JSON
    for name, version, _ in sorted(_ranges(header), key=lambda each: -each[2]):
        if name in _ANY or name in _BY_FORMAT:
            return _version_checked(_BY_FORMAT.get(name, FHIR_JSON), version)
    return _version_checked(None, "")


def _version_checked(found: str | None, version: str) -> str:
    if found is None:
        raise NotAcceptable(f"available as {FHIR_JSON} or {JSON}")
    if version and version not in _VERSIONS:
        raise NotAcceptable("available in FHIR 4.0")
    return found


def _ranges(header: str) -> list[tuple[str, str, float]]:
    """Media ranges that are acceptable: name, fhirVersion and quality."""
    found = []
    for element in header.split(","):
        if not element.strip():
            continue
        name, version = _parsed(element.lower())
        quality = next((part for part in _parameters(element) if part[0] == "q"), ("q", "1"))[1]
        try:
            q = float(quality)
        except ValueError:
            q = 1.0
        if q > 0:
            found.append((name, version, q))
    return found


def _parsed(text: str) -> tuple[str, str]:
    version = next((value for name, value in _parameters(text) if name == "fhirversion"), "")
    return text.partition(";")[0].strip(), version


def _parameters(text: str) -> list[tuple[str, str]]:
    pairs = (piece.partition("=") for piece in text.split(";")[1:])
    return [(name.strip().lower(), value.strip().strip('"')) for name, _, value in pairs]
