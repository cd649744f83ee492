"""Instances kept in less room than they have, and put together again, byte for byte, whenever they are read.

``SOP.VERSION.dcm`` may be kept as ``SOP.VERSION.htj2k`` instead, in the form of ``storage.objects.container``. Whoever
asks for the first gets its bytes whichever is there, so nobody else knows. Both are objects that never change: the new
one is put and read back before the old one is removed, and what stops in between leaves both.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

from storage.errors import ObjectDamaged, ObjectNotFound, ObjectRemoved, StorageUnavailable
from storage.objects import container
from storage.objects.base import (
    BlocksReader,
    ByteRange,
    Draft,
    ObjectInfo,
    ObjectReader,
    ObjectStore,
    Piece,
    Segment,
)
from storage.objects.container import Coded, Kind, Layout, Shared
from storage.objects.keys import check_key, check_prefix, check_start_after

Decode = Callable[[bytes, str], bytes]
"""What makes the bytes of a coded piece, by its form; raises ObjectDamaged, StorageUnavailable."""

MAX_PIECE_BYTES = 64 << 20
"""No coded piece is longer, neither before nor after: one is in memory for each read."""
_INSTANCE = re.compile(r"\.[0-9A-Z]{26}\.dcm$")
_CUT_SUFFIX = re.compile(r"(\.[0-9A-Z]{26}\.)[a-z0-9]+$")
_PLAIN, _CONDENSED = ".dcm", ".htj2k"
_FIRST_READ_BYTES = 64 << 10
_BLOCK_BYTES = 1 << 20
_KEPT_PARTS = 1 << 17
_KEPT_DECODED_BYTES = 64 << 20


def condensed_key(key: str) -> str:
    """The key that an instance is kept under instead."""
    return key.removesuffix(_PLAIN) + _CONDENSED


class CondensedObjectStore:
    """An ObjectStore over another one, some of whose instances are condensed.

    Parameters
    ----------
    store
        Has the objects; it is closed with this one.
    decode
        Called for each coded piece that a read touches, in the thread that reads. The last ones are kept, 64 MiB.
    closing
        Called at the end: for what decodes.
    """

    def __init__(self, store: ObjectStore, decode: Decode, closing: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._decode = decode
        self._closing = closing
        self._lock = threading.Lock()
        self._layouts: OrderedDict[str, Layout] = OrderedDict()
        self._parts = 0
        self._decoded: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._decoded_bytes = 0

    # What an ObjectStore does

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        """See ObjectStore. Nobody looks whether it is there condensed: keys of instances are never used again."""
        return self._store.put(key, body)

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:
        """See ObjectStore."""
        return self._store.draft(key, head, file, start)

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore."""
        layout = self._remembered(key)
        with ExitStack() as stack:
            if layout is None:
                try:
                    reader = stack.enter_context(self._store.open(key, byte_range))
                except ObjectNotFound:
                    layout = self._layout(key)
                else:
                    start = byte_range.start if byte_range else 0
                    yield BlocksReader(reader.length, self._going_on(key, start, reader))
                    return
            yield self._reader(key, layout, byte_range, self._decode)

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        if self._remembered(key) is None:
            try:
                return self._store.get(key, byte_range)
            except ObjectNotFound:
                if not _INSTANCE.search(key):
                    raise
        with self.open(key, byte_range) as reader:
            return b"".join(reader.blocks())

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        layout = self._remembered(key)
        if layout is None:
            try:
                return self._store.read_at(key, start, length)
            except ObjectNotFound:
                layout = self._layout(key)
        if start > layout.size:
            raise ObjectDamaged(f"{key} has {layout.size} bytes, asked for from {start}")
        wanted = ByteRange(start, min(start + length, layout.size))
        return Piece(b"".join(self._reader(key, layout, wanted, self._decode).blocks()), layout.size)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        try:
            return self._store.head(key)
        except ObjectNotFound:
            layout = self._layout(key)
        return ObjectInfo(key, layout.size, layout.sha256, self._store.head(condensed_key(key)).modified_s)

    def delete(self, key: str) -> None:
        """See ObjectStore. What shares its bytes goes first: it could not be read any more, not even to be removed."""
        check_key(key)
        if _INSTANCE.search(key):
            try:
                sharers = self._layout(key).sharers
            except (ObjectNotFound, ObjectDamaged, StorageUnavailable):
                # What cannot be read has to go all the same; what shares its bytes goes by its own row.
                sharers = ()
            for each in sharers:
                self._store.delete(condensed_key(each))
                self._forget(each)
            self._store.delete(condensed_key(key))
        self._store.delete(key)
        self._forget(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore. Condensed ones are looked into for their size."""
        check_prefix(prefix)
        check_start_after(start_after)
        # Both names of an instance follow each other; of one that is asked for by more than its version both are.
        common = _CUT_SUFFIX.sub(r"\1", prefix)
        after = _CUT_SUFFIX.sub(r"\1", start_after)
        return self._listed(self._store.list(common, after), prefix, start_after)

    def ping(self) -> None:
        """See ObjectStore."""
        self._store.ping()

    def close(self) -> None:
        """See ObjectStore."""
        self._store.close()
        with self._lock:
            self._layouts.clear()
            self._decoded.clear()
            self._parts = self._decoded_bytes = 0
        self._closing()

    # What makes it smaller

    def forms(self, key: str) -> tuple[bool, bool]:
        """Whether an instance is there as it was put, and whether condensed."""
        return self._is_there(key), self._is_there(condensed_key(key))

    def condense(
        self,
        key: str,
        pieces: Sequence[bytes | Coded | Shared],
        *,
        sha256: str,
        form: str = "",
        source: str = "",
        sharers: Sequence[str] = (),
    ) -> ObjectInfo:
        """Put an instance condensed, beside what is there; what it says of the object as it is kept.

        Parameters
        ----------
        source
            The instance of which ranges are shared; it is condensed.
        sharers
            Instances that may share ranges of this one, and go with it.
        """
        body = container.written(
            pieces, sha256=sha256, form=form, source=condensed_key(source) if source else "", sharers=sharers
        )
        return self._store.put(condensed_key(key), body)

    @contextmanager
    def rebuilt(self, key: str, decode: Decode) -> Iterator[ObjectReader]:
        """Read an instance from what is condensed, whatever else is there. Raises as ``open``.

        Nobody else is given what is not proven yet, so it is not remembered that it is there.
        """
        yield self._reader(key, self._read_layout(key), None, decode)

    def sharers(self, key: str) -> tuple[str, ...]:
        """Instances that may share ranges of a condensed one."""
        return self._layout(key).sharers

    def kept_bytes(self, key: str) -> int:
        """Bytes that an instance takes, in whichever form it is there. Raises ObjectNotFound."""
        try:
            return self._store.head(key).size
        except ObjectNotFound:
            return self._store.head(condensed_key(key)).size

    def coded(self, key: str) -> tuple[ByteRange, ...]:
        """Where the coded pieces of an instance lie in the object as it is kept, in their order."""
        return tuple(
            ByteRange(part.start, part.start + part.stored)
            for part in self._layout(key).parts
            if part.kind is Kind.CODED
        )

    def keep_condensed(self, key: str) -> None:
        """Remove an instance as it was put: it was read from what is condensed, and is the same."""
        self._store.delete(key)

    # Reading

    def _is_there(self, kept_key: str) -> bool:
        try:
            self._store.head(kept_key)
        except ObjectNotFound:
            return False
        return True

    def _going_on(self, key: str, start: int, reader: ObjectReader) -> Iterator[bytes]:
        """The blocks of a reader; the rest from what is condensed, when the object is replaced meanwhile."""
        done = 0
        try:
            for block in reader.blocks():
                done += len(block)
                yield block
        except ObjectNotFound:
            rest = ByteRange(start + done, start + reader.length)
            yield from self._reader(key, self._layout(key), rest, self._decode).blocks()

    def _reader(self, key: str, layout: Layout, byte_range: ByteRange | None, decode: Decode) -> ObjectReader:
        wanted = byte_range or ByteRange(0, layout.size)
        if wanted.end > layout.size:
            raise ObjectDamaged(f"{key} has {layout.size} bytes, asked for up to {wanted.end}")
        blocks = self._blocks(key, layout, wanted, decode)
        # Begun before anything is promised: it may be gone.
        first = next(blocks, None)
        return BlocksReader(wanted.length, blocks if first is None else chain((first,), blocks))

    def _blocks(self, key: str, layout: Layout, wanted: ByteRange, decode: Decode) -> Iterator[bytes]:
        try:
            for number, start, end in layout.within(wanted.start, wanted.end):
                if layout.parts[number].kind is Kind.SHARED:
                    begin = layout.parts[number].start
                    with self._store.open(layout.source, ByteRange(begin + start, begin + end)) as reader:
                        yield from reader.blocks()
                    continue
                data = self._part(key, layout, number, decode)
                for place in range(start, end, _BLOCK_BYTES):
                    yield data[place : min(place + _BLOCK_BYTES, end)]
        except ObjectNotFound as error:
            self._forget(key)
            if isinstance(error, ObjectRemoved):
                raise
            raise ObjectNotFound(key) from error

    def _part(self, key: str, layout: Layout, number: int, decode: Decode) -> bytes:
        """A piece that has no blocks. Raises ObjectDamaged when it is not what it was."""
        part = layout.parts[number]
        if part.kind is Kind.GIVEN:
            return part.given
        with self._lock:
            known = self._decoded.get((key, number))
            if known is not None:
                self._decoded.move_to_end((key, number))
                return known
        if max(part.length, part.stored) > MAX_PIECE_BYTES:
            raise ObjectDamaged(f"{key} has a piece of {part.length} bytes")
        stored = self._store.get(condensed_key(key), ByteRange(part.start, part.start + part.stored))
        if part.kind is Kind.DEFLATED:
            return _inflated(key, stored, part.length)
        data = decode(stored, layout.form)
        if len(data) != part.length or zlib.crc32(data) != part.crc:
            raise ObjectDamaged(f"{key}: what is kept of frame {number} gives other bytes than it was made of")
        with self._lock:
            # Another thread may have decoded the same meanwhile.
            self._decoded_bytes += len(data) - len(self._decoded.pop((key, number), b""))
            self._decoded[key, number] = data
            while self._decoded_bytes > _KEPT_DECODED_BYTES:
                _, dropped = self._decoded.popitem(last=False)
                self._decoded_bytes -= len(dropped)
        return data

    # Layouts

    def _remembered(self, key: str) -> Layout | None:
        with self._lock:
            found = self._layouts.get(key)
            if found is not None:
                self._layouts.move_to_end(key)
            return found

    def _layout(self, key: str) -> Layout:
        """What a condensed instance is made of. Raises ObjectNotFound, ObjectDamaged."""
        found = self._remembered(key)
        if found is not None:
            return found
        found = self._read_layout(key)
        with self._lock:
            if key not in self._layouts:
                self._layouts[key] = found
                self._parts += len(found.parts)
            while self._parts > _KEPT_PARTS and len(self._layouts) > 1:
                _, dropped = self._layouts.popitem(last=False)
                self._parts -= len(dropped.parts)
        return found

    def _read_layout(self, key: str) -> Layout:
        if not _INSTANCE.search(key):
            raise ObjectNotFound(key)
        behind = condensed_key(key)
        try:
            begun = self._store.read_at(behind, 0, _FIRST_READ_BYTES)
        except ObjectRemoved:
            raise
        except ObjectNotFound as error:
            raise ObjectNotFound(key) from error
        end = container.manifest_end(behind, begun)
        packed = begun.data[container.HEAD.size : end]
        if len(begun.data) < end:
            packed += self._store.get(behind, ByteRange(len(begun.data), end))
        return container.layout(behind, packed)

    def _forget(self, key: str) -> None:
        with self._lock:
            dropped = self._layouts.pop(key, None)
            if dropped is not None:
                self._parts -= len(dropped.parts)
            for each in [each for each in self._decoded if each[0] == key]:
                self._decoded_bytes -= len(self._decoded.pop(each))

    def _listed(self, found: Iterator[ObjectInfo], prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        last = ""
        for info in found:
            key = info.key
            if key.endswith(_CONDENSED) and _INSTANCE.search(plain := key.removesuffix(_CONDENSED) + _PLAIN):
                if plain == last:
                    continue  # there as it was put too
                key = plain
            last = key
            if not key.startswith(prefix) or key <= start_after:
                continue
            if key == info.key:
                yield info
                continue
            try:
                yield ObjectInfo(key, self._layout(key).size, None, info.modified_s)
            except ObjectNotFound:
                continue  # deleted meanwhile
            except ObjectDamaged:
                yield ObjectInfo(key, info.size, None, info.modified_s)  # told apart when it is read; a list goes on


def _inflated(key: str, stored: bytes, length: int) -> bytes:
    try:
        data = zlib.decompressobj().decompress(stored, length + 1)
    except zlib.error as error:
        raise ObjectDamaged(f"{key}: what is kept deflated is damaged") from error
    if len(data) != length:
        raise ObjectDamaged(f"{key}: what is kept deflated gives other bytes than it was made of")
    return data
