"""What a file says of the instance in it, as far as its place needs it: its first elements, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from storage.dicom import file_meta
from storage.dicom.directory import DIRECTORY_CLASS
from storage.dicom.elements import Kind, Readable, Tokenizer
from storage.dicom.limits import Limits
from storage.errors import NotPart10

_BLOCK_BYTES = 1 << 18
_SOP_CLASS, _SOP_UID, _STUDY_UID, _SERIES_UID = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_WANTED = frozenset((_SOP_CLASS, _SOP_UID, _STUDY_UID, _SERIES_UID))


class NoInstance(Exception):
    """The file holds nothing that is sent: the text says what it is."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a data set begins in its file, how it is written, and the UIDs in it; "" for one that is absent."""

    offset: int
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_uid: str
    study_uid: str = ""
    series_uid: str = ""

    @property
    def kind(self) -> tuple[str, str]:
        """SOP class and transfer syntax."""
        return self.sop_class_uid, self.transfer_syntax_uid


def read(file: Readable, limits: Limits, *, with_place: bool = False) -> Head:
    """The head of a file; with study and series when they are asked for.

    Raises
    ------
    NoInstance
        It is no DICOM, a DICOMDIR, or does not say which instance it is.
    storage.errors.Unreadable, OSError
    """
    try:
        meta, offset, taken = file_meta.read(file, limits)
    except NotPart10 as error:
        raise NoInstance("not DICOM") from error
    if meta.sop_class_uid == DIRECTORY_CLASS:
        raise NoInstance("a DICOMDIR")
    last = _SERIES_UID if with_place else _SOP_UID
    found = dict(_uids(_Rest(taken, file), meta.transfer_syntax_uid, limits, last))
    sop_class_uid = found.get(_SOP_CLASS) or meta.sop_class_uid
    sop_uid = found.get(_SOP_UID) or meta.sop_uid
    if not sop_class_uid or not sop_uid:
        raise NoInstance("without a SOP Class UID or SOP Instance UID")
    return Head(
        offset, meta.transfer_syntax_uid, sop_class_uid, sop_uid, found.get(_STUDY_UID, ""), found.get(_SERIES_UID, "")
    )


def data_set(file: Readable, offset: int) -> Iterator[bytes]:
    """The bytes of a file from an offset on."""
    while offset:
        block = file.read(min(offset, _BLOCK_BYTES))
        if not block:
            return
        offset -= len(block)
    while block := file.read(_BLOCK_BYTES):
        yield block


class _Rest:
    """What is left of a source of which a part has been taken."""

    def __init__(self, taken: bytes, file: Readable) -> None:
        self._taken = taken
        self._file = file

    def read(self, size: int, /) -> bytes:
        """See Readable."""
        if self._taken:
            found, self._taken = self._taken[:size], self._taken[size:]
            return found
        return self._file.read(size)


def _uids(file: Readable, transfer_syntax_uid: str, limits: Limits, last: int) -> Iterator[tuple[int, str]]:
    """The UIDs of the top level, which stands in the order of tags."""
    depth = 0
    tokenizer = Tokenizer(file, file_meta.encoding_of(transfer_syntax_uid), limits)
    for event in tokenizer:
        if event.kind is Kind.SEQUENCE:
            depth += 1
        elif event.kind is Kind.SEQUENCE_END:
            depth -= 1
        elif not depth and event.kind is Kind.ELEMENT and event.tag in _WANTED:
            yield event.tag, event.value.decode("ascii", "replace").strip("\0 ")
        if not depth and (event.tag >= last or event.kind in (Kind.LARGE, Kind.FRAGMENTS)):
            return
