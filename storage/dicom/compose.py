"""A data set's bytes from the DICOM JSON Model and bulk values that came apart, in Explicit VR Little Endian.

The opposite of ``part10.extract``: what STOW-RS takes as metadata and bulk data becomes an instance here
(PS3.18 10.5.2 "Request", F.2 "DICOM JSON Model").
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.valuerep import format_number_as_ds

from storage.dicom import explicit
from storage.dicom import vr as vrs
from storage.dicom.attributes import PIXEL_DATA_TAGS, describe
from storage.dicom.json_model import JsonDataSet, JsonElement
from storage.dicom.limits import Limits
from storage.errors import LimitExceeded, MalformedDataSet

_CHARACTER_SET = "00080005"
_UTF_8: JsonElement = {"vr": "CS", "Value": ["ISO_IR 192"]}
_TAG = re.compile(r"[0-9A-F]{8}")
_BYTES_TO_FLUSH = 1 << 16
_ONE_VALUE = frozenset(("LT", "ST", "UR", "UT"))
_KNOWN_VRS = frozenset(vrs.NAMES.values())


@dataclass(frozen=True, slots=True)
class BulkValue:
    """A value, or one frame of it, that came apart: its size in bytes, and its bytes anew at each call."""

    size: int
    blocks: Callable[[], Iterable[bytes]]


Bulk = Callable[[str], Sequence[BulkValue]]
"""The values behind a BulkDataURI, several where each frame came by itself; raises when there is none."""


def data_set(source: JsonDataSet, bulk: Bulk, limits: Limits, *, encapsulated: bool) -> Iterator[bytes]:
    """Write a data set; text in UTF-8, sequences with undefined lengths.

    Parameters
    ----------
    source
        As ``checked`` gave it; File Meta Information and group lengths in it are left out.
    bulk
        Gives the values behind BulkDataURIs.
    encapsulated
        Pixel Data goes into fragments, one for each bulk value, after a Basic Offset Table.

    Raises
    ------
    MalformedDataSet
        An element or value that is not of the model, with the attribute in the message; bulk pixels that are one
        value too many.
    LimitExceeded
        Nested deeper than the limits allow.
    """
    writer = _Writer(bulk, limits, encapsulated=encapsulated)
    buffer = bytearray()
    for block in writer.level(_in_utf_8(source), 0):
        buffer += block
        if len(buffer) >= _BYTES_TO_FLUSH:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def checked(source: Any) -> JsonDataSet:
    """Metadata whose top level has the form of the model; raises MalformedDataSet."""
    if not isinstance(source, dict):
        raise MalformedDataSet("a data set that is no JSON object")
    for tag, element in source.items():
        _number(tag)
        if not isinstance(element, dict):
            raise MalformedDataSet(f"{describe(tag)}: no JSON object")
        _values(tag, element)
    return source


def _in_utf_8(source: JsonDataSet) -> JsonDataSet:
    """JSON and XML are Unicode, whatever character set the instance named; PS3.18 F.2 wants UTF-8 for it."""
    return {_CHARACTER_SET: _UTF_8, **{tag: each for tag, each in source.items() if tag != _CHARACTER_SET}}


class _Writer:
    def __init__(self, bulk: Bulk, limits: Limits, *, encapsulated: bool) -> None:
        self._bulk = bulk
        self._limits = limits
        self._encapsulated = encapsulated

    def level(self, source: JsonDataSet, depth: int) -> Iterator[bytes]:
        if depth > self._limits.max_depth:
            raise LimitExceeded(f"sequences nested deeper than {self._limits.max_depth}")
        if not isinstance(source, dict):
            raise MalformedDataSet("a sequence item that is no JSON object")
        for tag, number in sorted((tag, _number(tag)) for tag in source):
            # Group lengths would be wrong, meta information is ours, and a nested character set would contradict.
            if number & 0xFFFF == 0 or number >> 16 < 0x0008 or (depth and tag == _CHARACTER_SET):
                continue
            yield from self._element(tag, number, source[tag], depth)

    def _element(self, tag: str, number: int, element: Any, depth: int) -> Iterator[bytes]:
        if not isinstance(element, dict):
            raise MalformedDataSet(f"{describe(tag)}: no JSON object")
        vr = element.get("vr") or vrs.of_tag(number)
        if not isinstance(vr, str) or vr not in _KNOWN_VRS:
            raise MalformedDataSet(f"{describe(tag)}: {str(vr)[:16]!r} is no VR")
        if vr == "SQ":
            yield explicit.sequence(number)
            for item in _values(tag, element):
                yield explicit.ITEM
                yield from self.level(item or {}, depth + 1)
                yield explicit.ITEM_END
            yield explicit.SEQUENCE_END
        elif "BulkDataURI" in element:
            yield from self._bulk_element(tag, number, vr, self._bulk(str(element["BulkDataURI"])))
        elif "InlineBinary" in element:
            yield from self._plain(tag, number, vr, _inline(tag, element["InlineBinary"]))
        else:
            yield from self._plain(tag, number, vr, _encode(tag, vr, _values(tag, element)))

    def _plain(self, tag: str, number: int, vr: str, value: bytes) -> Iterator[bytes]:
        if tag in PIXEL_DATA_TAGS and self._encapsulated:
            yield from _encapsulate(number, [BulkValue(len(value), lambda: [value])])
        else:
            yield explicit.header(number, vr, len(value) + len(value) % 2) + value + _pad(vr, len(value))

    def _bulk_element(self, tag: str, number: int, vr: str, values: Sequence[BulkValue]) -> Iterator[bytes]:
        if tag in PIXEL_DATA_TAGS and self._encapsulated:
            yield from _encapsulate(number, values)
            return
        size = sum(value.size for value in values)
        if size >= explicit.UNDEFINED:
            raise LimitExceeded(f"{describe(tag)}: longer than a native value may be")
        yield explicit.header(number, vr, size + size % 2)
        for value in values:
            yield from value.blocks()
        yield _pad(vr, size)


def _encapsulate(number: int, frames: Sequence[BulkValue]) -> Iterator[bytes]:
    """Pixel Data in fragments, one a frame (PS3.5 A.4); the offset table is empty where 32 bits are not enough."""
    yield explicit.header(number, "OB", explicit.UNDEFINED)
    offsets, position = [], 0
    for frame in frames:
        offsets.append(position)
        position += 8 + frame.size + frame.size % 2
    table = struct.pack(f"<{len(offsets)}I", *offsets) if len(frames) > 1 and position <= explicit.UNDEFINED else b""
    yield explicit.fragment(len(table)) + table
    for frame in frames:
        if frame.size + 1 >= explicit.UNDEFINED:
            raise LimitExceeded("a frame longer than a fragment may be")
        yield explicit.fragment(frame.size + frame.size % 2)
        yield from frame.blocks()
        yield b"\0" * (frame.size % 2)
    yield explicit.SEQUENCE_END


def _number(tag: object) -> int:
    text = str(tag)
    if _TAG.fullmatch(text) is None:
        raise MalformedDataSet(f"{text[:16]!r} is no tag of eight upper-case hexadecimal digits")
    return int(text, 16)


def _values(tag: str, element: JsonElement) -> list[Any]:
    found = element.get("Value")
    if found is not None and not isinstance(found, list):
        raise MalformedDataSet(f"{describe(tag)}: Value is no array")
    return found or []


def _inline(tag: str, text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedDataSet(f"{describe(tag)}: InlineBinary is not base64") from error


def _pad(vr: str, length: int) -> bytes:
    return (b" " if vr in vrs.TEXT and vr != "UI" else b"\0") if length % 2 else b""


def _encode(tag: str, vr: str, values: list[Any]) -> bytes:
    try:
        if vr in vrs.NUMBER_FORMATS:
            convert = float if vr in ("FD", "FL") else int
            return struct.pack(f"<{len(values)}{vrs.NUMBER_FORMATS[vr]}", *(convert(value) for value in values))
        if vr == "AT":
            return b"".join(struct.pack("<HH", int(value[:4], 16), int(value[4:], 16)) for value in values)
        if vr in vrs.TEXT:
            return "\\".join(_text(vr, value) for value in values).encode()
    except (struct.error, ValueError, TypeError, OverflowError, AttributeError, UnicodeEncodeError) as error:
        raise MalformedDataSet(f"{describe(tag)}: not a value of VR {vr}") from error
    if values:
        raise MalformedDataSet(f"{describe(tag)}: VR {vr} needs InlineBinary or a BulkDataURI")
    return b""


def _text(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if vr == "PN" and isinstance(value, dict):
        groups = [str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    if isinstance(value, bool | dict | list):
        raise ValueError(f"a {type(value).__name__} in a value of VR {vr}")
    if vr == "DS" and isinstance(value, float):
        return format_number_as_ds(value)
    text = str(value)
    if "\\" in text and vr not in _ONE_VALUE:
        raise ValueError("a backslash inside a value would make two of it")
    return text
