"""Values in the DICOM JSON Model (PS3.18 Annex F).

A data set is a ``dict`` from eight upper-case hexadecimal digits to ``{"vr": ..., "Value": [...]}``; what is too
long to stand there has ``BulkDataURI`` instead. URIs are kept relative to the service root and completed on the
way out (``with_base``).
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import orjson

from storage.dicom import charsets
from storage.dicom import vr as vrs
from storage.errors import MalformedDataSet

JsonElement = dict[str, Any]
JsonDataSet = dict[str, Any]

_BULK_KEY = b'"BulkDataURI":"'
_INT64 = 1 << 63
_SHORT_BYTES = 64
_SHORT_VALUES = 8192


def element(vr: str, raw: bytes, codecs: charsets.Encodings, *, big_endian: bool) -> JsonElement:
    """One element's value in the DICOM JSON Model.

    Parameters
    ----------
    vr
        Two letters; not "SQ".
    raw
        The value field as stored.
    codecs
        The data set's character sets, from ``charsets.encodings``.
    big_endian
        Byte order of binary numbers.

    Returns
    -------
    JsonElement
        Not to be changed: nine in ten values of a series are those of the instance before, so short ones are shared.
    """
    if len(raw) <= _SHORT_BYTES:
        return _short_element(vr, raw, codecs, big_endian)
    return _element(vr, raw, codecs, big_endian)


def _element(vr: str, raw: bytes, codecs: charsets.Encodings, big_endian: bool) -> JsonElement:
    if not raw:
        return {"vr": vr}
    if vr in vrs.TEXT:
        values = _text_values(vr, raw, codecs)
        return {"vr": vr, "Value": values} if values else {"vr": vr}
    if vr in vrs.NUMBER_FORMATS:
        return {"vr": vr, "Value": numbers(vr, raw, big_endian=big_endian)}
    if vr == "AT":
        order = ">" if big_endian else "<"
        pairs = struct.iter_unpack(order + "HH", raw[: len(raw) // 4 * 4])
        return {"vr": vr, "Value": [f"{group:04X}{number:04X}" for group, number in pairs]}
    if big_endian and vr in vrs.WORD_BYTES:
        raw = swap(raw, vrs.WORD_BYTES[vr])
    return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode("ascii")}


_short_element = lru_cache(maxsize=_SHORT_VALUES)(_element)


def numbers(vr: str, raw: bytes, *, big_endian: bool) -> list[Any]:
    """Values of a binary number VR; what JSON has no number for (NaN, infinities) as a string."""
    code = vrs.NUMBER_FORMATS[vr]
    size = struct.calcsize("<" + code)
    count = len(raw) // size
    found = struct.unpack_from(f"{'>' if big_endian else '<'}{count}{code}", raw)
    if code in "fd":
        return [number if math.isfinite(number) else _not_finite(number) for number in found]
    return list(found)


def _not_finite(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _text_values(vr: str, raw: bytes, codecs: charsets.Encodings) -> list[Any]:
    if vr in ("LT", "ST", "UT", "UR"):
        text = _decode(vr, raw, codecs).rstrip(" \0")
        return [text] if text else []
    text = _decode(vr, raw, codecs)
    values = [_one(vr, part) for part in text.split("\\")]
    return values if any(value is not None for value in values) else []


def _decode(vr: str, raw: bytes, codecs: charsets.Encodings) -> str:
    if vr in vrs.CHARACTER_SET:
        return charsets.decode(raw, codecs, person_name=vr == "PN")
    return charsets.decode(raw, charsets.DEFAULT)


def _one(vr: str, part: str) -> Any:
    """One of several values; None when it is empty, as Annex F.2.5 has it."""
    text = part.rstrip(" \0") if vr == "UC" else part.strip(" \0")
    if not text:
        return None
    if vr == "PN":
        return person_name(text)
    if vr == "IS":
        return _integer(text)
    if vr == "DS":
        return _decimal(text)
    return text


def person_name(text: str) -> dict[str, str] | None:
    """Component groups of a person's name (PS3.18 F.2.2)."""
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {name: group.rstrip(" ^") for name, group in groups if group.rstrip(" ^")} or None


def _integer(text: str) -> int | str:
    try:
        number = int(text) if "_" not in text else None
    except ValueError:
        number = None
    return number if number is not None and -_INT64 <= number < _INT64 else text


def _decimal(text: str) -> float | int | str:
    try:
        if text.isdigit() and len(text) < 16:
            return int(text)
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) and "_" not in text else text


def swap(raw: bytes, word_bytes: int) -> bytes:
    """Exchange the byte order of every word; an incomplete last word stays as it is."""
    whole = len(raw) // word_bytes * word_bytes
    swapped = bytearray(raw)
    for place in range(word_bytes):
        swapped[place:whole:word_bytes] = raw[word_bytes - 1 - place : whole : word_bytes]
    return bytes(swapped)


def swapped(blocks: Iterable[bytes], word_bytes: int) -> Iterator[bytes]:
    """The blocks of a value in the other byte order; words may lie across blocks."""
    if word_bytes == 1:
        yield from blocks
        return
    rest = b""
    for block in blocks:
        joined = rest + block
        whole = len(joined) // word_bytes * word_bytes
        rest = joined[whole:]
        yield swap(joined[:whole], word_bytes)
    yield rest


def dumps(value: object) -> bytes:
    """JSON text in UTF-8."""
    return orjson.dumps(value)


def loads(text: bytes | str) -> Any:
    """The value of a JSON text."""
    return orjson.loads(text)


def received(text: bytes) -> Any:
    """The value of a JSON text that somebody else wrote.

    Raises
    ------
    ValueError
        It is not JSON.
    MalformedDataSet
        A name stands twice in one object: others may take the first where we would take the last; or it is too deep.
    """
    found = orjson.loads(text)
    try:
        json.loads(text, object_pairs_hook=_unique, parse_float=_unread, parse_int=_unread)
    except RecursionError as error:
        raise MalformedDataSet("objects nested too deep") from error
    return found


def _unread(_number: str) -> int:
    return 0


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) != len({name for name, _ in pairs}):
        raise MalformedDataSet("a name stands twice in one object")


def with_base(body: bytes, base_url: str) -> bytes:
    """Complete every relative BulkDataURI in a JSON text with the service root.

    Works on the text: inside a JSON string the quotes of the searched pattern would be escaped, so a patient's
    text cannot imitate it.
    """
    root = orjson.dumps(base_url.rstrip("/") + "/")[1:-1]
    return body.replace(_BULK_KEY, _BULK_KEY + root)


def text_of(data_set: JsonDataSet, tag: str) -> str:
    """First value of an attribute as text: the alphabetic group of a name, "" when absent or empty."""
    values = data_set.get(tag, {}).get("Value")
    if not values or values[0] is None:
        return ""
    first = values[0]
    if isinstance(first, dict):
        return str(first.get("Alphabetic", ""))
    return str(first)


def number_of(data_set: JsonDataSet, tag: str, default: int) -> int:
    """First value of an attribute as a whole number; the default when absent or not a number."""
    values = data_set.get(tag, {}).get("Value")
    first = values[0] if values else None
    return int(first) if isinstance(first, int | float) and math.isfinite(first) else default
