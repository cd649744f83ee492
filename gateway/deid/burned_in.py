"""Identity in pixels: which instances may carry it, and which parts of their pictures are known to.

Nothing here looks at a pixel. What a device is known to burn in is blanked; what may carry text of which nobody knows
the place is suspect, and not shown until a person has looked at it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from gateway.deid.values import codecs_of, items, texts
from storage.dicom import charsets
from storage.dicom import vr as vrs

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_CAPTURE_MODALITIES = frozenset(("US", "IVUS", "XA", "RF", "ES", "GM", "OT", "SC", "DOC", "PX", "OP", "XC", "ECG"))
_CONVERTED = frozenset(("WSD", "DI", "DF", "SI", "SYN", "DRW", "DV"))
_CAPTURED = frozenset(
    ("SCREEN SAVE", "SCREENSHOT", "SAVE", "DOSE", "DOSE_INFO", "REPORTDATA", "DEMOGRAPHICDATA", "INVALID")
)
_OF_SLIDES = frozenset(("LABEL", "OVERVIEW"))
_REGIONS = 0x00186011
_REGION = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")


class Region(NamedTuple):
    """A rectangle of stored pixels, counted from 0 at the top left; the ends are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, slots=True)
class BurnedIn:
    """What is to be done with an instance's pixels, in every frame.

    ``blank`` are rectangles to be blanked. Outside of ``keep``, unless it is None, everything is. ``suspect`` says why
    text may stand where nobody knows; "" where it may not.
    """

    blank: tuple[Region, ...] = ()
    keep: tuple[Region, ...] | None = None
    suspect: str = ""

    @property
    def is_changed(self) -> bool:
        """Whether pixels have to be blanked."""
        return bool(self.blank) or self.keep is not None


def assess(data_set: Dataset) -> BurnedIn:
    """What an instance's attributes say of identity in its pixels (PS3.15 E.3.1 "Clean Pixel Data Option")."""
    ultrasound = _ultrasound_regions(data_set)
    if ultrasound and not _whole(data_set, ultrasound):
        return BurnedIn(keep=ultrasound)
    known: dict[str, str] = {}
    blank = tuple(
        dict.fromkeys(region for rule in _rules() if _matches(data_set, rule, known) for region in _regions(rule))
    )
    if blank:
        return BurnedIn(blank=blank)
    return BurnedIn(suspect=_suspicion(data_set))


def _whole(data_set: Dataset, regions: Sequence[Region]) -> bool:
    """Whether a region leaves nothing outside of it: then it says nothing of where text may stand."""
    rows, columns = _number(data_set, "Rows"), _number(data_set, "Columns")
    if rows is None or columns is None:
        return True
    return any(each.x0 == each.y0 == 0 and each.x1 >= columns and each.y1 >= rows for each in regions)


def _suspicion(data_set: Dataset) -> str:
    said = _text(data_set, "BurnedInAnnotation").upper()
    if said == "YES":
        return "Burned In Annotation (0028,0301) is YES"
    kinds = {value.upper() for value in _texts(data_set, "ImageType")}
    if found := sorted(kinds & (_CAPTURED | _OF_SLIDES)):
        return f"Image Type (0008,0008) is {found[0]}"
    if said == "NO":
        return ""
    modality = _text(data_set, "Modality").upper()
    if modality in _CAPTURE_MODALITIES:
        return f"Modality is {modality}, and Burned In Annotation (0028,0301) is not NO"
    sop_class_uid = _text(data_set, "SOPClassUID")
    if sop_class_uid == _SECONDARY_CAPTURE or sop_class_uid.startswith(f"{_SECONDARY_CAPTURE}."):
        return "a Secondary Capture, and Burned In Annotation (0028,0301) is not NO"
    conversion = _text(data_set, "ConversionType").upper()
    if conversion in _CONVERTED:
        return f"Conversion Type (0008,0064) is {conversion}, and Burned In Annotation (0028,0301) is not NO"
    if "dose report" in _text(data_set, "SeriesDescription").lower():
        return "a dose report, and Burned In Annotation (0028,0301) is not NO"
    return ""


def _ultrasound_regions(data_set: Dataset) -> tuple[Region, ...]:
    """PS3.3 C.8.5.5 "US Region Calibration Module": the last row and column belong to a region."""
    found = []
    element = data_set.get_item(_REGIONS)
    for item in (items(element, data_set) if element is not None else None) or ():
        x0, y0, x1, y1 = (_number(item, keyword) for keyword in _REGION)
        if x0 is None or y0 is None or x1 is None or y1 is None:
            continue
        if 0 <= x0 <= x1 and 0 <= y0 <= y1:
            found.append(Region(x0, y0, x1 + 1, y1 + 1))
    return tuple(found)


@cache
def _rules() -> Sequence[Any]:
    table = resources.files("gateway.deid") / "tables" / "burned_in.json"
    rules: Sequence[Any] = json.loads(table.read_text(encoding="utf-8"))["rules"]
    return rules


def identity() -> str:
    """What the rules are, for whoever names what decided."""
    return json.dumps(_rules(), sort_keys=True)


def _regions(rule: Any) -> Iterator[Region]:
    for each in rule["regions"]:
        yield Region(*each)


def _matches(data_set: Dataset, rule: Any, known: dict[str, str]) -> bool:
    """``known`` has the texts that rules before asked for."""
    return all(any(_is_so(data_set, known, *choice) for choice in choices) for choices in rule["conditions"])


def _is_so(data_set: Dataset, known: dict[str, str], how: str, keyword: str, words: Sequence[str]) -> bool:
    text = known.get(keyword)
    if text is None:
        text = known[keyword] = "\\".join(_texts(data_set, keyword)).casefold()
    if how == "contains":
        return any(word.casefold() in text for word in words)
    return any(word.casefold() == text for word in words)


def _text(data_set: Dataset, keyword: str) -> str:
    return next(iter(_texts(data_set, keyword)), "")


def _texts(data_set: Dataset, keyword: str) -> list[str]:
    tag = tag_for_keyword(keyword)
    element = None if tag is None else data_set.get_item(tag)
    if element is None:
        return []
    vr = vrs.of_tag(int(element.tag))
    if vr == "US":
        number = _number(data_set, keyword)
        return [] if number is None else [str(number)]
    return texts(element, vr, codecs_of(data_set, charsets.DEFAULT))


def _number(data_set: Dataset, keyword: str) -> int | None:
    tag = tag_for_keyword(keyword)
    try:
        return None if tag is None or tag not in data_set else int(data_set[tag].value)
    except (TypeError, ValueError, NotImplementedError, struct.error, BytesLengthException):
        return None
