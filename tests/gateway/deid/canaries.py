"""Data sets with a mark in every attribute of PS3.15 Table E.1-1, and what the table says should become of each.

The table is read here by other code than the engine's, from the rows as they stand in the file, by tag.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import resources
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.values import convert_SQ

from tests.gateway.deid.made import PATIENT, PSEUDONYMS, dataset, element

TABLE: dict[str, Any] = json.loads((resources.files("gateway.deid") / "tables" / "profile.json").read_text())
OPTIONS: list[str] = TABLE["options"]
ROWS: dict[int, tuple[str, str, dict[str, str]]] = {
    int(tag, 16): (vr, basic, options) for tag, (_, vr, basic, options) in TABLE["attributes"].items() if "x" not in tag
}
WRITABLE = [tag for tag in ROWS if tag >> 16 not in (0x0000, 0x0002)]
"""Those that may be in a data set at all."""

PARENTS = (0x00081115, 0x0008114A)
"""Two sequences that the table does not list."""
MARK = re.compile(rb"CN[0-9A-F]{8}T[0-9]")
_TEXT = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT")
INNER_TEXT, INNER_UID = 0x00181020, 0x00081155
"""What is in the item of each listed sequence: a text and a UID that are not identifying by themselves."""


def mark(tag: int, depth: int) -> str:
    return f"CN{tag:08X}T{depth}"


class Cleaner:
    """Takes the marks out of a text and leaves the rest."""

    def clean(self, text: str, /) -> str:
        return re.sub(MARK.pattern.decode(), "", text).strip()


@dataclass(frozen=True)
class Canary:
    """One attribute's VR in the file and value."""

    vr: str
    value: Any


def canary(tag: int, depth: int) -> Canary:
    """The value that an attribute has, another one for each tag and depth."""
    vr = ROWS[tag][0]
    number = list(ROWS).index(tag) * 3 + depth
    day = date(1950, 1, 1) + timedelta(days=number)
    if vr == "SQ":
        item = dataset((INNER_UID, "UI", f"1.2.826.0.77.{number}"), (INNER_TEXT, "LO", f"{mark(tag, depth)} ok"))
        return Canary("SQ", [item])
    if vr in ("CS", "AE"):
        return Canary(vr, mark(tag, depth))
    if vr in _TEXT:
        return Canary("LT" if vr == "UN" else vr, f"{mark(tag, depth)} ok")
    values = {
        "AS": "077Y",
        "DA": f"{day:%Y%m%d}",
        "DS": f"{number}.25",
        "DT": f"{day:%Y%m%d}235959.5+0100",
        "IS": str(number + 1),
        "OB": mark(tag, depth).encode(),
        "TM": f"010203.{number:06}",
        "UI": f"1.2.826.0.78.{number}",
        "US": number % 65_000 + 1,
    }
    return Canary(vr, values[vr])


def planted(sop_class: str) -> Dataset:
    """An instance with every attribute at the top level, in one sequence and in two."""
    inner = _level(2)
    middle = _level(1)
    middle.add(element(PARENTS[1], "SQ", [inner]))
    outer = _level(0)
    outer.add(element(PARENTS[0], "SQ", [middle]))
    outer.add(element(0x00080016, "UI", sop_class))
    return outer


def _level(depth: int) -> Dataset:
    found = Dataset()
    for tag in WRITABLE:
        chosen = canary(tag, depth)
        # The timezone is checked for its form, so its mark has to have one.
        value = "+0100" if tag == 0x00080201 else chosen.value
        found.add(element(tag, chosen.vr, value))
    return found


def level(found: Dataset, depth: int) -> Dataset | None:
    """The data set at a depth of what came out."""
    for parent in PARENTS[:depth]:
        if parent not in found:
            return None
        found = found[parent].value[0]
    return found


# For an SOP class that the tables of types do not know: the part that is valid whatever the type.
_ANY_TYPE = {"X/Z": "Z", "X/D": "D", "Z/D": "D", "X/Z/D": "D", "X/Z/U*": "U"}


def expected(tag: int, options: frozenset[str]) -> str:
    """The one action for an attribute: an option's goes before the basic one, cleaning before keeping."""
    vr, basic, cells = ROWS[tag]
    chosen = {cells[option] for option in options if option in cells}
    action = "C" if "C" in chosen else "K" if "K" in chosen else basic
    # Bytes, application entities and defined terms cannot be reworded: what they are under Basic holds.
    if action == "C" and vr in ("OB", "AE", "CS"):
        action = basic
    return _ANY_TYPE.get(action, action)


