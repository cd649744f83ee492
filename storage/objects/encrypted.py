"""Objects encrypted before any engine sees them, whatever engine that is.

An object is a header and chunks::

    magic 8 | id of the master key 32, padded with zeros | nonce 12 | data key and SHA-256, wrapped 64 + 16
    chunk 65,536 + 16 | chunk 65,536 + 16 | ... | last chunk 0 to 65,536 + 16

The data key is the object's own. The master key wraps it by AES-256-GCM together with the SHA-256 of the plaintext,
bound to the object's key, so that no object can stand in another's place. Each chunk is AES-256-GCM under the data key
with its number and whether it is the last one as the nonce (as in STREAM, Hoang et al. 2015), so that none can be left
out, moved or cut off, and a range needs the chunks that it touches and no others.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import ObjectDamaged, ObjectNotFound, StorageUnavailable
from storage.objects.base import (
    BlocksReader,
    ByteRange,
    Draft,
    MadeSegment,
    ObjectInfo,
    ObjectReader,
    ObjectStore,
    Piece,
    Segment,
    body_blocks,
    body_length,
)

KEY_BYTES = 32
MAX_KEY_ID_CHARACTERS = 32
MAGIC = b"\x8eGWENC1\n"
CHUNK_BYTES = 1 << 16
HEADER_BYTES = len(MAGIC) + MAX_KEY_ID_CHARACTERS + 12 + 64 + 16
_TAG_BYTES = 16
_SEALED_BYTES = CHUNK_BYTES + _TAG_BYTES
_FIRST_CHUNKS = 4
"""A read that begins in these takes them along with the header, in one step."""
_REMEMBERED = 4096
_LOOKED_AT_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """Keys of 32 bytes by id; new objects are encrypted under the active one, or not at all when that is None."""

    active: str | None
    keys: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.active is not None and self.active not in self.keys:
            raise ValueError(f"there is no master key {self.active!r}")
        for name, key in self.keys.items():
            if len(key) != KEY_BYTES or not 0 < len(name.encode()) <= MAX_KEY_ID_CHARACTERS or "\0" in name:
                raise ValueError(f"not a master key of {KEY_BYTES} bytes: {name[:MAX_KEY_ID_CHARACTERS]!r}")


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the header of an object said; ``cipher`` None is an object that is not encrypted."""

    size: int
    digest: str | None = None
    cipher: AESGCM | None = field(default=None, repr=False)


