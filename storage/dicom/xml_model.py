"""The Native DICOM Model: data sets in XML (PS3.19 A.1 "Native DICOM Model"), to and from the DICOM JSON Model.

Private elements are written as the model has them, with their creator as an attribute and the block number in the
tag as 00; reading finds their block again, or reserves one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

from storage.dicom.json_model import JsonDataSet, JsonElement
from storage.dicom.limits import Limits
from storage.errors import LimitExceeded, MalformedDataSet

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
# XML 1.0 2.2: no other control character may stand in a document, not even by reference.
_NO_CHARACTER = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_VR = re.compile(r"[A-Z]{2}", re.ASCII)
_INTEGERS = frozenset(("IS", "SL", "SS", "SV", "UL", "US", "UV"))
_REALS = frozenset(("DS", "FD", "FL"))


def dumps(data_set: JsonDataSet) -> bytes:
    """One NativeDicomModel document in UTF-8.

    Characters that XML cannot hold are replaced by U+FFFD.
    """
    return "".join((_HEAD, *_attributes(data_set), "</NativeDicomModel>")).encode()


def _attributes(data_set: JsonDataSet) -> Iterator[str]:
    for tag, element in sorted(data_set.items()):
        yield f"<DicomAttribute {_name(tag, data_set)} vr={quoteattr(element['vr'])}>"
        yield from _content(element)
        yield "</DicomAttribute>"


def _name(tag: str, data_set: JsonDataSet) -> str:
    block = tag[4:6]
    if int(tag[3], 16) % 2 and block != "00":
        creator = _first_text(data_set.get(f"{tag[:4]}00{block}"))
        if creator:
            return f'tag="{tag[:4]}00{tag[6:]}" privateCreator={_quoted(creator)}'
    keyword = keyword_for_tag(int(tag, 16))
    return f'tag="{tag}" keyword="{keyword}"' if keyword else f'tag="{tag}"'


def _first_text(element: JsonElement | None) -> str:
    values = (element or {}).get("Value") or [""]
    return values[0].strip() if isinstance(values[0], str) else ""


def _content(element: JsonElement) -> Iterator[str]:
    if "BulkDataURI" in element:
        yield f"<BulkData uri={_quoted(element['BulkDataURI'])}/>"
    elif "InlineBinary" in element:
        yield f"<InlineBinary>{element['InlineBinary']}</InlineBinary>"
    else:
        for number, value in enumerate(element.get("Value", ()), start=1):
            if element["vr"] == "SQ":
                yield f'<Item number="{number}">'
                yield from _attributes(value or {})
                yield "</Item>"
            elif isinstance(value, dict):
                yield from _person_name(number, value)
            elif value is not None:
                yield f'<Value number="{number}">{_text(value)}</Value>'


def _person_name(number: int, name: dict[str, str]) -> Iterator[str]:
    yield f'<PersonName number="{number}">'
    for group in _GROUPS:
        if group in name:
            yield f"<{group}>"
            for component, text in zip(_COMPONENTS, name[group].split("^"), strict=False):
                if text:
                    yield f"<{component}>{_text(text)}</{component}>"
            yield f"</{group}>"
    yield "</PersonName>"


def _text(value: object) -> str:
    # A parser makes one line feed of a carriage return and a line feed, unless the return is a reference.
    return escape(_legal(str(value)), {"\r": "&#13;"})


def _quoted(text: str) -> str:
    return quoteattr(_legal(text))


def _legal(text: str) -> str:
    return _NO_CHARACTER.sub("\ufffd", text)


def loads(text: bytes, limits: Limits | None = None) -> JsonDataSet:
    """A data set from a NativeDicomModel document, with or without its namespace.

    Raises
    ------
    MalformedDataSet
        No well-formed document of this model, or one with a document type declaration (whose entities could grow
        without bound).
    LimitExceeded
        Nested deeper than the limits allow.
    """
    parser = ElementTree.XMLParser(target=_Builder())  # noqa: S314 - without document type nothing can grow
    try:
        parser.feed(text)
        root = parser.close()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise MalformedDataSet("the XML is not well-formed") from error
    if _local(root) != "NativeDicomModel":
        raise MalformedDataSet("the XML is no NativeDicomModel")
    return _Reader(limits or Limits()).data_set(root, 0)


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_: object) -> None:
        """Refuse; called before anything in the declaration is read."""
        raise MalformedDataSet("a document type declaration is not taken")


def _local(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


class _Reader:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._values = 0

    def data_set(self, parent: ElementTree.Element, depth: int) -> JsonDataSet:
        if depth > self._limits.max_depth:
            raise LimitExceeded(f"sequences nested deeper than {self._limits.max_depth}")
        found: JsonDataSet = {}
        private: list[tuple[str, str, JsonElement]] = []
        for child in parent:
            if _local(child) != "DicomAttribute":
                raise MalformedDataSet("an element that is no DicomAttribute")
            tag, vr = child.get("tag", ""), child.get("vr", "")
            if not _TAG.fullmatch(tag) or not _VR.fullmatch(vr):
                raise MalformedDataSet("a DicomAttribute without a proper tag and vr")
            element = self._element(child, vr, depth)
            creator = child.get("privateCreator")
            if creator is not None and int(tag[3], 16) % 2 and tag[4:6] == "00":
                private.append((tag.upper(), creator, element))
            else:
                found[tag.upper()] = element
        for tag, creator, element in private:
            found[f"{tag[:4]}{_block(found, tag[:4], creator)}{tag[6:]}"] = element
        return dict(sorted(found.items()))

    def _element(self, attribute: ElementTree.Element, vr: str, depth: int) -> JsonElement:
        values: dict[int, Any] = {}
        for child in attribute:
            kind = _local(child)
            if kind == "BulkData":
                return {"vr": vr, "BulkDataURI": child.get("uri", "")}
            if kind == "InlineBinary":
                return {"vr": vr, "InlineBinary": "".join((child.text or "").split())}
            number = _number(child, len(values) + 1)
            if kind == "Item":
                values[number] = self.data_set(child, depth + 1)
            elif kind == "PersonName":
                values[number] = _name_of(child)
            elif kind == "Value":
                values[number] = _value(vr, child.text or "")
            else:
                raise MalformedDataSet("a DicomAttribute holds an unknown element")
        if not values:
            return {"vr": vr}
        # Empty values are not written, only counted: a few bytes could ask for any number of them.
        self._values += max(values)
        if self._values > self._limits.max_elements:
            raise LimitExceeded(f"more than {self._limits.max_elements} values and items")
        return {"vr": vr, "Value": [values.get(number) for number in range(1, max(values) + 1)]}


def _number(child: ElementTree.Element, default: int) -> int:
    text = child.get("number", str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 8 or int(text) == 0:
        raise MalformedDataSet("a value's number is no number from 1")
    return int(text)


def _block(data_set: JsonDataSet, group: str, creator: str) -> str:
    """The block that a creator has in a group, reserved if it has none (PS3.5 7.8.1)."""
    blocks = [f"{number:02X}" for number in range(0x10, 0x100)]
    for block in blocks:
        if _first_text(data_set.get(f"{group}00{block}")) == creator.strip():
            return block
    for block in blocks:
        if f"{group}00{block}" not in data_set:
            data_set[f"{group}00{block}"] = {"vr": "LO", "Value": [creator]}
            return block
    raise MalformedDataSet("no private block is left")


def _name_of(element: ElementTree.Element) -> dict[str, str] | None:
    found = {}
    for group in element:
        components = {_local(child): child.text or "" for child in group}
        text = "^".join(components.get(name, "") for name in _COMPONENTS).rstrip("^")
        if text:
            found[_local(group)] = text
    return {group: found[group] for group in _GROUPS if group in found} or None


def _value(vr: str, text: str) -> Any:
    if vr in _INTEGERS or vr in _REALS:
        try:
            number = int(text) if vr in _INTEGERS or text.strip().lstrip("+-").isdigit() else float(text)
        except ValueError as error:
            raise MalformedDataSet(f"a value of VR {vr} is no number") from error
        return number if math.isfinite(number) else text.strip()
    return text
