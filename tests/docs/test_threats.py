"""Each threat, and each class of hostile request, that docs/security.md names has its test, and the test is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PLACES = {
    "## Threat model": ("tests/gateway", "."),
    "### Share links and sessions": ("tests/gateway/entrance", "."),
    "## Hostile input over HTTP": ("tests/gateway/http", "tests/gateway", "."),
}
"""Where what a table names is looked for, as the text beside it says; `tests/...` is from the top."""
ALONE = {"### Share links and sessions": "test_shares.py", "## Hostile input over HTTP": "test_hostile_requests.py"}
"""Whose `::` is meant where no file is named before it in the row."""


def rows() -> Iterator[tuple[str, list[str]]]:
    """The cells of each row of tables whose last column is the test, with the heading above."""
    heading, is_table = "", False
    for line in TEXT.splitlines():
        if line.startswith("#"):
            heading = line
        cells = [each.strip() for each in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            is_table = False
        elif cells[-1] == "Test":
            is_table = True
        elif is_table and not set(line) <= set("|- "):
            yield heading, cells


def named() -> Iterator[tuple[str, str]]:
    """Each test that a row names, with its heading; what stands for itself goes on in the file named before it."""
    for heading, cells in rows():
        file = ALONE.get(heading, "")
        for reference in re.findall(r"`([^`]+)`", cells[-1]):
            path, mark, name = reference.partition("::")
            if path:
                file = path
            yield heading, f"{file}{mark}{name}"


def place(heading: str, path: str) -> Path | None:
    """The file or folder that a path means."""
    return next((found for folder in PLACES[heading] if (found := ROOT / folder / path).exists()), None)


@cache
def names_in(place: Path) -> frozenset[str]:
    """The names of the tests in a file or folder."""
    files = [place] if place.is_file() else list(place.rglob("test_*.py"))
    trees = [ast.parse(each.read_text(encoding="utf-8")) for each in files]
    return frozenset(
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def test_each_row_names_what_stands_against_it() -> None:
    found = list(rows())
    assert {heading for heading, _ in found} == set(PLACES)
    assert len(found) > 60
    assert [cells for _, cells in found if not re.search(r"`[^`]+`|\]\(#[\w-]+\)", cells[-1])] == []


@pytest.mark.parametrize(("heading", "reference"), sorted(set(named())))
def test_what_is_named_is_there(heading: str, reference: str) -> None:
    path, _, name = reference.partition("::")
    found = place(heading, path)
    assert found is not None, "no such file"
    assert [each for each in names_in(found) if fnmatch(each, name or "*")], "no such test"
