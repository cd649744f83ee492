"""One pass over an arriving instance: everything the archive will ever ask of it, before any library sees the bytes."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import orjson

from storage.dicom import charsets, file_meta, frames, json_model
from storage.dicom import identifiers as ids
from storage.dicom import vr as vrs
from storage.dicom.attributes import PIXEL_DATA_TAGS, describe
from storage.dicom.digests import Digests
from storage.dicom.elements import Encoding, Event, Kind, Readable, Tokenizer
from storage.dicom.limits import Limits
from storage.errors import (
    AnnouncedOtherwise,
    FramesNotLocatable,
    InvalidIdentifier,
    LimitExceeded,
    MalformedDataSet,
    MissingAttribute,
)

EXTRACTOR_VERSION = 3
"""Rises when an extract holds more or other than before; rows of an older one are extracted again."""

_PIXEL_GROUP = 0x7FE00000
_NAMES = {tag: f"{tag:08X}" for tag in vrs.KNOWN}
_PIXEL_REPRESENTATION = 0x00280103
_PLACE = ("00080016", "00080018", "0020000D", "0020000E")
_LAST_OF_PLACE = 0x0020000E
_SPECIFIC_CHARACTER_SET = 0x00080005
_EXTENDED_OFFSET_TABLE = 0x7FE00001
_EXTENDED_OFFSET_TABLE_LENGTHS = 0x7FE00002
_VIDEO_NUMBERS = (*range(100, 109), *(f"{number}.1" for number in range(100, 107)))
VIDEO = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in _VIDEO_NUMBERS)
"""MPEG-2, MPEG-4 and HEVC, the fragmentable ones included (PS3.5 A.4.5 to A.4.10)."""


@dataclass(frozen=True, slots=True)
class BulkItem:
    """A value that stands behind a BulkDataURI; ``offset`` counts from the start of the (inflated) data set."""

    path: str
    vr: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Announced:
    """What a command set or File Meta Information says of an instance; it stands in for UIDs the data set lacks.

    A command set is ``binding``: a data set that contradicts it is refused (PS3.4 B.2.3, 0xA900). File Meta
    Information is not: the archive writes its own, and the data set is what was meant.
    """

    sop_class_uid: str = ""
    sop_uid: str = ""
    binding: bool = False


@dataclass(frozen=True, slots=True)
class Extract:
    """All that one pass yields.

    ``data_set`` is the DICOM JSON of the top level (sequences already as text), ``metadata`` the same as JSON
    text in UTF-8, its BulkDataURIs relative. ``frame_chunks`` are those of ``frames.pack_chunks``.
    """

    study_uid: ids.StudyUid
    series_uid: ids.SeriesUid
    sop_uid: ids.SopUid
    sop_class_uid: ids.SopClassUid
    transfer_syntax_uid: ids.TransferSyntaxUid
    data_set: json_model.JsonDataSet
    metadata: bytes
    canonical_digest: str
    header_digest: str
    frames: frames.FrameTable
    frame_chunks: tuple[bytes, ...]
    bulk: tuple[BulkItem, ...]
    size_bytes: int


@dataclass(slots=True)
class _Pixels:
    """What is noted of the top-level pixel data on the way."""

    tag: str = ""
    vr: str = ""
    offset: int = 0
    length: int = 0
    recorder: frames.FragmentRecorder | None = None
    extended: dict[int, array[int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Level:
    """One open data set: the top level or an item."""

    data_set: json_model.JsonDataSet
    path: str
    codecs: charsets.Encodings
    signed: bool
    # JSON texts rather than objects: a million items as dictionaries would take a gigabyte, and even a million
    # small objects would keep the garbage collector busy.
    items: list[bytes] = field(default_factory=list)
    sequence_tag: str = ""


def extract(
    source: Readable,
    transfer_syntax_uid: str,
    limits: Limits,
    announced: Announced,
) -> Extract:
    """Read one data set to its end.

    Parameters
    ----------
    source
        The bytes after the File Meta Information.
    transfer_syntax_uid
        How they are written.
    limits
        Bounds; the data set never decides how much is held in memory.
    announced
        What was said of the instance before its data set came.

    Raises
    ------
    Truncated, MalformedDataSet, LimitExceeded
        Its structure cannot be followed to the end.
    MissingAttribute
        A UID that gives the instance its place is absent or invalid, or differs from a binding announcement.
    """
    encoding = file_meta.encoding_of(transfer_syntax_uid)
    try:
        syntax = ids.transfer_syntax_uid(transfer_syntax_uid)
    except InvalidIdentifier as error:
        raise MalformedDataSet(str(error)) from error
    pass_ = _Pass(Tokenizer(source, encoding, limits), encoding, limits)
    pass_.run()
    data_set = pass_.top.data_set
    uids = _identity(data_set, announced)
    study_uid, series_uid, instance_uid, class_uid = _placed(uids)
    if announced.binding:
        for tag, ours, theirs in (
            ("00080018", instance_uid, announced.sop_uid),
            ("00080016", class_uid, announced.sop_class_uid),
        ):
            if ours != theirs:
                raise AnnouncedOtherwise(f"{describe(tag)} differs from the one that was announced")
    prefix = f"studies/{study_uid}/series/{series_uid}/instances/{instance_uid}/bulkdata/"
    table, chunks = _frame_table(pass_.pixels, data_set, encoding, syntax)
    metadata = json_model.dumps(data_set)
    if len(metadata) > limits.max_metadata_bytes:
        raise LimitExceeded(f"more than {limits.max_metadata_bytes} bytes of metadata")
    return Extract(
        study_uid=study_uid,
        series_uid=series_uid,
        sop_uid=instance_uid,
        sop_class_uid=class_uid,
        transfer_syntax_uid=syntax,
        data_set=data_set,
        metadata=json_model.with_base(metadata, prefix),
        canonical_digest=pass_.digests.canonical(),
        header_digest=pass_.digests.header(),
        frames=table,
        frame_chunks=chunks,
        bulk=tuple(pass_.bulk),
        size_bytes=pass_.tokenizer.offset,
    )


def identity(
    source: Readable, transfer_syntax_uid: str, limits: Limits, announced: Announced
) -> tuple[ids.StudyUid, ids.SeriesUid, ids.SopUid, ids.SopClassUid]:
    """The UIDs that give an instance its place, from the beginning of its data set: no more of it is read.

    Raises as ``extract`` for as much as it reads; the rest of the data set may yet make another one of it.
    """
    encoding = file_meta.encoding_of(transfer_syntax_uid)
    found: json_model.JsonDataSet = {}
    depth = 0
    for event in Tokenizer(source, encoding, limits):
        if event.kind is Kind.SEQUENCE:
            depth += 1
        elif event.kind is Kind.SEQUENCE_END:
            depth -= 1
        elif not depth and event.tag > _LAST_OF_PLACE:
            break
        elif not depth and f"{event.tag:08X}" in _PLACE and event.kind is Kind.ELEMENT:
            found[f"{event.tag:08X}"] = json_model.element(
                "UI", event.value, charsets.DEFAULT, big_endian=encoding.big_endian
            )
    return _placed(_identity(found, announced))


def _placed(uids: dict[str, str]) -> tuple[ids.StudyUid, ids.SeriesUid, ids.SopUid, ids.SopClassUid]:
    return (
        ids.StudyUid(uids["0020000D"]),
        ids.SeriesUid(uids["0020000E"]),
        ids.SopUid(uids["00080018"]),
        ids.SopClassUid(uids["00080016"]),
    )


def _twice(name: str) -> MalformedDataSet:
    # Two readers of such a data set could see two different patients.
    return MalformedDataSet(f"{describe(name)} stands twice in one data set")


def _identity(data_set: json_model.JsonDataSet, announced: Announced) -> dict[str, str]:
    """The UIDs that give an instance its place, by tag; raises MissingAttribute with every fault."""
    stand_ins = dict(zip(_PLACE, (announced.sop_class_uid, announced.sop_uid, "", ""), strict=True))
    found, faults = dict.fromkeys(stand_ins, ""), {}
    for tag, stand_in in stand_ins.items():
        text = json_model.text_of(data_set, tag) or stand_in
        if len(data_set.get(tag, {}).get("Value", ())) > 1:
            faults[tag] = f"{describe(tag)} has more than one value"
        elif not text:
            faults[tag] = f"{describe(tag)} is missing"
        else:
            try:
                found[tag] = ids.checked_uid(text, describe(tag))
            except InvalidIdentifier as error:
                faults[tag] = str(error)
    if faults:
        raise MissingAttribute(faults, found["00080016"], found["00080018"])
    return found


class _Pass:
    """The state of one pass; its methods are the reactions to the tokenizer's events."""

    def __init__(self, tokenizer: Tokenizer, encoding: Encoding, limits: Limits) -> None:
        self.tokenizer = tokenizer
        self.digests = Digests(big_endian=encoding.big_endian)
        self.top = _Level({}, "", charsets.DEFAULT, signed=False)
        self.pixels = _Pixels()
        self.bulk: list[BulkItem] = []
        self._encoding = encoding
        self._limits = limits
        self._levels = [self.top]
        self._metadata_bytes = 0
        self._encapsulated_offset = 0
        self._first_fragment = False

    def run(self) -> None:
        digest, digest_element, element = self.digests.event, self.digests.element, self._element
        plain = Kind.ELEMENT
        for event in self.tokenizer:
            kind = event[0]
            if kind is plain:
                digest_element(event)
                element(event)
                continue
            digest(event)
            if kind is Kind.LARGE:
                self._large(event)
            elif kind is Kind.SEQUENCE:
                self._sequence(event)
            elif kind is Kind.ITEM:
                self._item()
            elif kind is Kind.ITEM_END:
                self._item_end()
            elif kind is Kind.EMPTY_ITEMS:
                self._levels[-1].items.extend([b"{}"] * event.length)
            elif kind is Kind.SEQUENCE_END:
                self._sequence_end()
            elif kind is Kind.FRAGMENTS:
                self._fragments(event)
            elif kind is Kind.FRAGMENT:
                self._fragment(event)
            elif kind is Kind.FRAGMENTS_END:
                self._fragments_end(event)

    def _new(self, level: _Level, tag: int) -> str:
        name = f"{tag:08X}"
        if name in level.data_set:
            raise _twice(name)
        return name

    def _element(self, event: Event) -> None:
        _, tag, vr, value, _, length = event
        if not tag & 0xFFFF:
            return
        level = self._levels[-1]
        name = _NAMES.get(tag) or f"{tag:08X}"
        if name in level.data_set:
            raise _twice(name)
        if vr == "UN" and not tag >> 16 & 1:
            known = vrs.of_tag(tag)
            vr = known if known != "SQ" else vr
        if vr == "US" and level.signed and tag in vrs.SIGNED_BY_PIXEL_REPRESENTATION:
            vr = "SS" if self._encoding.implicit else vr
        if tag >= _PIXEL_GROUP and level is self.top and name in PIXEL_DATA_TAGS:
            self._native_pixels(name, event)
            level.data_set[name] = self._bulk_element(level, name, event)
            return
        if tag in (_EXTENDED_OFFSET_TABLE, _EXTENDED_OFFSET_TABLE_LENGTHS) and level is self.top:
            self._extended(tag, value)
        if vr in vrs.BYTES and length > self._limits.inline_binary_bytes:
            level.data_set[name] = self._bulk_element(level, name, event)
            return
        found = json_model.element(vr, value, level.codecs, big_endian=self._encoding.big_endian)
        level.data_set[name] = found
        self._metadata_bytes += length + 32
        if self._metadata_bytes > self._limits.max_metadata_bytes:
            self._spend(0)
        if tag == _SPECIFIC_CHARACTER_SET:
            level.codecs = charsets.encodings(charsets.character_sets(found.get("Value", ())))
            # The text of the metadata is in UTF-8 now (PS3.18 F.2 "DICOM JSON Model"); the object says what it was.
            level.data_set[name] = {"vr": "CS", "Value": ["ISO_IR 192"]}
        elif tag == _PIXEL_REPRESENTATION:
            level.signed = found.get("Value") == [1]

    def _spend(self, size: int) -> None:
        self._metadata_bytes += size
        if self._metadata_bytes > self._limits.max_metadata_bytes:
            raise LimitExceeded(f"more than {self._limits.max_metadata_bytes} bytes of metadata")

    def _bulk_element(self, level: _Level, name: str, event: Event) -> json_model.JsonElement:
        path = level.path + name
        self.bulk.append(BulkItem(path, event.vr, event.offset, event.length))
        self._spend(len(path) + 64)
        return {"vr": event.vr, "BulkDataURI": path}

    def _large(self, event: Event) -> None:
        level = self._levels[-1]
        name = self._new(level, event.tag)
        if level is self.top and name in PIXEL_DATA_TAGS:
            self._native_pixels(name, event)
        extended = level is self.top and event.tag in (_EXTENDED_OFFSET_TABLE, _EXTENDED_OFFSET_TABLE_LENGTHS)
        if extended and event.length > self._limits.max_fragments * 8:
            raise LimitExceeded("the Extended Offset Table is too long")
        kept = bytearray()
        for block in self.tokenizer.blocks():
            self.digests.update(block)
            if extended:
                kept += block
        if extended:
            self._extended(event.tag, bytes(kept))
        level.data_set[name] = self._bulk_element(level, name, event)

    def _extended(self, tag: int, value: bytes) -> None:
        entries = array("Q")
        entries.frombytes(value[: len(value) // 8 * 8])
        self.pixels.extended[tag] = entries

    def _native_pixels(self, name: str, event: Event) -> None:
        self.pixels.tag, self.pixels.vr = name, event.vr
        self.pixels.offset, self.pixels.length = event.offset, event.length

    def _sequence(self, event: Event) -> None:
        level = self._levels[-1]
        level.sequence_tag = self._new(level, event.tag)
        level.items = []

    def _item(self) -> None:
        parent = self._levels[-1]
        path = f"{parent.path}{parent.sequence_tag}.{len(parent.items) + 1}."
        self._levels.append(_Level({}, path, parent.codecs, parent.signed))

    def _item_end(self) -> None:
        item = self._levels.pop()
        self._levels[-1].items.append(json_model.dumps(item.data_set))

    def _sequence_end(self) -> None:
        level = self._levels[-1]
        found: dict[str, Any] = {"vr": "SQ"}
        if level.items:
            found["Value"] = orjson.Fragment(b"[" + b",".join(level.items) + b"]")
        level.data_set[level.sequence_tag] = found
        level.items = []
        self._spend(32)

    def _fragments(self, event: Event) -> None:
        level = self._levels[-1]
        name = self._new(level, event.tag)
        level.data_set[name] = {"vr": event.vr if event.vr in vrs.BYTES else "OB"}
        self._encapsulated_offset = event.offset
        self._first_fragment = True
        if level is self.top:
            self.pixels.tag, self.pixels.vr, self.pixels.offset = name, "OB", event.offset
            self.pixels.recorder = frames.FragmentRecorder()

    def _fragment(self, event: Event) -> None:
        recorder = self.pixels.recorder if self._levels[-1] is self.top else None
        if self._first_fragment:
            # The Basic Offset Table: other senders write another one for the same data, so no digest sees it.
            self._first_fragment = False
            table = b"".join(self.tokenizer.blocks()) if event.length <= self._limits.max_fragments * 4 else b""
            if recorder is not None:
                recorder.basic_offset_table = table
            return
        if recorder is not None:
            recorder.add(event.offset, event.length, self.tokenizer.peek(6))
        for block in self.tokenizer.blocks():
            self.digests.update(block)

    def _fragments_end(self, event: Event) -> None:
        level = self._levels[-1]
        name = f"{event.tag:08X}"
        start = self._encapsulated_offset
        if level is self.top:
            self.pixels.length = event.offset - start
        path = level.path + name
        level.data_set[name]["BulkDataURI"] = path
        self.bulk.append(BulkItem(path, level.data_set[name]["vr"], start, event.offset - start))


def _frame_table(
    pixels: _Pixels, data_set: json_model.JsonDataSet, encoding: Encoding, transfer_syntax_uid: str
) -> tuple[frames.FrameTable, tuple[bytes, ...]]:
    if not pixels.tag:
        return frames.FrameTable(frames.FrameKind.NONE), ()
    declared = max(1, json_model.number_of(data_set, "00280008", 1))
    if pixels.recorder is None:
        addressable = "deflated" if encoding.deflated else ""
        if encoding.big_endian and (pixels.vr == "OW" or json_model.number_of(data_set, "00280100", 8) > 8):
            addressable = "big endian"
        return frames.native_table(data_set, pixels.offset, pixels.length, addressable=addressable), ()
    if transfer_syntax_uid in VIDEO:
        return frames.FrameTable(
            frames.FrameKind.DECODE, declared, pixels.offset, pixels.length, 0, "a video stream"
        ), tuple(frames.pack_chunks(pixels.recorder, array("I", [0])))
    tables = pixels.extended
    extended = None
    if _EXTENDED_OFFSET_TABLE in tables and _EXTENDED_OFFSET_TABLE_LENGTHS in tables:
        extended = (tables[_EXTENDED_OFFSET_TABLE], tables[_EXTENDED_OFFSET_TABLE_LENGTHS])
    try:
        first = frames.first_fragments(pixels.recorder, declared, extended)
    except FramesNotLocatable as error:
        return frames.FrameTable(frames.FrameKind.DECODE, declared, pixels.offset, pixels.length, 0, str(error)), ()
    table = frames.FrameTable(frames.FrameKind.ENCAPSULATED, len(first), pixels.offset, pixels.length)
    return table, tuple(frames.pack_chunks(pixels.recorder, first))
