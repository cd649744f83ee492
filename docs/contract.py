"""What the HTTP interfaces promise, one line each: operations, parameters, statuses and media types.

``make docs`` adds what is new to ``api-contract.txt`` and takes nothing away: what is gone stays there, and a test
fails until somebody takes the line out by hand, which docs/api.md says when to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.dicomweb import api
from gateway.entrance import api as entrance
from gateway.fhir import api as fhir
from gateway.http import openapi
from gateway.worker import routes

FILE = Path(__file__).parent / "api-contract.txt"
_METHODS = ("get", "post", "put", "delete")


def documents() -> Iterator[dict[str, Any]]:
    """The OpenAPI documents, with whole paths."""
    for each in (api, fhir, entrance):
        described = [route for route in routes() if (route.method, route.path) in each.OPERATIONS]
        yield openapi.document(described, each.OPERATIONS, each.PATH_PARAMETERS, "", "/", about="")


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What a document promises."""
    for path, entry in document["paths"].items():
        for method in _METHODS:
            if method in entry:
                operation = entry[method]
                name = f"{method.upper()} {path}"
                yield name
                for each in operation.get("parameters", ()):
                    yield f"{name} {each['in']} {each['name']}"
                for media_type in operation.get("requestBody", {}).get("content", {}):
                    yield f"{name} takes {media_type}"
                for status, answer in operation["responses"].items():
                    yield f"{name} {status}"
                    for media_type in answer.get("content", {}):
                        yield f"{name} {status} {media_type}"


def promised() -> set[str]:
    """What the code promises now."""
    return {line for document in documents() for line in lines(document)}


def committed() -> set[str]:
    """What was promised so far."""
    return set(FILE.read_text(encoding="utf-8").splitlines()) if FILE.exists() else set()


def kept() -> str:
    """The file, with what is new."""
    return "".join(f"{line}\n" for line in sorted(committed() | promised()))


def gone() -> list[str]:
    """What was promised, and is no longer."""
    return sorted(committed() - promised())
