"""Pixel Data on its way through: metadata in compressed frames goes; the rest is told to whoever cleans pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement

from gateway.deid import codestreams
from gateway.deid.values import Element, element_of, made, raw_bytes, texts
from gateway.errors import NotDeidentified
from storage.dicom import charsets

PIXEL_DATA = 0x7FE00010
_BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT = 0x00280100, 0x00280101, 0x00280102
_BURNED_IN, _VISUAL_FEATURES = 0x00280301, 0x00280302
_OVERLAY_BITS_ALLOCATED, _OVERLAY_BIT, _OVERLAY_DATA = 0x0100, 0x0102, 0x3000
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


@dataclass(frozen=True, slots=True)
class PixelFindings:
    """What of the pixels may still identify the patient; the engine itself does not look at them.

    ``unused_bits`` has the bits of a cell of Pixel Data that are no sample's: overlays used to be kept there
    (PS3.5 8.1.2, retired), and whatever else is there is in no picture. ``overlay_bits`` are those that the old data
    set called an overlay. They have to be cleared in native pixel data before it is given to anybody.
    ``unexamined_stream`` is set for a transfer syntax whose frames are not looked at for metadata.
    """

    burned_in_annotation: str = ""
    recognizable_visual_features: str = ""
    overlay_bits: tuple[int, ...] = ()
    unused_bits: int = 0
    unexamined_stream: bool = False

    @property
    def needs_cleaning(self) -> bool:
        """Whether there is something to be taken out of the pixels, by what the instance says of itself.

        ``unused_bits`` alone are no sign of that (nearly every CT has some); clearing them costs little.
        """
        return bool(
            self.overlay_bits
            or self.unexamined_stream
            or self.burned_in_annotation == "YES"
            or self.recognizable_visual_features == "YES"
        )


def findings(source: Dataset, transfer_syntax_uid: str, *, encapsulated: bool) -> PixelFindings:
    """What the instance, as it was, says of its pixels."""
    allocated, stored = _number(source, _BITS_ALLOCATED), _number(source, _BITS_STORED)
    high = _number(source, _HIGH_BIT)
    unused = 0
    if 0 < stored < allocated <= 64 and stored - 1 <= high < allocated:
        unused = (1 << allocated) - 1 & ~(((1 << stored) - 1) << high - stored + 1)
    planes = {tag >> 16 for tag in source.keys() if tag >> 16 & 0xFF01 == 0x6000}  # noqa: SIM118
    embedded = [
        _number(source, group << 16 | _OVERLAY_BIT)
        for group in sorted(planes)
        if element_of(source, group << 16 | _OVERLAY_DATA) is None
        and _number(source, group << 16 | _OVERLAY_BITS_ALLOCATED) > 1
    ]
    return PixelFindings(
        burned_in_annotation=_text(source, _BURNED_IN),
        recognizable_visual_features=_text(source, _VISUAL_FEATURES),
        overlay_bits=tuple(bit for bit in embedded if bit),
        unused_bits=0 if encapsulated else unused,
        unexamined_stream=encapsulated and not codestreams.examined(transfer_syntax_uid),
    )


def _number(source: Dataset, tag: int) -> int:
    element = element_of(source, tag)
    value = None if element is None else element.value
    if isinstance(value, bytes):
        return int.from_bytes(value[:2], "big" if source.original_encoding[1] is False else "little")
    return value if isinstance(value, int) else 0


def _text(source: Dataset, tag: int) -> str:
    element = element_of(source, tag)
    values = [] if element is None else texts(element, "CS", charsets.DEFAULT)
    return values[0].upper() if values else ""


def is_encapsulated(element: Element | None) -> bool:
    """Whether Pixel Data is in fragments (PS3.5 A.4)."""
    if element is None or not isinstance(element.value, bytes):
        return False
    undefined = element.length == 0xFFFFFFFF if isinstance(element, RawDataElement) else element.is_undefined_length
    if undefined and not element.value.startswith(_ITEM):
        raise NotDeidentified("the pixel data is neither native nor in fragments")
    return bool(undefined)


def without_metadata(element: Element, transfer_syntax_uid: str) -> DataElement:
    """Encapsulated Pixel Data whose frames say nothing beside their pixels; lengths and offsets stay as they are."""
    value = bytearray(raw_bytes(element))
    spans = _fragments(value)
    cleaned = codestreams.blanked_fragments([bytes(value[a:b]) for a, b in spans], transfer_syntax_uid)
    for (start, end), fragment in zip(spans, cleaned, strict=True):
        value[start:end] = fragment
    found = made(PIXEL_DATA, "OB", bytes(value))
    found.is_undefined_length = True
    return found


def _fragments(value: bytearray) -> list[tuple[int, int]]:
    """Where the fragments are, without the basic offset table; nothing may stand between them."""
    spans: list[tuple[int, int]] = []
    position = 0
    while position + 8 <= len(value) and value[position : position + 4] != _DELIMITER:
        (length,) = struct.unpack_from("<I", value, position + 4)
        end = position + 8 + length
        if value[position : position + 4] != _ITEM or end > len(value):
            raise NotDeidentified("the fragments of the pixel data are damaged")
        spans.append((position + 8, end))
        position = end
    del value[position:]
    return spans[1:]
