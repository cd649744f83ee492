"""An object store whose reads are kept in a cache on this host."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from storage.errors import ObjectDamaged
from storage.objects.base import BlocksReader, ByteRange, Draft, ObjectInfo, ObjectReader, ObjectStore, Piece, Segment
from storage.objects.keeper import Keeper
from storage.objects.keys import check_key
from storage.objects.read_cache import BLOCK_BYTES, ReadCache

_MAX_FETCHED_BLOCKS = 4
"""So many are fetched in one step and held in memory; what is longer is streamed."""
_TOO_LARGE_SHARE = 8


class CachedObjectStore:
    """An ObjectStore whose reads are kept in a ReadCache.

    Reads of more than an eighth of the cache pass it by. Objects that other hosts delete keep their blocks here until
    those are evicted; who asks the index first never sees them.

    Parameters
    ----------
    reading
        False reads past the cache, and still drops from it what is deleted: for who reads everything, or wants to know
        what the store itself has.
    """

    def __init__(self, store: ObjectStore, cache: ReadCache, *, reading: bool = True) -> None:
        self._store = store
        self._cache = cache
        self._kept = Keeper(cache)
        self._reading = reading
        self._flights = _Flights()

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        """See ObjectStore."""
        return self._store.put(key, body)

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:
        """See ObjectStore."""
        return self._store.draft(key, head, file, start)

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore."""
        check_key(key)
        if not self._reading:
            with self._store.open(key, byte_range) as reader:
                yield reader
            return
        start = byte_range.start if byte_range else 0
        end = byte_range.end if byte_range else BLOCK_BYTES * _MAX_FETCHED_BLOCKS
        number = start // BLOCK_BYTES
        pieces = self._pieces(key, number, max(number + 1, -(-end // BLOCK_BYTES)))
        size = pieces[0].object_size
        wanted = byte_range or ByteRange(0, size)
        if wanted.end > size:
            raise ObjectDamaged(f"{key} has {size} bytes, asked for up to {wanted.end}")
        yield BlocksReader(wanted.length, self._blocks(key, wanted, size, pieces))

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        with self.open(key, byte_range) as reader:
            return b"".join(reader.blocks())

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        check_key(key)
        if not self._reading:
            return self._store.read_at(key, start, length)
        number = start // BLOCK_BYTES
        pieces = self._pieces(key, number, max(number + 1, -(-(start + length) // BLOCK_BYTES)))
        size = pieces[0].object_size
        if start > size:
            raise ObjectDamaged(f"{key} has {size} bytes, asked for from {start}")
        wanted = ByteRange(start, min(start + length, size))
        return Piece(b"".join(self._blocks(key, wanted, size, pieces)), size)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        return self._store.head(key)

    def delete(self, key: str) -> None:
        """See ObjectStore. The blocks go first: what cannot be dropped is not deleted either."""
        check_key(key)
        self._cache.drop(key)
        self._store.delete(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        return self._store.list(prefix, start_after)

    def ping(self) -> None:
        """See ObjectStore."""
        self._store.ping()

    def close(self) -> None:
        """See ObjectStore. The cache stays for the next process."""
        self._kept.close()
        self._store.close()

    def _pieces(self, key: str, number: int, stop: int) -> Sequence[Piece]:
        """The block, and those after it up to ``stop`` that are to be had in the same step; at least one."""
        kept = self._kept.read(key, number)
        if kept is not None:
            return [kept]
        with self._flights.turn(f"{key} {number}"):
            # Somebody may have fetched it while this one waited, or just before.
            kept = self._kept.read(key, number)
            if kept is not None:
                return [kept]
            count = 1
            while count < _MAX_FETCHED_BLOCKS and number + count < stop and not self._kept.has(key, number + count):
                count += 1
            fetched = self._store.read_at(key, number * BLOCK_BYTES, count * BLOCK_BYTES)
            size = fetched.object_size
            blocks = [
                Piece(fetched.data[place : place + BLOCK_BYTES], size)
                for place in range(0, max(len(fetched.data), 1), BLOCK_BYTES)
            ]
            for place, piece in enumerate(blocks, number):
                if piece.data:
                    self._kept.keep(key, place, piece)
            return blocks

    def _blocks(self, key: str, wanted: ByteRange, size: int, pieces: Sequence[Piece]) -> Iterator[bytes]:
        number = wanted.start // BLOCK_BYTES
        stop = -(-wanted.end // BLOCK_BYTES)
        while number < stop:
            if not pieces:
                missing = 0
                while number + missing < stop and not self._kept.has(key, number + missing):
                    missing += 1
                if missing > _MAX_FETCHED_BLOCKS:
                    span = ByteRange(number * BLOCK_BYTES, min((number + missing) * BLOCK_BYTES, size))
                    keeping = wanted.length <= self._cache.max_bytes // _TOO_LARGE_SHARE
                    for piece in self._streamed(key, span, size):
                        if keeping:
                            self._kept.keep(key, number, piece)
                        yield _part(piece, number, wanted)
                        number += 1
                    continue
                pieces = self._pieces(key, number, stop)
            for piece in pieces[: stop - number]:
                if part := _part(piece, number, wanted):
                    yield part
                number += 1
            pieces = ()

    def _streamed(self, key: str, span: ByteRange, size: int) -> Iterator[Piece]:
        """Whole blocks of a span that begins with one."""
        waiting = bytearray()
        with self._store.open(key, span) as reader:
            for block in reader.blocks():
                waiting += block
                while len(waiting) >= BLOCK_BYTES:
                    yield Piece(bytes(waiting[:BLOCK_BYTES]), size)
                    del waiting[:BLOCK_BYTES]
        if waiting:
            yield Piece(bytes(waiting), size)


class _Flights:
    """Threads that want the same block take turns: a viewer asks for many frames of one object at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait for one's turn."""
        with self._lock:
            turn, users = self._turns.get(name, (threading.Lock(), 0))
            self._turns[name] = (turn, users + 1)
        try:
            with turn:
                yield
        finally:
            with self._lock:
                _, users_now = self._turns[name]
                if users_now == 1:
                    del self._turns[name]
                else:
                    self._turns[name] = (turn, users_now - 1)


def _part(piece: Piece, number: int, wanted: ByteRange) -> bytes:
    begin = number * BLOCK_BYTES
    return piece.data[max(0, wanted.start - begin) : max(0, wanted.end - begin)]
