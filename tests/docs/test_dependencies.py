"""What is installed unasked: every licence is permissive, and every bound is a floor."""

from __future__ import annotations

import re
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement

PROJECT = "dicomweb-gateway"
PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|HPND|CMU License|MPL|Mozilla Public License|Zlib|0BSD"
    r"|Unlicense|Public Domain)\b",
    re.IGNORECASE,
)
BINDING = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)


def required(name: str, seen: dict[str, str]) -> dict[str, str]:
    """Names and licences of everything that a distribution needs without extras, and of what that needs."""
    for text in distribution(name).requires or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        if wanted.name.lower() not in seen:
            seen[wanted.name.lower()] = licence(wanted.name)
            required(wanted.name, seen)
    return seen


def licence(name: str) -> str:
    meta = distribution(name).metadata
    said = [meta.get("License-Expression") or "", (meta.get("License") or "")[:400]]
    return " ".join([*said, *(each for each in meta.get_all("Classifier") or () if each.startswith("License"))])


def test_nothing_that_is_installed_unasked_binds_by_its_licence() -> None:
    found = required(PROJECT, {})
    assert len(found) > 25
    for name, said in found.items():
        assert not BINDING.search(said), (name, said)
        assert PERMISSIVE.search(said), (name, said)


@pytest.mark.parametrize("text", list(distribution(PROJECT).requires or ()))
def test_every_requirement_has_a_floor_and_no_ceiling(text: str) -> None:
    operators = {each.operator for each in Requirement(text).specifier}
    assert operators == {">="}, text
