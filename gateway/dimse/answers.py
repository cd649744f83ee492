"""C-FIND answers: results in the DICOM JSON Model become identifiers in the requestor's character set.

Values are encoded here and handed to pydicom as raw elements, which it writes as they are: nothing is parsed,
validated or rounded once more on its way out.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from pydicom.charset import convert_encodings, default_encoding, encode_string, python_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from gateway.dimse.identifiers import SPECIFIC_CHARACTER_SET, Key, Keys
from storage.dicom import charsets, file_meta, json_model
from storage.dicom import vr as vrs
from storage.dicom.elements import Encoding
from storage.dicom.json_model import JsonDataSet, JsonElement

UTF_8 = ("ISO_IR 192",)
_DELIMITERS = re.compile(r"([\\^=\r\n\t\f])")
_TWO_BYTES_IN_G0 = ("iso2022_jp", "iso2022_jp_2")
_ESCAPE_TO_ASCII = b"\x1b(B"
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_RETRIEVE_URL = "00081190"


class _NotEncodable(Exception):
    """A text does not fit into a character set."""


class Answers:
    """Makes the identifiers of one request's responses."""

    def __init__(self, asked: Keys, transfer_syntax_uid: str, about: JsonDataSet | None = None) -> None:
        """``about`` is what each answer says of itself, whatever was asked for."""
        self._asked = asked
        self._encoding = file_meta.encoding_of(transfer_syntax_uid)
        self._transfer_syntax_uid = transfer_syntax_uid
        self._about = about or {}

    def answer(self, result: JsonDataSet) -> bytes:
        """One response: the keys that were asked for, in the requestor's character set where everything fits it."""
        found = {
            key.tag: _selected(result.get(key.tag), key)
            for key in self._asked.keys
            if key.tag != SPECIFIC_CHARACTER_SET
        }
        # A relative URL means nothing over DIMSE.
        if _RETRIEVE_URL in found:
            found[_RETRIEVE_URL] = {"vr": "UR"}
        found |= self._about
        try:
            data_set = self._encoded(found, self._asked.character_sets)
        except _NotEncodable:
            data_set = self._encoded(found, UTF_8)
        return written(data_set, self._transfer_syntax_uid)

    def _encoded(self, found: JsonDataSet, sets: tuple[str, ...]) -> Dataset:
        if any(sets):
            found = {**found, SPECIFIC_CHARACTER_SET: {"vr": "CS", "Value": list(sets)}}
        pydicom_encodings = convert_encodings(list(sets)) if _usable(sets) and any(sets) else default_encoding
        return _data_set(found, _encoder(sets), self._encoding, pydicom_encodings)


def written(data_set: Dataset, transfer_syntax_uid: str) -> bytes:
    """A data set as bytes in a transfer syntax of messages."""
    encoding = file_meta.encoding_of(transfer_syntax_uid)
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = encoding.implicit, not encoding.big_endian
    write_dataset(file, data_set)
    found = bytes(file.getvalue())
    if not encoding.deflated:
        return found
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(found) + packer.flush()
    return packed + b"\0" * (len(packed) % 2)


def _selected(element: JsonElement | None, key: Key) -> JsonElement:
    """What is known of a key; of a sequence's items, the keys that were asked for."""
    if element is None or element["vr"] != "SQ":
        return element or {"vr": key.vr}
    if not key.nested:
        return element
    items = [{inner.tag: item.get(inner.tag, {"vr": inner.vr}) for inner in key.nested} for item in _values(element)]
    return {"vr": "SQ", "Value": items}


def _values(element: JsonElement) -> list[Any]:
    found: list[Any] = element.get("Value", [])
    return found


_Encode = Callable[[str], bytes]


def _data_set(found: JsonDataSet, encode: _Encode, encoding: Encoding, encodings: str | list[str]) -> Dataset:
    data_set = Dataset()
    data_set.set_original_encoding(encoding.implicit, not encoding.big_endian, encodings)
    for name, element in sorted(found.items()):
        tag, vr = Tag(int(name, 16)), element["vr"]
        if vr == "SQ":
            items = [_data_set(item, encode, encoding, default_encoding) for item in _values(element) if item]
            data_set[tag] = DataElement(tag, "SQ", Sequence(items))
            continue
        value = _bytes(vr, element, encode, encoding)
        data_set[tag] = RawDataElement(tag, vr, len(value), value, 0, encoding.implicit, not encoding.big_endian, True)
    return data_set


def _bytes(vr: str, element: JsonElement, encode: _Encode, encoding: Encoding) -> bytes:
    values = _values(element)
    if vr in vrs.TEXT:
        text = "\\".join(_text(vr, value) for value in values)
        # Outside of the character set VRs a stray byte was read as Latin-1, and goes back as it came.
        value = encode(text) if vr in vrs.CHARACTER_SET else text.encode("latin-1", "replace")
        return value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    order = ">" if encoding.big_endian else "<"
    if vr in vrs.NUMBER_FORMATS:
        code = vrs.NUMBER_FORMATS[vr]
        numbers = [float(value) if code in "fd" else int(value) for value in values]
        return struct.pack(f"{order}{len(numbers)}{code}", *numbers)
    if vr == "AT":
        return b"".join(struct.pack(f"{order}HH", int(value[:4], 16), int(value[4:], 16)) for value in values)
    raw = base64.b64decode(element.get("InlineBinary", ""))
    if encoding.big_endian and vr in vrs.WORD_BYTES:
        raw = json_model.swap(raw, vrs.WORD_BYTES[vr])
    return raw


def _text(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if vr == "PN":
        return "=".join(str(value.get(group, "")) for group in _GROUPS).rstrip("=")
    if vr == "DS" and isinstance(value, float):
        return str(format_number_as_ds(value))
    return str(value)


def _usable(sets: tuple[str, ...]) -> bool:
    """Whether the values of Specific Character Set are ones to answer in (PS3.3 C.12.1.1.2)."""
    if len(sets) > 1:
        return all(name in python_encoding and (not name or name.startswith("ISO 2022")) for name in sets)
    return all(name in python_encoding for name in sets)


def _encoder(sets: tuple[str, ...]) -> _Encode:
    codecs = ["ascii" if codec == "iso8859" else codec for codec in charsets.encodings(sets)]

    def encode(text: str) -> bytes:
        if text.isascii():
            return text.encode("ascii")
        if not _usable(sets):
            raise _NotEncodable
        if len(codecs) == 1:
            return _in_one(text, codecs)
        # A code extension ends at each delimiter (PS3.5 6.1.2.5.3), so the parts are encoded one by one.
        return b"".join(_in_one(part, codecs) for part in _DELIMITERS.split(text))

    return encode


def _in_one(text: str, codecs: list[str]) -> bytes:
    """Text in the first of some character sets that holds all of it; with its escape sequences for another one."""
    fitting = _first_fitting(text, codecs)
    if fitting == codecs[0]:
        return text.encode(fitting)
    encoded = encode_string(text, [codecs[0], fitting])
    # pydicom goes back to the first character set only when it calls it "iso8859".
    return encoded + _ESCAPE_TO_ASCII if codecs[0] == "ascii" and fitting in _TWO_BYTES_IN_G0 else encoded


def _first_fitting(text: str, codecs: Iterable[str]) -> str:
    for codec in codecs:
        # Python's shift_jis is wider than JIS X 0201, which is all that ISO_IR 13 names.
        if codec == "shift_jis" and not all(c.isascii() or "\uff61" <= c <= "\uff9f" for c in text):
            continue
        try:
            text.encode(codec)
        except UnicodeEncodeError:
            continue
        return codec
    raise _NotEncodable
