"""The documents say what the code says, and point to what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import generate
from gateway import cli

ROOT = generate.FOLDER.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *generate.FOLDER.rglob("*.md")])
NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_COMMAND = re.compile(r"(?:^|[`/])gateway ([a-z][a-z-]*)", re.MULTILINE)
_TARGET = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.MULTILINE)


def _code(document: Path) -> str:
    return "\n".join(_CODE.findall(document.read_text(encoding="utf-8")))


def _anchors(document: Path) -> set[str]:
    """Anchors of headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def _commands() -> set[str]:
    actions = cli.parser()._subparsers
    assert actions is not None
    return {name for action in actions._group_actions for name in action.choices or ()}


def test_generated_parts_are_what_the_generator_writes() -> None:
    assert [path.name for path in generate.stale()] == []


def test_every_generated_part_stands_in_the_conformance_statement() -> None:
    text = (generate.FOLDER / "conformance.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"<!-- generated: (\S+) -->", text)) == sorted(generate.BLOCKS)
    assert text.count("<!-- end -->") == len(generate.BLOCKS)


def test_check_names_the_stale_file_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "conformance.md").write_text("<!-- generated: routes -->\nold\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(generate, "FOLDER", folder)
    assert generate.main(["--check"]) == 1
    assert {line.split()[1] for line in capsys.readouterr().err.splitlines()} == {
        "docs/settings.md;",
        "docs/cli.md;",
        "docs/conformance.md;",
    }
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert "/dicomweb/studies" in (folder / "conformance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_relative_link_points_to_something(document: Path) -> None:
    for link in _LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_command_and_target_that_is_named_exists(document: Path) -> None:
    code = _code(document)
    assert set(_COMMAND.findall(code)) <= _commands()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(_TARGET.findall(code)) <= targets


def test_the_readme_names_the_commands_that_matter() -> None:
    code = _code(ROOT / "README.md")
    assert {"serve", "check-config", "reindex"} <= set(_COMMAND.findall(code))
    assert {"demo", "test"} <= set(_TARGET.findall(code))
