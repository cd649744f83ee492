"""What was promised of the HTTP interfaces is still there; what is new is written down."""

from __future__ import annotations

import copy
from typing import Any

from docs import contract
from gateway.worker import routes


def test_nothing_that_was_promised_is_gone() -> None:
    assert contract.gone() == [], "deprecate it first; docs/api.md says how, and when its line may be taken out"


def test_what_is_new_is_written_down() -> None:
    assert sorted(contract.promised() - contract.committed()) == [], "run make docs"


def test_a_removal_is_noticed_whatever_it_is_of() -> None:
    (document, *_) = contract.documents()
    whole = set(contract.lines(document))
    assert "GET /dicomweb/studies" in whole
    paths = ("paths", "/dicomweb/studies")
    for place, name, missing in (
        (("paths",), "/dicomweb/studies", "GET /dicomweb/studies"),
        (paths, "post", "POST /dicomweb/studies"),
        ((*paths, "get"), "parameters", "GET /dicomweb/studies query limit"),
        ((*paths, "get", "responses"), "204", "GET /dicomweb/studies 204"),
        (
            (*paths, "get", "responses", "200", "content"),
            "application/json",
            "GET /dicomweb/studies 200 application/json",
        ),
    ):
        changed = copy.deepcopy(document)
        inside: dict[str, Any] = changed
        for each in place:
            inside = inside[each]
        del inside[name]
        assert missing in whole - set(contract.lines(changed))


def test_what_is_gone_stays_in_the_list() -> None:
    assert contract.committed() <= set(contract.kept().splitlines())


def test_what_is_deprecated_stands_in_the_document() -> None:
    text = (contract.FILE.parent / "api.md").read_text(encoding="utf-8")
    table = text.partition("| Deprecated |")[2].partition("\n\n")[0]
    deprecated = [each.path for each in routes() if each.deprecated is not None]
    assert [path for path in deprecated if path not in table] == []
    assert ("| nothing |" in table) is not bool(deprecated)
