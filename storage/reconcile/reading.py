"""One object read whole: the arrival that it was, or why it cannot be one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from storage.dicom import file_meta, origin, part10
from storage.dicom import identifiers as ids
from storage.dicom.elements import Readable
from storage.dicom.limits import Limits
from storage.errors import ObjectDamaged, ObjectNotFound, Unreadable
from storage.index.arrivals import Arrival
from storage.objects.base import ObjectReader, ObjectStore


@dataclass(frozen=True, slots=True)
class Unfit:
    """An object that gets no row, and why; ``gone`` when there is none under the key any more."""

    object_key: str
    reason: str
    gone: bool = False


def read(objects: ObjectStore, limits: Limits, object_key: str) -> Arrival | Unfit:
    """Read an instance's object. Raises InvalidIdentifier for a key of another form, StorageUnavailable."""
    key, version = ids.parse_object_key(object_key)
    try:
        with objects.open(object_key) as reader:
            source = _Hashed(reader)
            meta, offset, rest = file_meta.read(source, limits)
            announced = part10.Announced(meta.sop_class_uid, meta.sop_uid)
            extract = part10.extract(_Rest(rest, source), meta.transfer_syntax_uid, limits, announced)
            source.drain()
    except ObjectNotFound:
        return Unfit(object_key, "there is no such object", gone=True)
    except (Unreadable, ObjectDamaged) as error:
        return Unfit(object_key, str(error))
    if (extract.study_uid, extract.series_uid, extract.sop_uid) != (key.study_uid, key.series_uid, key.sop_uid):
        return Unfit(object_key, "the object's key is not that of the instance in it")
    made_of = origin.loads(meta.private) if meta.private else None
    return Arrival(
        key,
        version,
        extract,
        offset,
        source.size,
        source.sha256(),
        source_ae_title=meta.source_ae_title,
        beside=made_of.version if made_of is not None else "",
    )


class _Hashed:
    """An object reader as a source to read from, digested on the way."""

    def __init__(self, reader: ObjectReader) -> None:
        self._blocks = reader.blocks()
        self._left = b""
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        block = self._left
        if not block:
            block = next(self._blocks, b"")
            self._digest.update(block)
            self.size += len(block)
        taken, self._left = block[:size], block[size:]
        return taken

    def drain(self) -> None:
        """Digest what was not read."""
        while self.read(1 << 20):
            pass

    def sha256(self) -> str:
        return self._digest.hexdigest()


class _Rest:
    """Bytes already taken, then the source they were taken from."""

    def __init__(self, taken: bytes, source: Readable) -> None:
        self._taken = taken
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._taken:
            taken, self._taken = self._taken[:size], self._taken[size:]
            return taken
        return self._source.read(size)
