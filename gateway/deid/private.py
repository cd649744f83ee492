"""Which private attributes may stay: the blocks of a data set, and what is known or said of them to be safe."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass

from pydicom import Dataset

from gateway.deid.safe_private import PrivateKey, SafePrivate
from gateway.deid.values import element_of, elements, items, made, texts
from storage.dicom import charsets

CHARACTERISTICS = 0x00080300
_GROUP, _CREATOR, _STATUS, _NONIDENTIFYING = 0x00080301, 0x00080302, 0x00080303, 0x00080304
_RUN = re.compile(rb"[\x20-\x7e]{6,}")


@dataclass(frozen=True, slots=True)
class Claims:
    """What Private Data Element Characteristics Sequence (0008,0300) says is safe (PS3.3 C.12.1.1.7)."""

    blocks: frozenset[tuple[int, str]] = frozenset()
    elements: frozenset[PrivateKey] = frozenset()

    def hold(self, key: PrivateKey) -> bool:
        """Whether an attribute is said to identify nobody."""
        return (key.group, key.creator) in self.blocks or key in self.elements


def claims_of(dataset: Dataset, codecs: charsets.Encodings) -> Claims:
    """The claims of an instance, at its top level; those that cannot be read are none."""
    element = element_of(dataset, CHARACTERISTICS)
    found = [] if element is None else items(element, dataset) or []
    blocks: set[tuple[int, str]] = set()
    elements: set[PrivateKey] = set()
    for item in found:
        group, creator = _numbers(item, _GROUP), _text(item, _CREATOR, "LO", codecs)
        if len(group) != 1 or not creator:
            continue
        status = _text(item, _STATUS, "CS", codecs)
        if status == "SAFE":
            blocks.add((group[0], creator))
        elif status == "MIXED":
            elements.update(PrivateKey(creator, group[0], number & 0xFF) for number in _numbers(item, _NONIDENTIFYING))
    return Claims(frozenset(blocks), frozenset(elements))


def _numbers(item: Dataset, tag: int) -> list[int]:
    element = element_of(item, tag)
    if element is None or element.value is None:
        return []
    if isinstance(element.value, bytes):
        order = "little" if item.original_encoding[1] is not False else "big"
        raw = element.value
        return [int.from_bytes(raw[at : at + 2], order) for at in range(0, len(raw) // 2 * 2, 2)]  # type: ignore[arg-type]
    return [int(each) for each in (element.value if isinstance(element.value, list) else [element.value])]


def _text(item: Dataset, tag: int, vr: str, codecs: charsets.Encodings) -> str:
    element = element_of(item, tag)
    values = [] if element is None else texts(element, vr, codecs)
    return values[0] if values else ""


class Blocks:
    """The private blocks that one data set or item reserves (PS3.5 7.8.1)."""

    def __init__(self, dataset: Dataset, safe: SafePrivate, claims: Claims) -> None:
        self._safe = safe
        self._claims = claims
        self._creators: dict[tuple[int, int], str] = {}
        for tag, element in elements(dataset):
            if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
                values = texts(element, "LO", charsets.DEFAULT)
                if values:
                    self._creators[tag >> 16, tag & 0xFFFF] = values[0]

    def vr_if_safe(self, tag: int) -> str | None:
        """The VR that a private attribute that may stay is known to have, "UN" if unknown; None if it may not stay."""
        creator = self._creators.get((tag >> 16, tag >> 8 & 0xFF))
        if creator is None or tag & 0xFFFF < 0x1000:
            return None
        key = PrivateKey(creator, tag >> 16, tag & 0xFF)
        vr = self._safe.rows.get(key)
        if vr is not None:
            return vr
        return "UN" if self._safe.honour_claims and self._claims.hold(key) else None

    @staticmethod
    def creator_of(tag: int) -> int:
        """The tag of the element that reserves the block of a private attribute."""
        return (tag & 0xFFFF0000) | (tag >> 8 & 0xFF)


def has_text(value: bytes, clean: Callable[[str], str]) -> bool:
    """Whether a byte string holds a run of printable characters that a cleaner would change."""
    return any(clean(run.decode("ascii")) != run.decode("ascii") for run in _RUN.findall(value))


def remaining_claims(source: Dataset, kept: Container[int], codecs: charsets.Encodings) -> list[Dataset]:
    """The claims on blocks that something is left of: which block, and that it is safe; no descriptions."""
    element = element_of(source, CHARACTERISTICS)
    creators = {
        (tag >> 16, next(iter(texts(each, "LO", codecs)), ""))
        for tag, each in elements(source)
        if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF and tag in kept
    }
    remaining: list[Dataset] = []
    for item in [] if element is None else items(element, source) or []:
        group, creator = _numbers(item, _GROUP), _text(item, _CREATOR, "LO", codecs)
        if len(group) == 1 and (group[0], creator) in creators:
            claim = Dataset()
            claim.add(made(_GROUP, "US", group[0]))
            claim.add(made(_CREATOR, "LO", creator))
            claim.add(made(_STATUS, "CS", "SAFE"))
            remaining.append(claim)
    return remaining
