"""The Basic Directory of a file-set: a DICOMDIR (PS3.3 F, PS3.10 8) made of instances' metadata."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO

from storage.dicom import compose, explicit, file_meta
from storage.dicom.json_model import JsonDataSet
from storage.dicom.limits import Limits
from storage.errors import MalformedDataSet

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage."""
FILE_ID = "DICOMDIR"

_LIMITS = Limits()

# PS3.3 F.5: the keys of each kind of record that are of type 1, 1C, 2 and 2C.
_PATIENT = {"00100020": "LO", "00100010": "PN"}
_STUDY = {"00080020": "DA", "00080030": "TM", "00080050": "SH", "00081030": "LO", "0020000D": "UI", "00200010": "SH"}
_SERIES = {"00080060": "CS", "0020000E": "UI", "00200011": "IS"}
_NUMBER = {"00200013": "IS"}
_CONTENT = {**_NUMBER, "00080023": "DA", "00080033": "TM"}
_LABELLED = {**_NUMBER, "00700080": "CS", "00700081": "LO", "00700082": "DA", "00700083": "TM", "00700084": "PN"}
_SR = {**_CONTENT, "0040A491": "CS", "0040A493": "CS", "0040A043": "SQ"}
_DOCUMENT = {"00080023": "DA", "00080033": "TM", "00200013": "IS", "00420010": "ST", "00420012": "LO", "0040A043": "SQ"}

_KEYS = {
    "IMAGE": _NUMBER,
    "RT DOSE": {**_NUMBER, "3004000A": "CS"},
    "RT STRUCTURE SET": {**_NUMBER, "30060002": "SH", "30060008": "DA", "30060009": "TM"},
    "RT PLAN": {**_NUMBER, "300A0002": "SH", "300A0006": "DA", "300A0007": "TM"},
    "RT TREAT RECORD": {**_NUMBER, "30080250": "DA", "30080251": "TM"},
    "PRESENTATION": _LABELLED,
    "WAVEFORM": _CONTENT,
    "SR DOCUMENT": _SR,
    "KEY OBJECT DOC": {**_CONTENT, "0040A043": "SQ"},
    "SPECTROSCOPY": {
        "00080008": "CS",
        "00080023": "DA",
        "00080033": "TM",
        "00200013": "IS",
        "00280008": "IS",
        "00280010": "US",
        "00280011": "US",
        "00289001": "UL",
        "00289002": "UL",
    },
    "RAW DATA": {"00080023": "DA", "00080033": "TM", **_NUMBER},
    "REGISTRATION": {"00080023": "DA", "00080033": "TM", **_LABELLED},
    "FIDUCIAL": {"00080023": "DA", "00080033": "TM", **_LABELLED},
    "ENCAP DOC": _DOCUMENT,
    "VALUE MAP": {"00080023": "DA", "00080033": "TM", **_LABELLED},
    "SURFACE": {"00080023": "DA", "00080033": "TM", **_LABELLED},
    "TRACT": {"00080023": "DA", "00080033": "TM", **_LABELLED},
    "MEASUREMENT": {"00080023": "DA", "00080033": "TM", **_LABELLED},
}

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_KINDS = {
    "481.2": "RT DOSE",
    "481.3": "RT STRUCTURE SET",
    "481.5": "RT PLAN",
    "481.8": "RT PLAN",
    "481.4": "RT TREAT RECORD",
    "481.6": "RT TREAT RECORD",
    "481.7": "RT TREAT RECORD",
    "481.9": "RT TREAT RECORD",
    "88.59": "KEY OBJECT DOC",
    "4.2": "SPECTROSCOPY",
    "66": "RAW DATA",
    "66.1": "REGISTRATION",
    "66.2": "FIDUCIAL",
    "66.3": "REGISTRATION",
    "66.5": "SURFACE",
    "66.6": "TRACT",
    "67": "VALUE MAP",
}
_KIND_PREFIXES = (
    ("11.", "PRESENTATION"),
    ("9.", "WAVEFORM"),
    ("88.", "SR DOCUMENT"),
    ("104.", "ENCAP DOC"),
    ("78.", "MEASUREMENT"),
)
"""SOP classes by what stands after ``_STORAGE`` (PS3.3 Table F.4-1); whatever else has pixels is an image."""


