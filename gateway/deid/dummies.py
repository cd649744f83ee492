"""Values that say nothing (action D): valid for their VR and, where the IOD defines the value, for the attribute."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from pydicom import Dataset
from pydicom.uid import (
    EncapsulatedCDAStorage,
    EncapsulatedMTLStorage,
    EncapsulatedOBJStorage,
    EncapsulatedPDFStorage,
    EncapsulatedSTLStorage,
)

from gateway.deid.values import made

TEXT = "REMOVED"

# Zero is a number of every number VR; 1900-01-01 is a date that no image has.
_BY_VR: Mapping[str, object] = {
    "AE": TEXT, "AS": "000D", "CS": TEXT, "DA": "19000101", "DS": "0", "DT": "19000101000000", "IS": "0", "LO": TEXT,
    "LT": TEXT, "PN": TEXT, "SH": TEXT, "ST": TEXT, "TM": "000000", "UC": TEXT, "UR": "urn:removed", "UT": TEXT,
    "AT": 0, "FD": 0.0, "FL": 0.0, "SL": 0, "SS": 0, "SV": 0, "UL": 0, "US": 0, "UV": 0,
    "OB": b"\0\0", "OD": b"\0" * 8, "OF": b"\0" * 4, "OL": b"\0" * 4, "OV": b"\0" * 8, "OW": b"\0\0", "UN": b"\0\0",
}  # fmt: skip
_BY_TAG: Mapping[int, object] = {
    0x00080102: "99REMOVED",  # Coding Scheme Designator: a private one begins with 99 (PS3.16 8.2)
    0x04000565: "COERCE",  # Reason for the Attribute Modification: a defined term
    0x00340007: b"\0" * 10,  # Frame Origin Timestamp: a PTP timestamp (PS3.3 C.35.1)
}

_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>endobj\nxref\n0 4\n0000000000 65535 f \n"
    b"0000000009 00000 n \n0000000052 00000 n \n0000000101 00000 n \ntrailer<</Size 4/Root 1 0 R>>\n"
    b"startxref\n164\n%%EOF\n"
)
_CDA = b'<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>'
_DOCUMENTS: Mapping[str, bytes] = {
    EncapsulatedPDFStorage: _PDF,
    EncapsulatedCDAStorage: _CDA,
    EncapsulatedSTLStorage: b"\0" * 80 + struct.pack("<I", 0),
    EncapsulatedOBJStorage: b"# removed\n",
    EncapsulatedMTLStorage: b"# removed\n",
}


def value(tag: int, vr: str) -> object:
    """The dummy of an attribute that is neither a sequence nor a UID."""
    return _BY_TAG.get(tag, _BY_VR.get(vr, b"\0\0"))


def document(sop_class_uid: str) -> bytes:
    """An Encapsulated Document (0042,0011) of the kind of its SOP class, with nothing in it; of even length."""
    found = _DOCUMENTS.get(sop_class_uid, b"\0\0")
    return found + b"\0" * (len(found) % 2)


def _code(code: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    for tag, vr, text in ((0x00080100, "SH", code), (0x00080102, "SH", scheme), (0x00080104, "LO", meaning)):
        item.add(made(tag, vr, text))
    return item


def _content_item() -> Dataset:
    """A content item that every IOD with text may have (PS3.3 C.17.3)."""
    item = Dataset()
    item.add(made(0x0040A010, "CS", "CONTAINS"))
    item.add(made(0x0040A040, "CS", "TEXT"))
    item.add(made(0x0040A043, "SQ", [_code("121106", "DCM", "Comment")]))
    item.add(made(0x0040A160, "UT", TEXT))
    return item


def _graphic_annotation() -> Dataset:
    """One invisible point in a layer (PS3.3 C.10.5)."""
    item = Dataset()
    point = Dataset()
    for tag, vr, found in (
        (0x00700005, "CS", "DISPLAY"),
        (0x00700020, "US", 2),
        (0x00700021, "US", 1),
        (0x00700022, "FL", [0.0, 0.0]),
        (0x00700023, "CS", "POINT"),
    ):
        point.add(made(tag, vr, found))
    item.add(made(0x00700002, "CS", TEXT))
    item.add(made(0x00700009, "SQ", [point]))
    return item


_ITEMS: Mapping[int, Callable[[], Dataset]] = {0x0040A730: _content_item, 0x00700001: _graphic_annotation}


def item(tag: int) -> Dataset | None:
    """The one item of a sequence that has one of its own; None where the old items show what belongs there."""
    found = _ITEMS.get(tag)
    return None if found is None else found()
