"""All claims, in the order in which they are asked, and what becomes of each."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence

from gateway.conformance import negotiating, rendering, retrieving, searching, storing
from gateway.conformance.claims import Claim, Result, Service, tried
from gateway.conformance.visit import Visit


def _of(module: types.ModuleType) -> list[Claim]:
    return [each for each in vars(module).values() if isinstance(each, Claim)]


_MODULES = (storing, searching, retrieving, rendering, negotiating)
CLAIMS: Sequence[Claim] = tuple(each for module in _MODULES for each in _of(module))
"""Storing comes first, so that there is something to ask for, and deletion last."""


def chosen(services: Sequence[Service]) -> list[Claim]:
    """Those of some services, or all; the first store too where others ask for what it stores."""
    if not services:
        return list(CLAIMS)
    return [
        each for each in CLAIMS if each.service in services or each in (storing.store_dicom, storing.store_compressed)
    ]


def run(visit: Visit, claims: Sequence[Claim] = CLAIMS) -> Iterator[Result]:
    """Ask for each."""
    for each in claims:
        yield tried(each, visit)
