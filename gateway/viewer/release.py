"""Which release of the viewer is installed unless another is asked for, and what an installed one says of itself."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.config import Settings

PACKAGE = "@ohif/app"
VERSION = "3.13.2"
"""The release that the tests read with."""
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""Digest of its package, as the registry gives it (Subresource Integrity)."""

REGISTRY = "https://registry.npmjs.org"
"""Where it is fetched from."""

FILES = "files"
LICENSE = "LICENSE"
_NOTE = "release.json"


class InstallError(Exception):
    """The viewer was not installed; what was there before is there still."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release that was installed: where it came from and the digest that its package had."""

    version: str
    source: str
    integrity: str

    def write(self, directory: Path) -> None:
        """Keep it beside the files."""
        (directory / _NOTE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def folder(settings: Settings) -> Path:
    """Where the viewer is, or would be, installed."""
    return settings.viewer.directory or settings.storage.directory / "viewer"


def installed(directory: Path) -> Release | None:
    """What is installed there; None when nothing is, or nothing whole."""
    note = directory / _NOTE
    try:
        return _read(note, note.stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


@functools.lru_cache(maxsize=4)
def _read(note: Path, _changed_ns: int) -> Release:
    found = json.loads(note.read_text(encoding="utf-8"))
    return Release(str(found["version"]), str(found["source"]), str(found["integrity"]))
