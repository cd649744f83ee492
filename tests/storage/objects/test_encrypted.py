"""Objects that are encrypted before an engine sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import ObjectDamaged, ObjectNotFound, StorageUnavailable
from storage.objects.base import ByteRange, FileSegment, ObjectReader, ObjectStore
from storage.objects.encrypted import EncryptedObjectStore, MasterKeys
from storage.objects.local import LocalObjectStore
from storage.objects.memory import MemoryObjectStore
from storage.objects.s3 import S3ObjectStore, S3Settings
from tests.storage.objects.conformance import KEY, ObjectStoreContract

OLD, NEW = b"o" * 32, b"n" * 32
KEYS = MasterKeys("2026-11", {"2026-11": NEW, "2025": OLD})
CHUNK = 65_536
HEADER = 132
SEALED = CHUNK + 16
DATA = bytes(range(256)) * 1100  # four chunks and a part of a fifth


def opened_by_hand(kept: bytes, key: str, master: bytes) -> bytes:
    """The plaintext, by the format as it is written down."""
    assert kept[:8] == b"\x8eGWENC1\n"
    secret = AESGCM(master).decrypt(kept[40:52], kept[52:132], kept[:40] + key.encode())
    cipher, digest = AESGCM(secret[:32]), secret[32:]
    chunks = [kept[at : at + SEALED] for at in range(HEADER, len(kept), SEALED)]
    nonces = [number.to_bytes(11, "big") + bytes([number == len(chunks) - 1]) for number in range(len(chunks))]
    data = b"".join(cipher.decrypt(nonce, chunk, None) for nonce, chunk in zip(nonces, chunks, strict=True))
    assert hashlib.sha256(data).digest() == digest
    return data


class Contract(ObjectStoreContract):
    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        assert isinstance(store, EncryptedObjectStore)
        try:
            kept = store._store.get(key)
        except ObjectNotFound:
            return None
        return opened_by_hand(kept, key, NEW)


class TestInMemory(Contract):
    @pytest.fixture(params=[True, False], ids=["mixed", "encrypted alone"])
    def store(self, request: pytest.FixtureRequest) -> ObjectStore:
        return EncryptedObjectStore(MemoryObjectStore(), KEYS, mixed=request.param)


class TestInADirectory(Contract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ObjectStore]:
        store = EncryptedObjectStore(LocalObjectStore(tmp_path / "root", fsync=False), KEYS, mixed=True)
        yield store
        store.close()


class Counting:
    """A store that says what was read of it, and lets what is kept be altered."""

    def __init__(self, store: MemoryObjectStore) -> None:
        self.store = store
        self.reads: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def read_at(self, key: str, start: int, length: int) -> Any:
        self.reads.append((start, start + length))
        return self.store.read_at(key, start, length)

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        self.reads.append((byte_range.start, byte_range.end) if byte_range else (0, -1))
        with self.store.open(key, byte_range) as reader:
            yield reader

    def alter(self, key: str, change: Callable[[bytes], bytes]) -> None:
        data = change(self.store.get(key))
        self.store.delete(key)
        self.store.put(key, [data])


@pytest.fixture
def below() -> Counting:
    return Counting(MemoryObjectStore())


def encrypted(below: Counting, keys: MasterKeys = KEYS, *, mixed: bool = False) -> EncryptedObjectStore:
    return EncryptedObjectStore(below, keys, mixed=mixed)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(DATA)])
def test_every_range_comes_back_and_sizes_and_digests_are_the_plaintexts(below: Counting, size: int) -> None:
    data = DATA[:size]
    info = encrypted(below).put(KEY, [data])
    assert (info.size, info.sha256) == (size, hashlib.sha256(data).hexdigest())
    store = encrypted(below)
    found = store.head(KEY)
    assert (found.size, found.sha256) == (size, info.sha256)
    assert [each.size for each in store.list("")] == [size]
    edges = [at for at in (0, 1, size // 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, size) if at <= size]
    for start in edges:
        for end in (each for each in edges if each >= start):
            assert encrypted(below).get(KEY, ByteRange(start, end)) == data[start:end]
            assert store.get(KEY, ByteRange(start, end)) == data[start:end]


def test_nothing_of_the_plaintext_is_kept_and_no_two_objects_are_alike(below: Counting) -> None:
    store = encrypted(below)
    for key in ("a", "b"):
        store.put(key, [b"DOE^JANE" * 1000])
    kept = [below.store.get(key) for key in ("a", "b")]
    assert not any(b"DOE" in each for each in kept)
    assert kept[0][HEADER:] != kept[1][HEADER:]


def test_a_range_reads_the_chunks_that_it_touches_and_no_others(below: Counting) -> None:
    encrypted(below).put(KEY, [DATA])
    store = encrypted(below)
    store.get(KEY, ByteRange(4 * CHUNK + 10, 4 * CHUNK + 20))
    assert below.reads == [(0, HEADER), (HEADER + 4 * SEALED, len(below.store.get(KEY)))]
    below.reads.clear()
    store.get(KEY, ByteRange(CHUNK + 1, 2 * CHUNK + 1))
    assert below.reads == [(HEADER + SEALED, HEADER + 3 * SEALED)]
    # What lies at the beginning comes with the header.
    below.reads.clear()
    encrypted(below).get(KEY, ByteRange(5, CHUNK + 5))
    assert len(below.reads) == 1


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


ALTERATIONS: dict[str, Callable[[bytes], bytes]] = {
    **{f"a bit of byte {at}": flip(at) for at in (40, 51, 52, 131, 132, 5000, HEADER + SEALED, -1)},
    "cut at the end of a chunk": lambda data: data[: HEADER + 3 * SEALED],
    "cut within a chunk": lambda data: data[:-1],
    "cut to the header": lambda data: data[:HEADER],
    "cut within the header": lambda data: data[: HEADER - 5],
    "a byte more": lambda data: data + b"x",
    "two chunks in each other's place": lambda data: (
        (data[:HEADER] + data[HEADER + SEALED : HEADER + 2 * SEALED] + data[HEADER : HEADER + SEALED])
        + data[HEADER + 2 * SEALED :]
    ),
    "a chunk twice": lambda data: (
        data[: HEADER + SEALED] + data[HEADER : HEADER + SEALED] + data[HEADER + 2 * SEALED :]
    ),
    "a chunk left out": lambda data: data[: HEADER + SEALED] + data[HEADER + 2 * SEALED :],
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_what_was_altered_is_damage(below: Counting, name: str) -> None:
    encrypted(below).put(KEY, [DATA])
    below.alter(KEY, ALTERATIONS[name])
    for mixed in (True, False):
        store = encrypted(below, mixed=mixed)
        with pytest.raises(ObjectDamaged, match=KEY):
            store.get(KEY)
        with pytest.raises(ObjectDamaged), store.open(KEY, ByteRange(0, len(DATA))) as reader:
            list(reader.blocks())


def test_no_object_can_stand_in_the_place_of_another(below: Counting) -> None:
    store = encrypted(below)
    store.put("one", [b"one"])
    store.put("two", [b"two"])
    other = below.store.get("two")
    below.alter("one", lambda _: other)
    with pytest.raises(ObjectDamaged, match="one was altered, or is not what was stored there"):
        encrypted(below).get("one")


def test_new_objects_use_the_active_key_and_old_ones_stay_readable(below: Counting) -> None:
    encrypted(below, MasterKeys("2025", {"2025": OLD})).put("old", [b"old"])
    store = encrypted(below)
    store.put("new", [b"new"])
    assert (store.get("old"), store.get("new")) == (b"old", b"new")
    assert opened_by_hand(below.store.get("new"), "new", NEW) == b"new"
    assert opened_by_hand(below.store.get("old"), "old", OLD) == b"old"


def test_a_missing_key_is_named_and_a_wrong_one_is_damage(below: Counting) -> None:
    encrypted(below, MasterKeys("2025", {"2025": OLD})).put(KEY, [DATA])
    with pytest.raises(StorageUnavailable, match="master key '2025'"):
        encrypted(below, MasterKeys("2026-11", {"2026-11": NEW})).get(KEY)
    with pytest.raises(ObjectDamaged, match="master key '2025' is another one"):
        encrypted(below, MasterKeys("2025", {"2025": NEW})).get(KEY)
    assert "nnnn" not in repr(KEYS)


def test_a_mixed_archive_reads_what_was_stored_before(below: Counting) -> None:
    below.store.put("before", [DATA])
    mixed = encrypted(below, mixed=True)
    mixed.put("after", [DATA])
    for key in ("before", "after"):
        assert mixed.get(key) == DATA
        assert mixed.get(key, ByteRange(70_000, 70_010)) == DATA[70_000:70_010]
        assert mixed.read_at(key, len(DATA) - 3, 10).data == DATA[-3:]
        assert mixed.head(key).size == len(DATA)
    assert [(info.key, info.size) for info in mixed.list("")] == [("after", len(DATA)), ("before", len(DATA))]
    # Where everything is encrypted, nobody can put something unencrypted in.
    with pytest.raises(ObjectDamaged, match="not encrypted"):
        encrypted(below).get("before")


def test_without_an_active_key_new_objects_are_not_encrypted_and_old_ones_stay_readable(below: Counting) -> None:
    encrypted(below).put("before", [b"before"])
    off = encrypted(below, MasterKeys(None, KEYS.keys), mixed=True)
    off.put("after", [b"after"])
    assert below.store.get("after") == b"after"
    assert (off.get("before"), off.get("after")) == (b"before", b"after")


def test_a_long_list_of_a_mixed_archive_is_in_order(below: Counting) -> None:
    mixed = encrypted(below, mixed=True)
    keys = [f"a/{number:04}" for number in range(150)]
    for number, key in enumerate(keys):
        (mixed if number % 2 else below.store).put(key, [b"x" * number])
    assert [(info.key, info.size) for info in mixed.list("")] == [(key, number) for number, key in enumerate(keys)]
    listing = mixed.list("", keys[0])
    assert next(listing).key == keys[1]
    listing.close()  # type: ignore[attr-defined]


def test_a_file_that_changes_while_it_is_sent_is_not_kept(below: Counting, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.write_bytes(DATA)

    class Changing(MemoryObjectStore):
        def put(self, key: str, body: Any) -> Any:
            spool.write_bytes(DATA[::-1])
            return super().put(key, body)

    store = EncryptedObjectStore(Changing(), KEYS, mixed=False)
    with pytest.raises(ObjectDamaged, match="changed"):
        store.put(KEY, [FileSegment(spool, 0, len(DATA))])
    with pytest.raises(ObjectNotFound):
        store.get(KEY)


@pytest.mark.parametrize("keys", [{"a": b"short"}, {"": NEW}, {"a" * 33: NEW}, {"b": NEW}])
def test_keys_that_are_none_are_refused(keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="master key"):
        MasterKeys("a", keys)


def test_large_objects_go_up_to_s3_in_parts_and_come_back_in_ranges(seaweedfs_bucket: S3Settings) -> None:
    data = bytes(range(253)) * 80_000
    store = EncryptedObjectStore(S3ObjectStore(seaweedfs_bucket), KEYS, mixed=True)
    store.put(KEY, [data])
    assert store.get(KEY) == data
    assert store.get(KEY, ByteRange(9_000_000, 9_100_000)) == data[9_000_000:9_100_000]
    assert opened_by_hand(store._store.get(KEY), KEY, NEW) == data
    store.close()
