"""The pair of bucket and index: durable put, then index commit; ranged reads; deletion by record.

The order is the promise: an object is durable before its row, a record object before the row it explains, and the
caller hears of success after both. What a crash leaves between the two is an object without a row;
``storage.reconcile`` gives it one, or removes it when its content is there already.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from storage import records
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.elements import Blocks, InflatingSource
from storage.dicom.frames import Fragments
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.dicom.origin import Origin
from storage.dicom.part10 import Extract
from storage.errors import ObjectDamaged, StorageError, StorageUnavailable
from storage.index.arrivals import Arrival, Commit, Conflict, Outcome, Quarantined
from storage.index.base import Index
from storage.index.questions import Target
from storage.index.stored import Existence, Layout, Located, StoredVersion
from storage.objects.base import ByteRange, Draft, FileSegment, ObjectReader, ObjectStore, Segment, body_length


@dataclass(frozen=True, slots=True)
class Sender:
    """Who an instance came from, as its File Meta Information will say (PS3.10 Table 7.1-1)."""

    sending_ae_title: str = ""
    receiving_ae_title: str = ""
    source_ae_title: str = ""
    """That of a file which has one of its own; the sending one where it is empty."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An instance whose object is under way while it still arrives; it is stored by ``Archive.store``, or abandoned."""

    draft: Draft
    version: ids.Version
    object_key: str
    prefix: bytes
    file: Path
    start: int

    def is_of(self, key: ids.InstanceKey, prefix: bytes, data_set: Sequence[Segment]) -> bool:
        """Whether it is the object of these bytes, now that all of them are known."""
        return (self.object_key, self.prefix) == (key.object_key(self.version), prefix) and all(
            isinstance(each, FileSegment) and (each.path, each.start) == (self.file, self.start) for each in data_set
        )


class Opens(Protocol):
    """Starts reads of objects: see ``ObjectStore``."""

    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractContextManager[ObjectReader]:
        """Start a read."""
        ...

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """Bytes in memory."""
        ...


class Layouts(Protocol):
    """Knows where everything lies in an instance: see ``Index``."""

    def layout(self, version_id: int) -> Layout:
        """Frames and bulk values."""
        ...

    def fragments(self, version_id: int, frames: Iterable[int]) -> Iterator[Fragments]:
        """Ranges of encapsulated frames."""
        ...

    def metadata(self, version_ids: Sequence[int]) -> Iterator[bytes]:
        """Metadata in the DICOM JSON Model."""
        ...