def fault(tag: int, depth: int, options: frozenset[str], found: Dataset) -> str | None:
    """What is wrong with an attribute of the output; None when it is as the table wants it."""
    action = expected(tag, options)
    place = level(found, depth)
    assert place is not None
    present = tag in place
    if action == "X":
        return "not removed" if present else None
    if not present:
        return f"{action}: removed"
    now = _known(place, tag)
    before = canary(tag, depth).value
    if ROWS[tag][0] == "SQ":
        return _fault_of_sequence(tag, depth, action, now.value or [], options)
    if tag in (0x00100010, 0x00100020) and depth == 0:
        wanted = PATIENT.name if tag == 0x00100010 else PATIENT.id
        return None if str(now.value) == wanted else "not the patient's pseudonym"
    if action == "Z":
        return None if now.is_empty else "not emptied"
    if action == "U":
        return None if now.value == PSEUDONYMS.uid(before) else "not the UID's pseudonym"
    if action == "K":
        return None if _same(now.value, before) or tag == 0x00080201 else "not kept"
    if action == "D":
        return "dummy is empty" if now.is_empty else "not replaced" if _same(now.value, before) else None
    return _fault_of_cleaning(tag, ROWS[tag][0], now.value, before)


def _known(place: Dataset, tag: int) -> DataElement:
    """An element; of one that pydicom's dictionary does not have, as the table knows it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "VR lookup failed")
        found = place[tag]
    if found.VR != "UN":
        return found
    raw = found.value or b""
    if ROWS[tag][0] == "SQ":
        encoding = place.original_encoding
        return element(tag, "SQ", convert_SQ(raw, bool(encoding[0]), bool(encoding[1])))
    return element(tag, "UN" if ROWS[tag][0] == "OB" else "LT", raw.decode("ascii").rstrip(" ") or None)


def _same(now: Any, before: Any) -> bool:
    if isinstance(before, bytes):
        return bytes(now) == before
    return str(now) == str(before)


def _fault_of_cleaning(tag: int, vr: str, now: Any, before: Any) -> str | None:
    if tag == 0x00080201:
        return None if now == "+0100" else "not the timezone"
    if vr in ("DA", "DT"):
        moved = date.fromisoformat(before[:8]) + timedelta(days=PATIENT.shift_days)
        return None if str(now) == f"{moved:%Y%m%d}{before[8:]}" else "not shifted"
    if vr == "TM":
        return None if str(now) == before else "a time of day changed"
    return None if str(now) == "ok" else "not cleaned"


def _fault_of_sequence(tag: int, depth: int, action: str, now: Any, options: frozenset[str]) -> str | None:
    if action == "Z":
        return None if len(now) == 0 else "not emptied"
    if len(now) != 1:
        return "not one item"
    item = now[0]
    old = canary(tag, depth).value[0]
    text = str(item[INNER_TEXT].value) if INNER_TEXT in item else None
    uid = item[INNER_UID].value if INNER_UID in item else None
    if action == "D":
        return (
            "something of the item is left" if text == f"{mark(tag, depth)} ok" or uid == old[INNER_UID].value else None
        )
    if uid != (old[INNER_UID].value if "retain_uids" in options else PSEUDONYMS.uid(old[INNER_UID].value)):
        return "UIDs in it are not right"
    cells = ROWS[tag][2]
    cleans = action == "C" and cells.get("clean_descriptors") == "C" and "clean_descriptors" in options
    wanted = "ok" if cleans else f"{mark(tag, depth)} ok"
    return None if text == wanted else "texts in it are not right"


def marks_that_stay(options: frozenset[str]) -> set[str]:
    """The marks that may be in the output's bytes."""
    found: set[str] = set()
    for tag in WRITABLE:
        vr = ROWS[tag][0]
        action = expected(tag, options)
        stays = action == "K" or (vr == "SQ" and action in ("U", "C"))
        if vr == "SQ" and action == "C" and "clean_descriptors" in options and "clean_descriptors" in ROWS[tag][2]:
            stays = False
        if stays and (vr in _TEXT or vr in ("SQ", "OB")):
            found.update(mark(tag, depth) for depth in range(3))
    return found
