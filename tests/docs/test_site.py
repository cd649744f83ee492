"""The site of the documents is built without a broken link, has every document, and fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from docs import generate, notices
from docs.site import FROM_ROOT, slug

ROOT = generate.FOLDER.parent
_FETCHED = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)="?(https?://[^"\s>]+)""")


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    documents = [each.relative_to(generate.FOLDER).with_suffix(".html") for each in generate.FOLDER.rglob("*.md")]
    pages = [*documents, *(Path(each).with_suffix(".html") for each in FROM_ROOT.values())]
    assert [str(each) for each in pages if not (site / each).exists()] == []
    assert list(site.rglob("*.py")) == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        found = [url for url in _FETCHED.findall(page.read_text(encoding="utf-8")) if "rel=canonical" not in url]
        assert found == [], page.name


def test_a_broken_link_is_no_site(tmp_path: Path) -> None:
    # The same configuration, of documents of which one leads nowhere.
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[nowhere](nowhere.md), [no such part](#two)\n")
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    kept = text.partition("nav:\n  - Home")[0].replace("hooks:\n  - docs/site.py\n", "")
    (tmp_path / "mkdocs.yml").write_text(kept)
    built = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert built.returncode != 0
    assert "nowhere.md" in built.stderr
    assert "#two" in built.stderr


def test_anchors_are_those_of_the_repository() -> None:
    assert slug("4.13 FHIR R4: what there is", "-") == "413-fhir-r4-what-there-is"


def test_how_tos_say_whether_they_were_followed() -> None:
    for page in (generate.FOLDER / "howto").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert text.count("\n*Followed ") + text.count('!!! warning "Not yet verified"') == 1, page.name


def test_what_is_required_is_in_the_notices() -> None:
    text = notices.FILE.read_text(encoding="utf-8").lower()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert block
    names = [Requirement(each).name.lower() for each in re.findall(r'"([^"]+)"', block[1])]
    assert len(names) > 20
    assert [each for each in names if f"[{each}](" not in text] == [], "run make notices"
