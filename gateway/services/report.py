"""Structured reports and key object selections as a tree of readable values (PS3.3 C.17.3 "SR Document Content")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.imaging.attributes import items, values
from gateway.services.labels import date, time
from storage.dicom.json_model import JsonDataSet

MAX_ITEMS = 20_000
"""Content items that are shown; a report of more says so at its end."""

MAX_COORDINATES = 24

_REFERENCES = frozenset(("IMAGE", "COMPOSITE", "WAVEFORM"))

RELATIONSHIPS = {
    "HAS OBS CONTEXT": "context",
    "HAS CONCEPT MOD": "modifier",
    "HAS PROPERTIES": "property",
    "INFERRED FROM": "inferred from",
    "SELECTED FROM": "selected from",
    "HAS ACQ CONTEXT": "acquisition",
}
"""Relationship Type (0040,A010) as it is shown; what the standard calls CONTAINS needs no word."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: its meaning, and the value and scheme behind it."""

    meaning: str
    value: str = ""
    scheme: str = ""

    @property
    def identity(self) -> str:
        """Value and scheme as people write them."""
        return f"{self.value}, {self.scheme}" if self.value or self.scheme else ""


@dataclass(frozen=True, slots=True)
class Item:
    """One content item. ``value`` is what it says, ``code`` stands behind a coded value, ``unit`` behind a number."""

    kind: str
    relationship: str
    name: Code | None
    value: str = ""
    code: Code | None = None
    unit: Code | None = None
    children: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A report: its title, facts about it as (label, value), its root's children."""

    title: str
    facts: tuple[tuple[str, str], ...]
    observers: tuple[str, ...]
    items: tuple[Item, ...]
    complete: bool = True
    """False when items beyond `MAX_ITEMS` were left out."""


@dataclass(slots=True)
class _Reader:
    count: int = 0

    def children(self, parent: Mapping[str, Any]) -> tuple[Item, ...]:
        found = []
        for each in items(parent, "0040A730"):
            self.count += 1
            if self.count > MAX_ITEMS:
                break
            found.append(self._item(each))
        return tuple(found)

    def _item(self, item: Mapping[str, Any]) -> Item:
        kind = _text(item, "0040A040")
        relationship = _text(item, "0040A010")
        name = _code(item, "0040A043")
        if not kind and "0040DB73" in item:
            path = ".".join(str(number) for number in values(item, "0040DB73"))
            return Item("REFERENCE", relationship, name, f"content item {path}")
        code = _code(item, "0040A168") if kind == "CODE" else None
        value, unit = _number(item) if kind == "NUM" else (_VALUES.get(kind, _nothing)(item), None)
        return Item(kind, relationship, name, code.meaning if code else value, code, unit, self.children(item))


def read_report(data_set: JsonDataSet) -> Report:
    """The report that an instance holds; whatever is missing is left out."""
    reader = _Reader()
    found = reader.children(data_set)
    title = _code(data_set, "0040A043")
    return Report(
        title=title.meaning if title else "Report",
        facts=tuple((label, value) for label, value in _facts(data_set) if value),
        observers=tuple(_observer(each) for each in items(data_set, "0040A073")),
        items=found,
        complete=reader.count <= MAX_ITEMS,
    )


def _facts(data_set: JsonDataSet) -> list[tuple[str, str]]:
    return [
        ("Patient", name(data_set, "00100010")),
        ("Patient ID", _text(data_set, "00100020")),
        ("Born", date(_text(data_set, "00100030"))),
        ("Sex", _text(data_set, "00100040")),
        ("Study", _text(data_set, "00081030")),
        ("Study date", date(_text(data_set, "00080020"))),
        ("Accession number", _text(data_set, "00080050")),
        ("Referring physician", name(data_set, "00080090")),
        ("Series", _text(data_set, "0008103E")),
        ("Content date", f"{date(_text(data_set, '00080023'))} {time(_text(data_set, '00080033'))}".strip()),
        ("Institution", _text(data_set, "00080080")),
        ("Made by", " ".join(filter(None, (_text(data_set, "00080070"), _text(data_set, "00081090"))))),
        ("Status", ", ".join(filter(None, (_text(data_set, "0040A491"), _text(data_set, "0040A493")))).lower()),
    ]


