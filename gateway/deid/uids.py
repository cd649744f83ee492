"""Which UIDs say who somebody is, and which only what something is."""

from __future__ import annotations

import re

from pydicom._uid_dict import UID_dictionary

from storage.dicom.identifiers import UID_MAX_LENGTH

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+", re.ASCII)

WELL_KNOWN = frozenset(UID_dictionary)
"""PS3.6 Annex A: SOP classes, transfer syntaxes, coding schemes, well-known frames of reference and instances."""

NAMES_A_KIND = frozenset(
    (
        0x00000002, 0x00000003, 0x00041510, 0x00041512, 0x0004151A, 0x00080016, 0x0008001A, 0x0008001B, 0x00080062,
        0x0008010C, 0x0008010D, 0x0008040E, 0x00080117, 0x00080118, 0x00081150, 0x0008115A, 0x00083002, 0x00340003,
        0x04000010, 0x04000510, 0x30100052, 0x30100053,
    )
)  # fmt: skip
"""Attributes whose UIDs are those of SOP classes, transfer syntaxes, coding schemes and the like.

They stay even where a vendor made them, as a private SOP class: they are not anybody's, and without them nobody can
read the instance. Every other UID is replaced, also where Table E.1-1 does not list the attribute.
"""


def is_uid(text: str) -> bool:
    """Whether a value is of the form of a UID (PS3.5 9.1; leading zeros are taken, as everywhere here)."""
    return not text or (len(text) <= UID_MAX_LENGTH and _UID.fullmatch(text) is not None)
