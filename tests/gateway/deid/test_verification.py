"""The last look at what came out."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from gateway.deid.identifiers import Identifiers
from gateway.deid.verification import residues

KNOWN = Identifiers(names=frozenset(("gray",)), numbers=frozenset(("mrn4711",)), dates=frozenset(("19610703",)))


def element(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"0008103E": element("LO", "scan of GRAY")}, ["0008103E"]),
        ({"00080090": element("PN", {"Alphabetic": "House", "Ideographic": "Gray"})}, ["00080090"]),
        ({"00204000": element("LT", "born 3 July 1961")}, ["00204000"]),
        ({"0040A730": element("SQ", {}, {"0040A160": element("UT", "MRN-4711")})}, ["0040A730.2.0040A160"]),
        ({"00091001": {"vr": "UN", "InlineBinary": base64.b64encode(b"\0\1Gray\xff\0").decode()}}, ["00091001"]),
        ({"00100010": element("PN", {"Alphabetic": "Gray"})}, []),
        ({"00400275": element("SQ", {"00100010": element("PN", {"Alphabetic": "Gray"})})}, ["00400275.1.00100010"]),
        ({"00180015": element("CS", "GRAY"), "00080018": element("UI", "1.2.19610703.1")}, []),
        ({"0008103E": element("LO", None, "graying"), "00091001": {"vr": "OB", "InlineBinary": "?"}}, []),
    ],
)
def test_words_and_printable_runs_are_looked_at_and_what_was_decided_by_the_table_is_not(
    found: dict[str, Any], expected: list[str]
) -> None:
    assert list(residues(found, KNOWN)) == expected
