"""No mark that the table does not let stay is in any byte of an output, whatever the encoding and the options."""

from __future__ import annotations

import itertools
import os
import zlib

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from gateway.deid import Option, Profile, deidentify
from tests.gateway.deid import canaries
from tests.gateway.deid.made import PATIENT, PSEUDONYMS, read, written

PRIVATE_CLASS = "1.2.826.0.1.3680043.9.9999.1"
ENCODINGS = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
ALONE = [(), *((option,) for option in canaries.OPTIONS)]
PAIRS = list(itertools.combinations(canaries.OPTIONS, 2))
NAMES = {uid: uid.name.split(" (")[0] for uid in ENCODINGS}
WHOLE_GRID = bool(os.environ.get("DEID_GRID"))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The planted instance in each encoding."""
    planted = canaries.planted(PRIVATE_CLASS)
    return {syntax: written(planted, syntax) for syntax in ENCODINGS}


def plain(data: bytes, syntax: str) -> bytes:
    """The bytes of a file, inflated."""
    if syntax != DeflatedExplicitVRLittleEndian:
        return data
    start = 144 + int.from_bytes(data[140:144], "little")
    return data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)


def check(files: dict[str, bytes], syntax: str, options: tuple[str, ...]) -> None:
    profile = Profile(frozenset(map(Option, options)))
    chosen = frozenset(options)
    found = deidentify(read(files[syntax]), profile, PSEUDONYMS, PATIENT, canaries.Cleaner())
    data = plain(found.part10(), syntax)
    left = {each.decode() for each in canaries.MARK.findall(data)}
    assert left <= canaries.marks_that_stay(chosen)
    again = read(data if syntax != DeflatedExplicitVRLittleEndian else found.part10())
    faults = {
        (f"{tag:08x}", depth): fault
        for tag in canaries.WRITABLE
        for depth in range(3)
        if tag != 0x00080016 and (fault := canaries.fault(tag, depth, chosen, again))
    }
    assert faults == {}


@pytest.mark.parametrize("syntax", ENCODINGS, ids=NAMES.get)
@pytest.mark.parametrize("options", ALONE, ids=lambda chosen: "+".join(chosen) or "basic")
def test_every_attribute_gets_its_action(files: dict[str, bytes], syntax: str, options: tuple[str, ...]) -> None:
    check(files, syntax, options)


# The encoding and the pair decide apart from each other: `make deid-grid` takes each pair in each encoding.
@pytest.mark.parametrize("syntax", ENCODINGS if WHOLE_GRID else [ExplicitVRLittleEndian], ids=NAMES.get)
@pytest.mark.parametrize("options", PAIRS, ids="+".join)
def test_every_attribute_gets_the_action_of_two_options(
    files: dict[str, bytes], syntax: str, options: tuple[str, ...]
) -> None:
    check(files, syntax, options)
