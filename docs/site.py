"""What the site makes of the documents: files of the repository's root as pages, and anchors as GitHub has them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FROM_ROOT = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
}
"""Documents that a reader of the repository looks for at its root, and their pages."""
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")


def slug(text: str, _separator: str) -> str:
    """The anchor of a heading, as GitHub makes it, so that the same links hold in both places."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents of the root, and the decisions to the navigation."""
    for name, page in FROM_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    decisions = sorted(each.src_uri for each in files if each.src_uri.startswith("decisions/"))
    (contributing,) = [each["Contributing"] for each in config.nav or [] if "Contributing" in each]
    if not any("Decisions" in each for each in contributing):
        contributing.insert(1, {"Decisions": decisions})
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site; what is in the repository alone is named, and leads nowhere."""
    del config
    here = PurePosixPath(page.file.src_uri)
    from_root = here.name in FROM_ROOT.values()

    def moved(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if re.match(r"[a-z]+:", target):
            return found[0]
        base = ROOT if from_root else ROOT / "docs" / here.parent
        there = (base / target).resolve()
        if there.parent == ROOT and there.name in FROM_ROOT:
            return _relative(here, FROM_ROOT[there.name]) + anchor
        if there.is_relative_to(ROOT / "docs"):
            name = there.relative_to(ROOT / "docs").as_posix()
            return _relative(here, name) + anchor if files.get_file_from_path(name) else found[0]
        return found[0]

    return _LINK.sub(moved, markdown)


def _relative(here: PurePosixPath, target: str) -> str:
    return "../" * (len(here.parts) - 1) + target
