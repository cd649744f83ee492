"""Conformance statement 4.8: Capabilities."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from gateway.dicomweb.routes import routes
from tests.conformance.claims import claim
from tests.conformance.conftest import Web

NOBODY = {"X-API-Key": "nobody's"}


@claim("O1")
@pytest.mark.parametrize("name", ["application/vnd.sun.wadl+xml", "application/xml", "text/xml"])
@pytest.mark.parametrize("root", ["", "/"])
def test_options_of_the_root_is_wadl(web: Web, name: str, root: str) -> None:
    answer = web.send("OPTIONS", root, name, headers=NOBODY)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, name)
    root = ElementTree.fromstring(answer.content)
    assert root.tag == "{http://wadl.dev.java.net/2009/02}application"
    assert root.findall(".//{*}resource[@path='studies']/{*}method[@name='GET']")


@claim("O2", "O3")
@pytest.mark.parametrize("name", ["application/json", "application/vnd.oai.openapi+json"])
def test_options_of_the_root_is_openapi_when_asked_for(web: Web, name: str) -> None:
    answer = web.send("OPTIONS", "", name, headers=NOBODY)
    assert answer.headers["Content-Type"] == name
    assert answer.json()["openapi"].startswith("3.1")
    assert web.get("/openapi.json", name, NOBODY).json() == answer.json()


@claim("O4")
def test_a_page_for_people(web: Web) -> None:
    answer = web.get("/api", "text/html", NOBODY)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "/studies/{study}" in answer.text


@claim("O5")
def test_every_route_stands_in_the_document(web: Web) -> None:
    paths = web.get("/openapi.json").json()["paths"]
    for route in routes():
        if route.action is not None:
            operation = paths[route.path.removeprefix("/dicomweb")][route.method.lower()]
            named = {each["name"] for each in paths[route.path.removeprefix("/dicomweb")]["parameters"]}
            assert set(re.findall(r"\{(\w+)\}", route.path)) == named
            assert operation["responses"]
