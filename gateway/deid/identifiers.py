"""What identifies a patient in free text: harvested from where it stands by itself, to be found where it does not.

A name, a number or a date that an attribute of its own holds is looked for in every other text, in whatever spelling.
What a patient's instances teach is joined, so that a later study also cleans what an earlier one says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property, partial
from typing import Any

from pydicom.dataset import Dataset

from gateway.deid import spellings
from gateway.deid.spellings import Folded
from gateway.deid.values import codecs_of, items, texts
from gateway.errors import NotDeidentified
from storage.dicom import charsets
from storage.dicom import vr as vrs

REPLACEMENT = "***"


class Kind(StrEnum):
    """What an identifier is."""

    NAME = "names"
    NUMBER = "numbers"
    PLACE = "places"
    DATE = "dates"


_NUMBERS = frozenset(
    (
        0x00080050, 0x00100020, 0x00101000, 0x00101090, 0x00181000, 0x00181002, 0x00200010, 0x00321001,
        0x00380010, 0x00380060, 0x00400009, 0x00400253, 0x00400512, 0x00400551, 0x00401001, 0x00402016, 0x00402017,
        0x00120040, 0x00120042, 0x00080094, 0x00102154, 0x00401103, 0x00402010, 0x00081010, 0x00400010, 0x00400242,
        0x00101050,
    )
)  # fmt: skip
"""Patient, accession, admission, order, procedure, specimen, subject and serial numbers, station names, telephones."""

_PLACES = frozenset(
    (
        0x00080080, 0x00080081, 0x00080092, 0x00081040, 0x00101040, 0x00102299, 0x00380300, 0x00380400, 0x00400011,
        0x00400243, 0x00401005, 0x00401102, 0x00402009, 0x0040A027, 0x00404036, 0x00120031,
    )
)  # fmt: skip
"""Institutions, departments, locations and addresses (of patients, physicians, institutions)."""

_DATES = frozenset((0x00080012, 0x00080020, 0x00080021, 0x00080022, 0x00080023, 0x00100030, 0x00380020, 0x0008002A))
"""Of birth, admission, study, series, acquisition and content."""

_HARVESTED = _NUMBERS | _PLACES | _DATES
_MAX_DEPTH = 32
_MOST = 2000
"""Of a kind in one instance: each is looked for in every text."""
_LONG = 64
"""Characters of a long one: of SH, LO and a component group of PN (PS3.5 6.2) it is the longest."""
_KEPT_CHARACTERS, _KEPT_TEXTS = 1024, 4096


@dataclass(frozen=True)
class Identifiers:
    """What is known to identify one patient.

    ``names`` are parts of names of the patient and of everybody else who is named, ``numbers`` identifiers of any
    kind, ``places`` institutions and addresses, all folded; ``dates`` are YYYYMMDD.
    """

    names: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()
    dates: frozenset[str] = frozenset()

    @classmethod
    def harvested(cls, data_set: Dataset, is_shown: Callable[[int], bool] = lambda _: False) -> Identifiers:
        """What a data set says of its patient, at any depth; what is no text of its VR is passed over.

        What ``is_shown`` by its attribute, since a profile keeps it, need not be looked for elsewhere. Raises
        NotDeidentified for more of a kind than can be looked for.
        """
        found: dict[str, set[str]] = {kind.value: set() for kind in Kind}
        for tag, vr, values in _texts(data_set, charsets.DEFAULT, _MAX_DEPTH):
            if values and not is_shown(tag):
                for kind, value in _of(tag, vr, values):
                    found[kind.value].add(value)
                    if len(found[kind.value]) > _MOST:
                        raise NotDeidentified(f"more than {_MOST} {kind} in one instance")
        return cls(**{name: frozenset(values) for name, values in found.items()})

    def joined(self, other: Identifiers) -> Identifiers:
        """What both know."""
        return Identifiers(*(getattr(self, each.name) | getattr(other, each.name) for each in fields(self)))

    def without(self, other: Identifiers) -> Identifiers:
        """What the other does not know."""
        return Identifiers(*(getattr(self, each.name) - getattr(other, each.name) for each in fields(self)))

    def excess(self, most: int) -> Kind | None:
        """A kind of which there are more than so many, or as much text as of so many long ones."""
        for kind in Kind:
            found = getattr(self, kind.value)
            if len(found) > most or sum(map(len, found)) > most * _LONG:
                return kind
        return None

    def dumps(self) -> dict[str, list[str]]:
        """As JSON."""
        return {each.name: sorted(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def loads(cls, kept: Mapping[str, Any]) -> Identifiers:
        """Of ``dumps``."""
        return cls(**{each.name: frozenset(kept[each.name]) for each in fields(cls)})

    @cached_property
    def _finders(self) -> tuple[Callable[[str], Iterator[tuple[int, int]]], ...]:
        """What finds all that is known in a folded text."""
        patterns = (
            spellings.of_numbers(self.numbers),
            spellings.of_places(self.places),
            spellings.of_dates(self.dates),
        )
        found = [partial(_spans, pattern) for pattern in patterns if pattern is not None]
        return (spellings.NameFinder(self.names), *found) if self.names else tuple(found)

    def places_in(self, text: str) -> list[tuple[int, int]]:
        """Where in a text something stands that identifies the patient: begin and end, in no order."""
        folded = Folded(text)
        return [folded.span(*span) for find in self._finders for span in find(folded.text)]

    def found_in(self, text: str | bytes) -> bool:
        """Whether a text, or bytes taken as UTF-8, say something that identifies the patient."""
        read = text if isinstance(text, str) else text.decode("utf-8", "replace")
        folded = Folded(read).text
        return any(next(find(folded), None) is not None for find in self._finders)


def _spans(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    return (found.span() for found in pattern.finditer(text))


class DictionaryCleaner:
    """A ``TextCleaner`` that takes out what is known of a patient, and what looks like a date, number or address.

    Parameters
    ----------
    keeps_dates
        Dates that are not among the patient's own stay: for a profile that retains them.
    """

    def __init__(self, identifiers: Identifiers, *, keeps_dates: bool = False) -> None:
        self.identifiers = identifiers
        self._keeps_dates = keeps_dates
        # The instances of a series say the same.
        self._cleaned: dict[str, str] = {}

    def clean(self, text: str) -> str:
        """See TextCleaner: what identifies is replaced, never marked by its length; the rest stays."""
        found = self._cleaned.get(text)
        if found is None:
            found = self._clean(text)
            if len(text) <= _KEPT_CHARACTERS and len(self._cleaned) < _KEPT_TEXTS:
                self._cleaned[text] = found
        return found

    def _clean(self, text: str) -> str:
        spans = self.identifiers.places_in(text)
        spans += spellings.suspicious(text, dates=not self._keeps_dates)
        if not spans:
            return text
        kept, place = [], 0
        for begin, end in sorted(spans):
            if begin >= place:
                kept += [text[place:begin], REPLACEMENT]
            place = max(place, end)
        cleaned = "".join((*kept, text[place:]))
        # Two words of a name, one after the other, are one replacement.
        return re.sub(rf"{re.escape(REPLACEMENT)}(?:[\s^,.=_\-]*{re.escape(REPLACEMENT)})+", REPLACEMENT, cleaned)


def _texts(data_set: Dataset, inherited: charsets.Encodings, depth: int) -> Iterator[tuple[int, str, list[str]]]:
    """Tag, VR and values of every attribute that may identify somebody; read without pydicom's conversions."""
    codecs = codecs_of(data_set, inherited)
    for tag in data_set.keys():  # noqa: SIM118 - iterating a Dataset converts its elements
        element, number = data_set.get_item(tag), int(tag)
        assert element is not None
        vr = vrs.of_tag(number)
        if "SQ" in (vr, element.VR):
            for item in (items(element, data_set) or ()) if depth else ():
                yield from _texts(item, codecs, depth - 1)
        elif "PN" in (vr, element.VR):
            yield number, "PN", texts(element, "PN", codecs)
        elif number in _HARVESTED:
            yield number, vr, texts(element, vr, codecs)


def _of(tag: int, vr: str, values: Iterable[str]) -> Iterator[tuple[Kind, str]]:
    for value in values:
        if vr == "PN":
            yield from ((Kind.NAME, part) for part in spellings.parts(value))
        elif tag in _PLACES:
            yield from ((Kind.PLACE, place) for place in spellings.places(value))
        elif tag in _DATES:
            if (date := spellings.date(value)) is not None:
                yield Kind.DATE, date
        elif (number := spellings.number(value)) is not None:
            yield Kind.NUMBER, number
