"""Reading and making elements by tag, without the conversions of pydicom that change, warn or fail.

An element of a data set may be raw (as read, not looked at) or made; a raw one that is kept goes to the output as it
is, whatever it holds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from io import BytesIO
from operator import itemgetter
from typing import Any

from pydicom import DataElement, Dataset, config
from pydicom.charset import default_encoding
from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.values import convert_SQ

from gateway.errors import NotDeidentified
from storage.dicom import charsets
from storage.dicom import vr as vrs
from storage.dicom.elements import Encoding, Tokenizer
from storage.dicom.json_model import swap
from storage.dicom.limits import Limits
from storage.errors import Unreadable

Element = DataElement | RawDataElement
# What pydicom raises on bytes that are no sequence.
_UNPARSABLE = (
    ValueError, OSError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError, struct.error,
    BytesLengthException, InvalidDicomError,
)  # fmt: skip
WORDS = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
"""VRs whose values a person wrote."""
_LONGEST = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64, "ST": 1024, "LT": 10240}
_KNOWN = frozenset(vrs.NAMES.values())
# Also what some writers make of no number at all: NaN, infinities, a comma.
_NUMBERS = re.compile(rb"(?:[-+0-9.,eE \\\0]|(?i:nan|inf|infinity|#qnan|#ind))*")
_SMALL_BYTES = 65_536
_MOST_EMPTY_ITEMS = 10_000
_EMPTY_ITEM, _EMPTY_ITEM_BE = b"\xfe\xff\x00\xe0\0\0\0\0", b"\xff\xfe\xe0\x00\0\0\0\0"
_SINGLE = frozenset(("LT", "ST", "UT", "UR"))


def made(tag: int, vr: str, value: Any) -> DataElement:
    """A new element; its value is ours, so nothing checks it again."""
    return DataElement(tag, vr, value, validation_mode=config.IGNORE)


def elements(dataset: Dataset) -> list[tuple[BaseTag, Element]]:
    """Every element as it is, in the order of tags."""
    return [(tag, _checked(element)) for tag, element in sorted(dataset.items(), key=itemgetter(0))]


def element_of(dataset: Dataset, tag: int) -> Element | None:
    """One element as it is; asking the data set itself would read and convert it where it is empty."""
    element: Element | None = dataset.get_item(tag, keep_deferred=True)
    return None if element is None else _checked(element)


def _checked(element: Element) -> Element:
    if isinstance(element, RawDataElement):
        # Without a VR of its own an element has none here, or what the dictionary leaves open ("OB or OW").
        if element.VR is not None and element.VR not in _KNOWN and " or " not in element.VR:
            raise NotDeidentified("an element has a VR that does not exist")
        if element.value is None and element.length:
            raise NotDeidentified("the data set was read without some of its values")
    return element


def codecs_of(dataset: Dataset, inherited: charsets.Encodings) -> charsets.Encodings:
    """The character sets of a data set: its own, or else those of the one it is in (PS3.3 C.12.1.1.2)."""
    element = element_of(dataset, 0x00080005)
    if element is None or not element.value:
        return inherited
    return charsets.encodings(tuple(texts(element, "CS", charsets.DEFAULT)))


def raw_bytes(element: Element) -> bytes:
    """The value as bytes; of a made text element in UTF-8."""
    value = element.value
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return "\\".join(str(each) for each in _several(value)).encode("utf-8", "surrogatepass")


def texts(element: Element, vr: str, codecs: charsets.Encodings) -> list[str]:
    """The values of a text element, whatever VR it has in the data set, without padding; [] when empty.

    ``vr`` is what the attribute should have: it decides whether a backslash parts values, and the character set.
    """
    value = element.value
    if isinstance(value, bytes | bytearray | memoryview):
        used = codecs if vr in vrs.CHARACTER_SET else charsets.DEFAULT
        text = charsets.decode(bytes(value), used, person_name=vr == "PN")
        parts = [text] if vr in _SINGLE else text.split("\\")
    elif value is None:
        return []
    else:
        parts = [str(each) for each in _several(value)]
    found = [part.rstrip(" \0") if vr in _SINGLE else part.strip(" \0") for part in parts]
    return found if any(found) else []


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def items(element: Element, dataset: Dataset) -> list[Dataset] | None:
    """The items of a sequence; None when the value is no sequence.

    One in VR UN is in Implicit VR Little Endian whatever the data set is in (PS3.5 6.2.2, note 2; CP-246); some
    writers kept the data set's own encoding, so that is tried after.
    """
    value = element.value
    if isinstance(value, Sequence):
        return list(value)
    if value is None or (isinstance(value, bytes) and not value):
        return []
    if not isinstance(value, bytes):
        return None
    implicit, little = dataset.original_encoding
    if isinstance(element, RawDataElement):
        implicit, little = element.is_implicit_VR, element.is_little_endian
    own = (bool(implicit), little is not False)
    charset = dataset.original_character_set
    encoding = list(charset) if not isinstance(charset, str) else [charset] if charset else None
    for how in _attempts(element.VR, own):
        found = _parsed(value, how, encoding)
        if found is not None:
            return found
    return None


def _attempts(vr: str | None, own: tuple[bool, bool]) -> Iterator[tuple[bool, bool]]:
    if vr == "UN" and own != (True, True):
        yield True, True
    yield own


def _parsed(value: bytes, how: tuple[bool, bool], encoding: list[str] | None) -> list[Dataset] | None:
    item_tag = b"\xfe\xff\x00\xe0" if how[1] else b"\xff\xfe\xe0\x00"
    if not value.startswith(item_tag):
        return None
    if len(value) > _SMALL_BYTES:
        _bounded(value, how)
    try:
        return list(convert_SQ(value, *how, encoding))
    except RecursionError as error:
        raise NotDeidentified("sequences are nested too deeply") from error
    except _UNPARSABLE:
        return None


def _bounded(value: bytes, how: tuple[bool, bool]) -> None:
    """Refuse a sequence of more than an arriving instance may have: in VR UN nobody has counted it before.

    Empty items cost nothing on arrival, but 50 us each in pydicom, and no real sequence has many.
    """
    implicit, little = how
    if value.count(_EMPTY_ITEM if little else _EMPTY_ITEM_BE) > _MOST_EMPTY_ITEMS:
        raise NotDeidentified("a sequence has more in it than one may")
    header = struct.pack(f"{'<' if little else '>'}HH", 0x0008, 0x1115)
    length = struct.pack(f"{'<' if little else '>'}I", len(value))
    whole = header + (b"" if implicit else b"SQ\0\0") + length + value
    try:
        for _ in Tokenizer(BytesIO(whole), Encoding(implicit=implicit, big_endian=not little), Limits()):
            pass
    except Unreadable as error:
        raise NotDeidentified("a sequence has more in it than one may, or is damaged") from error


def shared(element: Element) -> Element:
    """An element for the output; what a reader of the one could change is not shared with the other."""
    if isinstance(element, RawDataElement):
        return element
    value = element.value
    found = made(element.tag, element.VR, list(value) if isinstance(value, list | MultiValue) else value)
    found.is_undefined_length = element.is_undefined_length
    return found


def joined(vr: str, values: list[str]) -> str:
    """Text values as one, none longer than its VR allows."""
    longest = _LONGEST.get(vr)
    return "\\".join(value[:longest] for value in values)


def even(value: bytes) -> bytes:
    """Text of even length, as every value has to be (PS3.5 6.2)."""
    return value + b" " * (len(value) % 2)


def zeros(vr: str, element: Element) -> list[object]:
    """As many zeros as there are numbers."""
    if isinstance(element.value, bytes):
        size = {"FD": 8, "FL": 4}.get(vr)
        count = len(element.value) // size if size else element.value.count(b"\\") + 1
    else:
        count = len(element.value) if isinstance(element.value, list) else 1
    return ["0" if vr in ("DS", "IS") else 0.0] * count


@lru_cache(maxsize=65_536)
def _most_numbers(tag: int) -> int | None:
    """How many values an attribute may have by the dictionary; None for any number (PS3.6 "VM")."""
    entry = DicomDictionary.get(tag)
    most = entry[1].rpartition("-")[2] if entry is not None else "n"
    return int(most) if most.isdigit() else None


def is_not_of_numbers(element: Element, tag: int, vr: str) -> bool:
    """Whether a number attribute has more bytes than its numbers can take, or characters that no number has."""
    value = element.value
    if not isinstance(value, bytes):
        return False
    if vr in ("DS", "IS"):
        return _NUMBERS.fullmatch(value) is None
    if vr not in vrs.NUMBER_FORMATS and vr != "AT":
        return False
    used = element.VR or vr
    size = 4 if used == "AT" else vrs.WORD_BYTES.get(used, 1)
    most = _most_numbers(tag)
    return len(value) % size != 0 or (most is not None and len(value) > most * size)


def dataset_of(kept: dict[BaseTag, Element], source: Dataset, encoding: tuple[bool | None, bool | None]) -> Dataset:
    """A data set of these elements, for one that is written in ``encoding`` (implicit VR, little endian).

    An item that came in another one (in VR UN), or an element that lost its VR on the way, is turned into this one
    here, byte for byte: pydicom would read its values to do so, and warn of those it finds wrong with the values
    themselves.
    """
    if None not in encoding:
        for tag, element in kept.items():
            if isinstance(element, RawDataElement) and (
                element.is_little_endian != encoding[1] or (element.VR not in _KNOWN and not encoding[0])
            ):
                kept[tag] = _recoded(element, encoding)
    charset = source.original_character_set or default_encoding
    out = Dataset(kept, parent_encoding=charset)
    out.set_original_encoding(*encoding, charset)
    return out


def _recoded(element: RawDataElement, encoding: tuple[bool | None, bool | None]) -> RawDataElement:
    vr = element.VR if element.VR in _KNOWN else vrs.of_tag(element.tag)
    value = element.value or b""
    if element.is_little_endian != encoding[1]:
        value = swap(value, vrs.WORD_BYTES.get(vr, 1))
    return RawDataElement(element.tag, vr, element.length, value, 0, bool(encoding[0]), bool(encoding[1]), True)


def with_elements(dataset: Dataset, elements: Iterable[DataElement]) -> Dataset:
    """A data set with some elements more, or others in their place; adding them one by one would read its values."""
    kept: dict[BaseTag, Element] = dict(dataset.items())
    kept.update({element.tag: element for element in elements})
    return dataset_of(kept, dataset, dataset.original_encoding)