class EncryptedObjectStore:
    """An ObjectStore that encrypts what another one keeps.

    A master key that is not there is StorageUnavailable and names the key's id. What was altered, cut, moved to
    another key, or encrypted under another key of the same id is ObjectDamaged, before any byte of it is given out.

    Parameters
    ----------
    mixed
        Objects without encryption are read as they are: those from before it was switched on. False makes them
        ObjectDamaged, and lets ``list`` tell sizes without looking into each object.
    """

    def __init__(self, store: ObjectStore, keys: MasterKeys, *, mixed: bool) -> None:
        self._store = store
        self._keys = keys
        self._mixed = mixed
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, _Opened] = OrderedDict()

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        """See ObjectStore. The body is read twice: its digest goes into the header."""
        if self._keys.active is None:
            return self._store.put(key, body)
        size = body_length(body)
        found = hashlib.sha256()
        for block in body_blocks(body, 1 << 20):
            found.update(block)
        data_key = secrets.token_bytes(KEY_BYTES)
        header = self._header(self._keys.active, key, data_key, found.digest())
        cipher = AESGCM(data_key)
        chunks = _chunk_count(size)
        sealed = MadeSegment(size + chunks * _TAG_BYTES, lambda: _sealed(cipher, body, chunks, found.digest()))
        info = self._store.put(key, [header, sealed])
        return replace(info, size=size, sha256=found.hexdigest())

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:  # noqa: ARG002
        """See ObjectStore. The header, which goes first, holds the digest of all that follows."""
        return None

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore."""
        opened, first = self._open(key, byte_range.start if byte_range else 0)
        if opened.cipher is None:
            with self._store.open(key, byte_range) as reader:
                yield reader
            return
        wanted = byte_range or ByteRange(0, opened.size)
        _check_end(key, wanted, opened.size)
        if not wanted.length:
            yield BlocksReader(0, iter(()))
            return
        chunks = range(wanted.start // CHUNK_BYTES, (wanted.end - 1) // CHUNK_BYTES + 1)
        span = _sealed_span(chunks, opened.size)
        if span.end <= len(first):
            yield BlocksReader(
                wanted.length, _plain(key, opened, chunks, iter((first[span.start : span.end],)), wanted)
            )
            return
        head = first[span.start :]
        with self._store.open(key, ByteRange(span.start + len(head), span.end)) as reader:
            blocks = chain((head,), reader.blocks())
            yield BlocksReader(wanted.length, _plain(key, opened, chunks, blocks, wanted))

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        with self.open(key, byte_range) as reader:
            return b"".join(reader.blocks())

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        opened, _ = self._open(key, start)
        if opened.cipher is None:
            return self._store.read_at(key, start, length)
        if start > opened.size:
            raise ObjectDamaged(f"{key} has {opened.size} bytes, asked for from {start}")
        return Piece(self.get(key, ByteRange(start, min(start + length, opened.size))), opened.size)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        info = self._store.head(key)
        opened, _ = self._open(key, CHUNK_BYTES * _FIRST_CHUNKS)
        return info if opened.cipher is None else replace(info, size=opened.size, sha256=opened.digest)

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        self._store.delete(key)
        with self._lock:
            self._remembered.pop(key, None)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore. In a mixed archive the beginning of each object is read, several at a time."""
        found = self._store.list(prefix, start_after)
        return self._looked_at(found) if self._mixed else (_as_plain(info) for info in found)

    def ping(self) -> None:
        """See ObjectStore."""
        self._store.ping()

    def close(self) -> None:
        """See ObjectStore."""
        self._store.close()
        with self._lock:
            self._remembered.clear()

    # Headers

    def _header(self, active: str, key: str, data_key: bytes, digest: bytes) -> bytes:
        named = MAGIC + active.encode().ljust(MAX_KEY_ID_CHARACTERS, b"\0")
        nonce = secrets.token_bytes(12)
        return named + nonce + AESGCM(self._keys.keys[active]).encrypt(nonce, data_key + digest, named + key.encode())

    def _open(self, key: str, start: int) -> tuple[_Opened, bytes]:
        """What the header says, and the object's beginning as it is kept when it was read on the way."""
        with self._lock:
            known = self._remembered.get(key)
            if known is not None:
                self._remembered.move_to_end(key)
        if known is not None:
            return known, b""
        along = _FIRST_CHUNKS * _SEALED_BYTES if start < _FIRST_CHUNKS * CHUNK_BYTES else 0
        piece = self._store.read_at(key, 0, HEADER_BYTES + along)
        opened = self._parsed(key, piece)
        with self._lock:
            self._remembered[key] = opened
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return opened, piece.data

    def _parsed(self, key: str, piece: Piece) -> _Opened:
        if not piece.data.startswith(MAGIC):
            if self._mixed:
                return _Opened(piece.object_size)
            raise ObjectDamaged(
                f"{key} is not encrypted; set encryption.mixed if it is from before encryption was switched on"
            )
        size = _plain_size(piece.object_size)
        if size is None:
            raise ObjectDamaged(f"{key} was cut: no encrypted object has {piece.object_size} bytes")
        named = piece.data[: len(MAGIC) + MAX_KEY_ID_CHARACTERS]
        name = named[len(MAGIC) :].rstrip(b"\0").decode("utf-8", "replace")
        master = self._keys.keys.get(name)
        if master is None:
            raise StorageUnavailable(
                f"{key} is encrypted under the master key {name!r}, which is not there: bring it back"
            )
        nonce, wrapped = piece.data[len(named) : len(named) + 12], piece.data[len(named) + 12 : HEADER_BYTES]
        try:
            secret = AESGCM(master).decrypt(nonce, wrapped, named + key.encode())
        except InvalidTag as error:
            raise ObjectDamaged(
                f"{key} was altered, or is not what was stored there, or the master key {name!r} is another one"
            ) from error
        return _Opened(size, secret[KEY_BYTES:].hex(), AESGCM(secret[:KEY_BYTES]))

    # Listing

    def _looked_at(self, found: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        def look(info: ObjectInfo) -> ObjectInfo | None:
            try:
                start = self._store.read_at(info.key, 0, len(MAGIC)).data
            except ObjectNotFound:
                return None  # deleted meanwhile
            return _as_plain(info) if start == MAGIC else info

        with ThreadPoolExecutor(_LOOKED_AT_TOGETHER) as pool:
            waiting: list[Future[ObjectInfo | None]] = []
            try:
                for info in found:
                    waiting.append(pool.submit(look, info))
                    if len(waiting) > 4 * _LOOKED_AT_TOGETHER and (done := waiting.pop(0).result()) is not None:
                        yield done
                for each in waiting:
                    if (done := each.result()) is not None:
                        yield done
            finally:
                pool.shutdown(cancel_futures=True)


def _chunk_count(size: int) -> int:
    return max(1, -(-size // CHUNK_BYTES))


def _plain_size(kept: int) -> int | None:
    """Bytes of the plaintext of an object of which so many are kept; None when no object has that length."""
    sealed = kept - HEADER_BYTES
    chunks = max(1, -(-sealed // _SEALED_BYTES))
    size = sealed - chunks * _TAG_BYTES
    return size if size >= 0 and _chunk_count(size) == chunks else None


def _as_plain(info: ObjectInfo) -> ObjectInfo:
    size = _plain_size(info.size)
    # One that was cut is told apart when it is read; a list goes on.
    return info if size is None else replace(info, size=size, sha256=None)


def _sealed_span(chunks: range, size: int) -> ByteRange:
    """Where chunks lie in the object as it is kept."""
    end = HEADER_BYTES + size + _chunk_count(size) * _TAG_BYTES
    return ByteRange(HEADER_BYTES + chunks.start * _SEALED_BYTES, min(HEADER_BYTES + chunks.stop * _SEALED_BYTES, end))


def _nonce(number: int, last: int) -> bytes:
    return number.to_bytes(11, "big") + bytes((number == last,))


def _sealed(cipher: AESGCM, body: Sequence[Segment], chunks: int, digest: bytes) -> Iterator[bytes]:
    """The chunks of a body. Raises ObjectDamaged when it is no longer what its digest was made of."""
    found = hashlib.sha256()
    number = 0
    waiting = bytearray()
    for block in body_blocks(body, CHUNK_BYTES):
        found.update(block)
        waiting += block
        # The last chunk waits for the end, so that an empty one is made when there is no byte at all.
        while len(waiting) >= CHUNK_BYTES and number < chunks - 1:
            yield cipher.encrypt(_nonce(number, chunks - 1), bytes(waiting[:CHUNK_BYTES]), None)
            del waiting[:CHUNK_BYTES]
            number += 1
    if found.digest() != digest:
        raise ObjectDamaged("a file segment changed while it was sent")
    yield cipher.encrypt(_nonce(number, chunks - 1), bytes(waiting), None)


def _plain(key: str, opened: _Opened, chunks: range, sealed: Iterator[bytes], wanted: ByteRange) -> Iterator[bytes]:
    """The wanted bytes, out of the chunks that they lie in."""
    assert opened.cipher is not None
    last = _chunk_count(opened.size) - 1
    for number, chunk in zip(chunks, _cut(sealed), strict=False):
        try:
            data = opened.cipher.decrypt(_nonce(number, last), chunk, None)
        except InvalidTag as error:
            raise ObjectDamaged(f"{key} was altered: its chunk {number} is not what was stored") from error
        begin = number * CHUNK_BYTES
        yield data[max(0, wanted.start - begin) : wanted.end - begin]


def _cut(blocks: Iterator[bytes]) -> Iterator[bytes]:
    waiting = bytearray()
    for block in blocks:
        waiting += block
        start = 0
        while len(waiting) - start >= _SEALED_BYTES:
            yield bytes(waiting[start : start + _SEALED_BYTES])
            start += _SEALED_BYTES
        del waiting[:start]
    if waiting:
        yield bytes(waiting)


def _check_end(key: str, wanted: ByteRange, size: int) -> None:
    if wanted.end > size:
        raise ObjectDamaged(f"{key} has {size} bytes, asked for up to {wanted.end}")