def record_type(sop_class_uid: str) -> str:
    """Directory Record Type (0004,1430) of an instance."""
    place = sop_class_uid.removeprefix(_STORAGE) if sop_class_uid.startswith(_STORAGE) else ""
    if place in _KINDS:
        return _KINDS[place]
    return next((kind for prefix, kind in _KIND_PREFIXES if place.startswith(prefix)), "IMAGE")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the file-set. ``file_id`` are the components of its name; ``data_set`` is its metadata."""

    file_id: tuple[str, ...]
    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    data_set: JsonDataSet


@dataclass(slots=True)
class _Record:
    body: bytes
    children: list[_Record] = field(default_factory=list)

    @property
    def size(self) -> int:
        return 8 + len(_links(0, 0)) + len(self.body)


class Directory:
    """A DICOMDIR in the making: members in the order of patients, studies and series, about 400 bytes each."""

    def __init__(self) -> None:
        self._patients: list[_Record] = []
        self._open: dict[str, str] = {}

    def add(self, member: Member) -> None:
        """Take the next file; a new patient, study or series opens where its identifier differs from the last one's."""
        level = self._patients
        for kind, keys, tag in (("PATIENT", _PATIENT, "00100020"), ("STUDY", _STUDY, "0020000D")):
            level = self._entered(level, kind, keys, tag, member)
        level = self._entered(level, "SERIES", _SERIES, "0020000E", member)
        kind = record_type(member.sop_class_uid)
        level.append(_Record(_body(kind, _KEYS[kind], member.data_set, member)))

    def _entered(
        self, level: list[_Record], kind: str, keys: dict[str, str], tag: str, member: Member
    ) -> list[_Record]:
        name = repr(member.data_set.get(tag, {}).get("Value"))
        if self._open.get(kind) != name or not level:
            level.append(_Record(_body(kind, keys, member.data_set, None)))
            self._open[kind] = name
            # What is below opens anew, even under the same identifier.
            for below in {"PATIENT": ("STUDY", "SERIES"), "STUDY": ("SERIES",)}.get(kind, ()):
                self._open.pop(below, None)
        return level[-1].children

    def dumps(self, seed: str) -> bytes:
        """The file; ``seed`` names the file-set, so that the same one has the same SOP Instance UID."""
        sop_uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, seed).int}"
        meta = file_meta.write(file_meta.FileMeta(file_meta.EXPLICIT_VR_LITTLE_ENDIAN, DIRECTORY_CLASS, sop_uid))
        sequence = explicit.sequence(0x00041220)
        begin = len(meta) + len(_head(0, 0)) + len(sequence)
        offsets, place = {}, begin
        flat = list(_depth_first(self._patients))
        for record in flat:
            offsets[id(record)] = place
            place += record.size
        last = offsets[id(self._patients[-1])] if self._patients else 0
        following = dict(_following(self._patients, offsets))
        body = BytesIO()
        body.write(meta + _head(begin if self._patients else 0, last) + sequence)
        for record in flat:
            lower = offsets[id(record.children[0])] if record.children else 0
            links = _links(following[id(record)], lower)
            body.write(explicit.fragment(record.size - 8) + links + record.body)
        body.write(explicit.SEQUENCE_END)
        return body.getvalue()


def _head(first: int, last: int) -> bytes:
    """File-set ID (empty), where the first and last patient stand, and that no record is out of use."""
    return (
        _text(0x00041130, "CS", "")
        + _number(0x00041200, "UL", first)
        + _number(0x00041202, "UL", last)
        + _number(0x00041212, "US", 0)
    )


def _links(following: int, lower: int) -> bytes:
    return _number(0x00041400, "UL", following) + _number(0x00041410, "US", 0xFFFF) + _number(0x00041420, "UL", lower)


def _depth_first(records: Sequence[_Record]) -> Iterator[_Record]:
    for record in records:
        yield record
        yield from _depth_first(record.children)


def _following(records: Sequence[_Record], offsets: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Each record and where its next one of the same level stands; 0 after the last."""
    for place, record in enumerate(records):
        yield id(record), offsets[id(records[place + 1])] if place + 1 < len(records) else 0
        yield from _following(record.children, offsets)


def _body(kind: str, keys: dict[str, str], data_set: JsonDataSet, member: Member | None) -> bytes:
    """A record after its links: type, referenced file, keys; keys without a value are there and empty."""
    head = _text(0x00041430, "CS", kind)
    if member is not None:
        head += _text(0x00041500, "CS", "\\".join(member.file_id))
        head += _text(0x00041510, "UI", member.sop_class_uid)
        head += _text(0x00041511, "UI", member.sop_uid)
        head += _text(0x00041512, "UI", member.transfer_syntax_uid)
    found: JsonDataSet = {}
    for tag, vr in keys.items():
        element = data_set.get(tag, {})
        usable = element.get("vr") == vr and "BulkDataURI" not in element and _is_writable({tag: element})
        found[tag] = element if usable else {"vr": vr}
    return head + _composed(found)


def _composed(data_set: JsonDataSet) -> bytes:
    return b"".join(compose.data_set(data_set, _no_bulk, _LIMITS, encapsulated=False))


def _is_writable(data_set: JsonDataSet) -> bool:
    """Whether a stored value has its VR's form; one that has not is no reason to have no directory."""
    try:
        _composed(data_set)
    except MalformedDataSet:
        return False
    return True


def _no_bulk(uri: str) -> Sequence[compose.BulkValue]:
    raise MalformedDataSet(f"a value at {uri} in a directory record")


def _text(tag: int, vr: str, value: str) -> bytes:
    raw = value.encode("ascii")
    raw += (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)
    return explicit.header(tag, vr, len(raw)) + raw


def _number(tag: int, vr: str, value: int) -> bytes:
    size = {"UL": 4, "US": 2}[vr]
    return explicit.header(tag, vr, size) + value.to_bytes(size, "little")
