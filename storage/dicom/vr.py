"""Value representations as data (PS3.5 6.2 "Value Representation (VR)", 7.1.2 "Explicit VR")."""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import DicomDictionary, dictionary_VR, mask_match  # type: ignore[attr-defined]

# PS3.5 7.1.2: these have two reserved bytes and a 32-bit length.
LONG_LENGTH = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
SHORT_LENGTH = frozenset(
    (
        b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO",
        b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
    )
)  # fmt: skip
NAMES: dict[bytes, str] = {vr: vr.decode("ascii") for vr in LONG_LENGTH | SHORT_LENGTH}

BYTES = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
"""Byte strings: base64 or a BulkDataURI in the DICOM JSON model."""

CHARACTER_SET = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
"""Text in the data set's Specific Character Set (PS3.5 6.1.2)."""

TEXT = CHARACTER_SET | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}

NUMBER_FORMATS = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
"""struct codes of the binary number VRs."""

WORD_BYTES = {
    "AT": 2, "FD": 8, "FL": 4, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2,
    "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8,
}  # fmt: skip
"""Bytes that swap together between the byte orders; VRs not listed do not swap."""


@lru_cache(maxsize=65_536)
def of_tag(tag: int) -> str:
    """The VR that the data dictionary gives a tag (PS3.6), as Implicit VR needs it; "UN" when unknown.

    Where the dictionary leaves a choice, the wider reading is given: "OW" for OB or OW, and "US" for US or SS,
    which ``resolve`` settles by Pixel Representation.
    """
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1:
        # PS3.5 7.8.1: (gggg,0010-00FF) of an odd group reserves a block.
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    entry = DicomDictionary.get(tag)
    if entry is None and mask_match(tag) is None:
        return "UN"
    vr = dictionary_VR(tag)
    if " or " not in vr:
        return vr if vr != "NONE" else "UN"
    return "OW" if "OW" in vr else "US"


SIGNED_BY_PIXEL_REPRESENTATION = frozenset([tag for tag, entry in DicomDictionary.items() if entry[0] == "US or SS"])
"""Tags whose VR is US or SS by Pixel Representation (0028,0103)."""
KNOWN = frozenset(DicomDictionary)
"""Tags of the data dictionary (PS3.6)."""
