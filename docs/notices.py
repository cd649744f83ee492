"""Writes docs/third-party.md of what is installed: everything that the gateway needs, and what it needs when asked to.

``python -m docs.notices``; not a part of ``docs.generate``, since what is installed is newer elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

FILE = Path(__file__).parent / "third-party.md"
PROJECT = "dicomweb-gateway"
_EXTRAS = {"postgres": "PostgreSQL", "otel": "traces", "ocr": "text in pixels"}
_HEAD = """# Third-party notices

What is installed with the gateway, written by `make notices` of an installed environment. Licences are as the packages
state them; their texts are in their distributions (`*.dist-info` of the environment or image). Nothing that is
installed unasked binds by its licence, which a test holds to; psycopg (LGPL) comes with the extra `postgres` alone. In
the image and by `gateway viewer install` there is also [OHIF](https://ohif.org) (`@ohif/app`, MIT). The site of these
documents is made by MkDocs (BSD-2-Clause) with Material for MkDocs (MIT).
"""


def needed(name: str, extra: str = "", seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names of everything that a distribution needs, itself left out; each may come more than once."""
    for text in distribution(name).requires or ():
        wanted = Requirement(text)
        marker = wanted.marker
        if marker is not None and not marker.evaluate({"extra": extra}):
            continue
        if extra and marker is None and name == PROJECT:
            continue
        if (key := wanted.name.lower()) in seen:
            continue
        try:
            distribution(wanted.name)
        except PackageNotFoundError:
            continue
        yield wanted.name
        yield from needed(wanted.name, "", seen | {key})


def licence(name: str) -> str:
    """The licence that a distribution states, in a few words."""
    meta = distribution(name).metadata
    if expression := meta.get("License-Expression"):
        return str(expression)
    classified = [each.rpartition(" :: ")[2] for each in meta.get_all("Classifier") or () if "License ::" in each]
    stated = (meta.get("License") or "").strip().partition("\n")[0]
    return ", ".join(classified) or stated[:60] or "see its distribution"


def text() -> str:
    """The document."""
    lines = [_HEAD]
    known: set[str] = set()
    for extra, title in {"": "Always", **_EXTRAS}.items():
        names = {each.lower(): each for each in needed(PROJECT, extra)}
        fresh = sorted(set(names) - known)
        known |= set(fresh)
        lines += [f"## {title}" + (f": extra `{extra}`" if extra else ""), "", "| Package | Licence |", "| --- | --- |"]
        lines += [f"| [{names[each]}](https://pypi.org/project/{each}/) | {licence(names[each])} |" for each in fresh]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