def _observer(item: Mapping[str, Any]) -> str:
    when = datetime(_text(item, "0040A030"))
    return ", ".join(filter(None, (name(item, "0040A075"), _text(item, "0040A027"), when)))


def _text(item: Mapping[str, Any], tag: str) -> str:
    known = (value for value in values(item, tag) if isinstance(value, str | int | float))
    found = (f"{value:.15g}" if isinstance(value, float) else str(value) for value in known)
    return "\n".join(found).replace("\r\n", "\n").replace("\r", "\n")


def name(item: Mapping[str, Any], tag: str) -> str:
    """A person's name, in every writing it has."""
    found = []
    for value in values(item, tag):
        if isinstance(value, Mapping):
            for group in value.values():
                family, _, rest = str(group).partition("^")
                found.append(", ".join(part for part in (family, " ".join(rest.replace("^", " ").split())) if part))
    return " / ".join(found)


def datetime(text: str) -> str:
    """A DT value as people write it."""
    return f"{date(text[:8])} {time(text[8:])}".strip() if text[:8].isdigit() else text


def _code(item: Mapping[str, Any], tag: str) -> Code | None:
    for each in items(item, tag)[:1]:
        value = next((found for tag in ("00080100", "00080119", "00080120") if (found := _text(each, tag))), "")
        return Code(_text(each, "00080104") or value, value, _text(each, "00080102"))
    return None


def _number(item: Mapping[str, Any]) -> tuple[str, Code | None]:
    measured = items(item, "0040A300")
    if not measured:
        qualifier = _code(item, "0040A301")
        return (qualifier.meaning if qualifier else "no value"), None
    unit = _code(measured[0], "004008EA")
    # UCUM's unit of things without one.
    return _text(measured[0], "0040A30A"), None if unit is not None and unit.value == "1" else unit


def _reference(item: Mapping[str, Any]) -> str:
    found = []
    for each in items(item, "00081199"):
        frames = ", ".join(str(number) for number in values(each, "00081160")[:MAX_COORDINATES])
        instance = _text(each, "00081155")
        found.append(f"instance {instance}" + (f", frame {frames}" if frames else ""))
    return "\n".join(found)


def _coordinates(item: Mapping[str, Any]) -> str:
    numbers = [value for value in values(item, "00700022") if isinstance(value, int | float)]
    step = 3 if _text(item, "0040A040") == "SCOORD3D" else 2
    shown = numbers[: MAX_COORDINATES // step * step]
    points = [", ".join(f"{number:g}" for number in shown[at : at + step]) for at in range(0, len(shown), step)]
    more = " ..." if len(numbers) > len(shown) else ""
    return f"{_text(item, '00700023').lower()} ({') ('.join(points)}){more}"


def _temporal(item: Mapping[str, Any]) -> str:
    numbers = [str(value) for tag in ("0040A132", "0040A138", "0040A13A") for value in values(item, tag)]
    return f"{_text(item, '0040A130').lower()} {', '.join(numbers[:MAX_COORDINATES])}"


def _nothing(item: Mapping[str, Any]) -> str:  # noqa: ARG001 - one of several of a shape
    return ""


_VALUES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "TEXT": lambda item: (
        _text(item, "0040A160") or ("(a long text)" if "BulkDataURI" in item.get("0040A160", {}) else "")
    ),
    "DATETIME": lambda item: datetime(_text(item, "0040A120")),
    "DATE": lambda item: date(_text(item, "0040A121")),
    "TIME": lambda item: time(_text(item, "0040A122")),
    "UIDREF": lambda item: _text(item, "0040A124"),
    "PNAME": lambda item: name(item, "0040A123"),
    "SCOORD": _coordinates,
    "SCOORD3D": _coordinates,
    "TCOORD": _temporal,
    **dict.fromkeys(_REFERENCES, _reference),
}