class InstanceReader:
    """Reads instances, from wherever their bytes are."""

    def __init__(self, objects: Opens, index: Layouts, limits: Limits) -> None:
        self.objects = objects
        self.index = index
        self.limits = limits

    def blocks(self, located: Located, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Bytes of the object as stored, a Part 10 file; all of it from ``start`` when no length is given."""
        end = located.size if length is None else start + length
        with self.objects.open(located.object_key, ByteRange(start, end)) as reader:
            yield from reader.blocks()

    def data_set(self, located: Located, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Bytes of the data set, inflated when it is deflated; all of it from ``start`` when no length is given.

        Raises
        ------
        ObjectDamaged
            The data set ends before the range does.
        """
        if located.transfer_syntax_uid == file_meta.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            yield from self._inflated(located, start, length)
            return
        begin = located.data_offset + start
        end = located.size if length is None else begin + length
        with self.objects.open(located.object_key, ByteRange(begin, end)) as reader:
            yield from reader.blocks()

    def read(self, located: Located, start: int, length: int) -> bytes:
        """Bytes of the data set, in memory."""
        if located.transfer_syntax_uid == file_meta.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            return b"".join(self._inflated(located, start, length))
        begin = located.data_offset + start
        return self.objects.get(located.object_key, ByteRange(begin, begin + length))

    def _inflated(self, located: Located, start: int, length: int | None) -> Iterator[bytes]:
        end = None if length is None else start + length
        position = 0
        with self.objects.open(located.object_key, ByteRange(located.data_offset, located.size)) as reader:
            source = InflatingSource(Blocks(reader.blocks()), self.limits)
            while end is None or position < end:
                try:
                    block = source.read(1 << 18)
                except zlib.error as error:
                    raise ObjectDamaged("the deflated data set is damaged") from error
                if not block:
                    if end is not None:
                        raise ObjectDamaged("the data set ends before the range does")
                    return
                wanted = block[max(0, start - position) : None if end is None else end - position]
                position += len(block)
                if wanted:
                    yield wanted


class Archive(InstanceReader):
    """Objects and their rows, kept in step."""

    objects: ObjectStore
    index: Index

    def __init__(self, objects: ObjectStore, index: Index, limits: Limits) -> None:
        super().__init__(objects, index, limits)
        self._clock = ids.VersionClock()

    def ping(self) -> None:
        """Return when both engines answer; raises StorageUnavailable."""
        self.index.ping()
        self.objects.ping()

    def close(self) -> None:
        """Let go of both engines. Idempotent."""
        self.index.close()
        self.objects.close()

    def new_version(self) -> ids.Version:
        """A version for an instance that arrives now."""
        return self._clock.next()

    def begin(
        self, key: ids.InstanceKey, meta: file_meta.FileMeta, file: Path, start: int, sender: Sender
    ) -> Begun | None:
        """Begin the object of an instance whose data set arrives in a file, from ``start`` on.

        None where the bucket takes objects only once they are whole, and for an instance that is known: it may have
        come again, and nothing of it needs to be kept. Raises StorageUnavailable.
        """
        target = Target(key.tenant, key.study_uid, key.series_uid, key.sop_uid)
        if self.index.existence(target, EVERYTHING) is not Existence.ABSENT:
            return None
        version, prefix = self._clock.next(), file_meta.write(_signed(meta, sender))
        object_key = key.object_key(version)
        draft = self.objects.draft(object_key, prefix, file, start)
        return None if draft is None else Begun(draft, version, object_key, prefix, file, start)

    def store(
        self,
        tenant: ids.Tenant,
        version: ids.Version,
        extract: Extract,
        data_set: Sequence[Segment],
        sender: Sender,
        conflict: Conflict,
        admit: Callable[[], None] = lambda: None,
        made_of: Origin | None = None,
        begun: Begun | None = None,
        keeps_misplaced: bool = True,
    ) -> Commit:
        """Keep an instance; returns when it is durable and findable, or refused.

        Parameters
        ----------
        version
            Given at reception.
        extract
            Of this very data set.
        data_set
            The bytes as received, without File Meta Information.
        admit
            Called before anything is written, unless the content is there already; may raise.
        made_of
            Of what is recompressed: the version that it shall stand beside.
        begun
            Of this very instance, if it is that; its version is in place of the one given.
        keeps_misplaced
            Whether what contradicts the archive is put in quarantine; not what is there already.

        Raises
        ------
        StorageUnavailable, StorageFull, StaleObject
            Nothing was acknowledged; an object that may be left is for ``storage.reconcile``.
        """
        key = ids.InstanceKey(tenant, extract.study_uid, extract.series_uid, extract.sop_uid)
        if self.index.holds(key, extract.canonical_digest):
            return Commit(Outcome.DUPLICATE)
        admit()
        meta = _signed(
            file_meta.FileMeta(
                transfer_syntax_uid=extract.transfer_syntax_uid,
                sop_class_uid=extract.sop_class_uid,
                sop_uid=extract.sop_uid,
                private=made_of.dumps() if made_of is not None else b"",
            ),
            sender,
        )
        prefix = file_meta.write(meta)
        if begun is not None and begun.is_of(key, prefix, data_set) and self.index.is_young(begun.version):
            version, object_key = begun.version, begun.object_key
            info = begun.draft.complete(body_length(data_set))
        else:
            object_key = key.object_key(version)
            info = self.objects.put(object_key, [prefix, *data_set])
        assert info.sha256 is not None
        arrival = Arrival(key, version, extract, len(prefix), info.size, info.sha256, conflict)
        beside = made_of.version if made_of is not None else ""
        commit = self.index.commit(replace(arrival, source_ae_title=meta.source_ae_title, beside=beside))
        is_misplaced = commit.outcome is Outcome.MISPLACED
        if commit.outcome in (Outcome.DUPLICATE, Outcome.REJECTED) or (is_misplaced and not keeps_misplaced):
            self.objects.delete(object_key)
        elif is_misplaced:
            self.quarantine(Quarantined(key, version, object_key, commit.reason))
        return commit

    def quarantine(self, item: Quarantined) -> None:
        """Keep an object that stands in no study: a record in the bucket, then its row."""
        record = self._clock.next()
        body = records.Quarantine(item.object_key, item.reason).dumps()
        self.objects.put(records.key(item.key.tenant, record), [body])
        self.index.quarantine(item)

    def delete(self, target: Target, versions: Sequence[StoredVersion], reason: str = "") -> ids.Version:
        """Turn versions under a target into tombstones; their objects stay for now. The deletion's record comes back.

        ``reason`` names the rule, when nobody asked for it.

        Raises
        ------
        StorageUnavailable
            Nothing is deleted. Only when the bucket fails as well may the deletion's record stay, and the background
            work then carry it out.
        """
        record = self._clock.next()
        keys = tuple(each.object_key for each in versions)
        body = records.Deletion(target.study_uid, target.series_uid, target.sop_uid, keys, reason).dumps()
        self.objects.put(records.key(target.tenant, record), [body])
        try:
            late = self.index.delete(target.tenant, record, body, versions)
        except StorageError:
            # Withdrawn, or the background work would delete what is acknowledged as known until then.
            withdrawal = records.Restoration(record, keys, withdrawal=True).dumps()
            self.objects.put(records.key(target.tenant, self._clock.next()), [withdrawal])
            raise
        for object_key in late:
            # Without a row, and its source deleted: should it stay, the background work removes it.
            with suppress(StorageUnavailable):
                self.objects.delete(object_key)
        return record

    def restore(self, tenant: ids.Tenant, deletion: ids.Version) -> int:
        """Undo a deletion, as far as nothing took the place of what it deleted; how many versions are live again.

        Those that stand beside others come with them, and are not counted.

        Raises
        ------
        StorageUnavailable
            Nothing is live again; or the record is there, and the background work will see to its rows.
        """
        versions = self.index.restorable(tenant, deletion)
        if not versions:
            return 0
        record = self._clock.next()
        body = records.Restoration(deletion, tuple(each.object_key for each in versions)).dumps()
        self.objects.put(records.key(tenant, record), [body])
        restored = set(self.index.restore(tenant, record, body, deletion, versions))
        left = [each for each in versions if each.version not in restored]
        if left:
            # Their place was taken, or their time was over, between the two: the record promised too much.
            self.delete(Target(tenant, ids.parse_object_key(left[0].object_key)[0].study_uid), left)
        return sum(each.version in restored for each in versions if not each.beside)


def _signed(meta: file_meta.FileMeta, sender: Sender) -> file_meta.FileMeta:
    """With who it came from (PS3.10 Table 7.1-1)."""
    return replace(
        meta,
        source_ae_title=sender.source_ae_title or sender.sending_ae_title,
        sending_ae_title=sender.sending_ae_title,
        receiving_ae_title=sender.receiving_ae_title,
    )
