"""From an extract to rows: attribute columns in normal form, stored attributes as JSON, documents."""

from __future__ import annotations

import zlib
from typing import Any

from storage.dicom import json_model, names
from storage.dicom.attributes import ATTRIBUTES, STORED_TAGS, Attribute, Level
from storage.dicom.frames import FrameKind, FrameTable
from storage.dicom.json_model import JsonDataSet
from storage.dicom.matching import Normal, normalise
from storage.dicom.part10 import BulkItem, Extract
from storage.index.base import Layout

_KEYS = frozenset(("study_uid", "series_uid", "sop_uid", "sop_class_uid"))
# What a search may return of one attribute; a longer one is in the metadata only.
_MAX_ATTRIBUTE_BYTES = 16_384


def columns(data_set: JsonDataSet, *levels: Level) -> dict[str, Normal]:
    """Attribute columns of some levels and their normal values; the identifying UIDs are not among them."""
    found: dict[str, Normal] = {}
    for attribute in ATTRIBUTES:
        if attribute.level not in levels or not attribute.column or attribute.column in _KEYS:
            continue
        text = _value(data_set, attribute)
        if attribute.vr == "PN":
            groups = names.groups(text)
            found.update(zip(attribute.columns, (group or None for group in groups), strict=True))
        else:
            found[attribute.column] = normalise(attribute, text)
    return found


def _value(data_set: JsonDataSet, attribute: Attribute) -> str:
    """First value as text; all groups of a name joined by "="."""
    element = data_set.get(attribute.tag)
    if element is None:
        return ""
    _, dot, inner = attribute.path.partition(".")
    if dot:
        items = json_model.loads(json_model.dumps(element)).get("Value") or [{}]
        element = items[0].get(inner, {})
    values = element.get("Value")
    if not values or values[0] is None:
        return ""
    first = values[0]
    if isinstance(first, dict):
        return "=".join(str(first.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic"))
    return str(first)


def attributes(data_set: JsonDataSet, *levels: Level) -> bytes:
    """The stored attributes of some levels as one JSON object."""
    wanted = frozenset().union(*(STORED_TAGS[level] for level in levels))
    kept: dict[str, Any] = {}
    for tag in sorted(wanted & data_set.keys()):
        element = data_set[tag]
        if "BulkDataURI" not in element and len(json_model.dumps(element)) <= _MAX_ATTRIBUTE_BYTES:
            kept[tag] = element
    return json_model.dumps(kept)


def patient_key(data_set: JsonDataSet, study_uid: str) -> tuple[str, str, str]:
    """Issuer, Patient ID and, for a blank one, the study it belongs to."""
    patient_id = json_model.text_of(data_set, "00100020").strip()
    issuer = json_model.text_of(data_set, "00100021").strip()
    return issuer, patient_id, "" if patient_id else study_uid


def pack(text: bytes) -> bytes:
    """Deflate a document; the fast level, since every arrival pays for it."""
    return zlib.compress(text, 1)


def unpack(body: bytes) -> bytes:
    """A document as it was."""
    return zlib.decompress(body)


def layout_document(extract: Extract) -> bytes:
    """The layout of an extract, packed."""
    table = extract.frames
    return pack(
        json_model.dumps(
            {
                "frames": [
                    table.kind.value,
                    table.count,
                    table.offset,
                    table.length,
                    table.stride_bits,
                    table.reason,
                ],
                "bulk": [[item.path, item.vr, item.offset, item.length] for item in extract.bulk],
            }
        )
    )


def layout_of(document: bytes) -> Layout:
    """The layout that ``layout_document`` packed."""
    found = json_model.loads(unpack(document))
    kind, *rest = found["frames"]
    return Layout(FrameTable(FrameKind(kind), *rest), tuple(BulkItem(*item) for item in found["bulk"]))
