"""From an extract to rows: attribute columns in normal form, stored attributes as JSON, documents."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from storage.dicom import json_model, names
from storage.dicom.attributes import BY_KEYWORD, COLUMNS, MOMENTS, SOURCE_AE, STORED_TAGS, Attribute, Level
from storage.dicom.frames import FrameKind, FrameTable
from storage.dicom.json_model import JsonDataSet, JsonElement
from storage.dicom.matching import Record
from storage.dicom.normal import Normal, in_utc, instant_bound, normalise
from storage.dicom.part10 import BulkItem, Extract
from storage.index.stored import Layout

_KEYS = frozenset(("study_uid", "series_uid", "sop_uid", "sop_class_uid"))
# What a search may return of one attribute; a longer one is in the metadata only.
MAX_ATTRIBUTE_BYTES = 16_384
_MAX_ITEMS = 1000
_TIMEZONE_OFFSET = "00080201"
_REQUEST_ATTRIBUTES = "00400275"
_OF_REQUESTS = tuple(attribute for attribute in COLUMNS if attribute.items == "request_item")
_READING_PHYSICIAN = BY_KEYWORD["NameOfPhysiciansReadingStudy"]
_COMPLEMENT = str.maketrans("0123456789", "9876543210")
NAMES: tuple[Attribute, ...] = tuple(attribute for attribute in COLUMNS if attribute.vr == "PN")
"""Names that fuzzy matching finds; all of them are the studies'."""


def columns(data_set: JsonDataSet, *levels: Level) -> dict[str, Normal]:
    """Attribute columns of some levels and their normal values.

    The identifying UIDs are not among them, nor is what may be there several times (``items``).
    """
    found: dict[str, Normal] = {}
    offset = json_model.text_of(data_set, _TIMEZONE_OFFSET)
    for attribute in COLUMNS:
        if attribute.level not in levels or attribute.column in _KEYS or attribute.items or "+" in attribute.path:
            continue
        text = _value(data_set.get(attribute.tag))
        if attribute.vr == "PN":
            found.update(_name(attribute, text))
        elif attribute.vr == "DT":
            found[attribute.column] = instant_bound(text, high=False, offset=offset)
        else:
            found[attribute.column] = normalise(attribute.vr, text)
    for moment in MOMENTS:
        if moment.date.level in levels:
            date, time = found[moment.date.column], found[moment.time.column]
            known = isinstance(date, str) and isinstance(time, str)
            found[moment.instant.column] = in_utc(str(date), str(time), offset) if known else None
    return found


def record(data_set: JsonDataSet, *levels: Level) -> Record:
    """What conditions on some levels are evaluated over (``storage.dicom.matching.matches``)."""
    return {**columns(data_set, *levels), **items(data_set, *levels)}


def items(data_set: JsonDataSet, *levels: Level) -> dict[str, list[dict[str, Normal]]]:
    """What may be there several times on some levels: by table, the columns of each item that has a value in them."""
    found: dict[str, list[dict[str, Normal]]] = {}
    if Level.STUDY in levels:
        names_ = _small(data_set.get(_READING_PHYSICIAN.tag)).get("Value") or []
        found[_READING_PHYSICIAN.items] = _kept(_name(_READING_PHYSICIAN, _text(each)) for each in names_[:_MAX_ITEMS])
    if Level.SERIES in levels:
        requests = json_model.loads(json_model.dumps(data_set.get(_REQUEST_ATTRIBUTES, {}))).get("Value") or []
        found["request_item"] = _kept(_request(item or {}) for item in requests[:_MAX_ITEMS])
    return found


def sources(source_ae_title: str) -> dict[str, list[dict[str, Normal]]]:
    """Who sent an instance, as an item of its series; "" is not known."""
    return {SOURCE_AE.items: [{SOURCE_AE.column: source_ae_title}]}


def _small(element: JsonElement | None) -> JsonElement:
    """An element as far as ``attributes`` keep it: what is filled from those agrees with what arrives."""
    return element if element is not None and len(json_model.dumps(element)) <= MAX_ATTRIBUTE_BYTES else {}


def _kept(found: Iterable[dict[str, Normal]]) -> list[dict[str, Normal]]:
    return [values for values in found if any(value is not None for value in values.values())]


def _name(attribute: Attribute, text: str) -> dict[str, Normal]:
    """The columns of a name."""
    return dict(zip(attribute.columns, (group or None for group in names.groups(text)), strict=True))


def _request(item: JsonDataSet) -> dict[str, Normal]:
    return {each.column: normalise(each.vr, _value(item.get(each.path.rpartition(".")[2]))) for each in _OF_REQUESTS}


def name_keys(data_set: JsonDataSet) -> list[tuple[str, str]]:
    """Keys of fuzzy matching of a study's names, as (column, key)."""
    levels = (Level.PATIENT, Level.STUDY)
    of_study, several = columns(data_set, *levels), items(data_set, *levels)
    found = []
    for attribute in NAMES:
        groups = [each.get(column) for each in several.get(attribute.items, [of_study]) for column in attribute.columns]
        found += [(attribute.column, key) for key in sorted(names.keys(str(group) for group in groups if group))]
    return found


def study_rank(date: Normal, time: Normal) -> str:
    """A text that sorts studies newest first, and those without a date or time after those with one."""
    return "".join(str(part).translate(_COMPLEMENT) if part else "~" for part in (date, time))


def number_rank(number: Normal) -> int:
    """A number that sorts by a number, what has none first."""
    return int(number) if isinstance(number, int) else -(1 << 62)


def _value(element: JsonElement | None) -> str:
    """First value as text."""
    values = element.get("Value") if element is not None else None
    return _text(values[0]) if values else ""


def _text(value: Any) -> str:
    """One value as text; all groups of a name joined by "="."""
    if value is None:
        return ""
    if isinstance(value, dict):
        value = "=".join(str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic"))
    # PostgreSQL keeps no NUL in a text, and within a value it is but padding gone astray.
    return str(value).replace("\0", "")


def attributes(data_set: JsonDataSet, *levels: Level) -> bytes:
    """The stored attributes of some levels as one JSON object."""
    wanted = frozenset().union(*(STORED_TAGS[level] for level in levels))
    kept: dict[str, Any] = {}
    for tag in sorted(wanted & data_set.keys()):
        element = data_set[tag]
        if "BulkDataURI" not in element and len(json_model.dumps(element)) <= MAX_ATTRIBUTE_BYTES:
            kept[tag] = element
    return json_model.dumps(kept)


def patient_key(data_set: JsonDataSet, study_uid: str) -> tuple[str, str, str]:
    """Issuer, Patient ID and, for a blank one, the study it belongs to."""
    patient_id, issuer = (_value(data_set.get(tag)).strip() for tag in ("00100020", "00100021"))
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
