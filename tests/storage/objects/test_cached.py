"""Reads that are kept in files of this host, for all of its processes."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.dicom import identifiers as ids
from storage.errors import ObjectDamaged, ObjectNotFound, StorageUnavailable
from storage.objects.base import ByteRange, ObjectReader, ObjectStore, Piece
from storage.objects.cached import CachedObjectStore
from storage.objects.encrypted import EncryptedObjectStore, MasterKeys
from storage.objects.memory import MemoryObjectStore
from storage.objects.read_cache import BLOCK_BYTES, MIN_BYTES, ReadCache
from storage.objects.s3 import S3ObjectStore, S3Settings
from tests.programs import running
from tests.storage.objects.conformance import KEY, ObjectStoreContract

CLOCK = ids.VersionClock()
LONG = bytes(range(251)) * (11 * BLOCK_BYTES // 251)


class Counting:
    """A store that counts what is asked of it."""

    def __init__(self) -> None:
        self.store = MemoryObjectStore()
        self.reads: list[tuple[str, int, int]] = []
        self.before_answer: Any = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def read_at(self, key: str, start: int, length: int) -> Any:
        self.reads.append((key, start, start + length))
        found = self.store.read_at(key, start, length)
        self.before_answer()
        return found

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        self.reads.append((key, byte_range.start, byte_range.end) if byte_range else (key, 0, -1))
        with self.store.open(key, byte_range) as reader:
            yield reader


@pytest.fixture
def below() -> Counting:
    return Counting()


@pytest.fixture
def cache(tmp_path: Path) -> ReadCache:
    return ReadCache(tmp_path / "cache", 1 << 30)


@pytest.fixture
def store(below: Counting, cache: ReadCache) -> CachedObjectStore:
    return CachedObjectStore(below, cache)


def settled(*stores: CachedObjectStore) -> None:
    """Wait until what was read is in the files of the cache."""
    for store in stores:
        store._kept.settle()


def blocks(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("??/*-*"))


def on_disk(directory: Path) -> int:
    return sum(path.stat().st_size for path in (*blocks(directory), *(directory / "tmp").iterdir()))


class TestCachedObjectStore(ObjectStoreContract):
    """Everything is read twice by the contract, first from the store, then from the cache."""

    @pytest.fixture
    def store(self, cache: ReadCache) -> ObjectStore:
        return CachedObjectStore(MemoryObjectStore(), cache)

    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        assert isinstance(store, CachedObjectStore)
        try:
            return store._store.get(key)
        except ObjectNotFound:
            return None


class TestEncryptedAboveACache(ObjectStoreContract):
    @pytest.fixture
    def store(self, cache: ReadCache) -> ObjectStore:
        keys = MasterKeys("1", {"1": b"1" * 32})
        return EncryptedObjectStore(CachedObjectStore(MemoryObjectStore(), cache), keys, mixed=True)

    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        assert isinstance(store, EncryptedObjectStore)
        fresh = EncryptedObjectStore(store._store._store, store._keys, mixed=True)  # type: ignore[attr-defined]
        try:
            return fresh.get(key)
        except ObjectNotFound:
            return None


def test_what_was_read_is_not_asked_for_again(store: CachedObjectStore, below: Counting) -> None:
    store.put(KEY, [b"0123456789"])
    for _ in range(2):
        assert store.get(KEY) == b"0123456789"
        assert store.get(KEY, ByteRange(3, 5)) == b"34"
        assert store.read_at(KEY, 8, 100).data == b"89"
        with store.open(KEY, ByteRange(1, 10)) as reader:
            assert b"".join(reader.blocks()) == b"123456789"
    assert len(below.reads) == 1


def test_frames_of_a_large_object_bring_their_neighbours_along(store: CachedObjectStore, below: Counting) -> None:
    store.put(KEY, [LONG])
    size = 300_000
    for start in range(2 * BLOCK_BYTES, 5 * BLOCK_BYTES, size):
        assert store.get(KEY, ByteRange(start, start + size)) == LONG[start : start + size]
    # Aligned blocks, each once: 11 frames by 4 reads or fewer.
    assert len(below.reads) <= 4
    assert all(start % BLOCK_BYTES == 0 for _, start, _ in below.reads)
    assert below.reads[0][1] == 2 * BLOCK_BYTES


def test_a_long_read_is_streamed_and_fills_in_what_is_not_there(store: CachedObjectStore, below: Counting) -> None:
    store.put(KEY, [LONG])
    store.get(KEY, ByteRange(7 * BLOCK_BYTES + 5, 7 * BLOCK_BYTES + 10))
    assert store.get(KEY) == LONG
    below.reads.clear()
    assert store.get(KEY) == LONG
    assert store.get(KEY, ByteRange(10, len(LONG) - 10)) == LONG[10:-10]
    assert below.reads == []


def test_a_read_of_much_of_the_cache_passes_it_by(below: Counting, tmp_path: Path) -> None:
    store = CachedObjectStore(below, ReadCache(tmp_path / "cache", MIN_BYTES))
    store.put(KEY, [LONG])
    assert store.get(KEY) == LONG
    settled(store)
    assert len(blocks(tmp_path / "cache")) == 4


def test_many_threads_that_want_one_block_fetch_it_once(store: CachedObjectStore, below: Counting) -> None:
    store.put(KEY, [LONG])
    all_there = threading.Barrier(8)

    def read(number: int) -> bytes:
        all_there.wait(timeout=30)
        return store.get(KEY, ByteRange(number, number + 1000))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == [LONG[number : number + 1000] for number in range(8)]
    assert len(below.reads) == 1


def test_what_another_has_fetched_just_before_ones_turn_is_not_fetched_again(
    store: CachedObjectStore, cache: ReadCache, below: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(KEY, [LONG])
    read, others = cache.read, [lambda: store.get(KEY, ByteRange(0, 1000))]

    def looked(key: str, number: int) -> Piece | None:
        found = read(key, number)
        if others:
            others.pop()()
        return found

    monkeypatch.setattr(cache, "read", looked)
    assert store.get(KEY, ByteRange(1, 1001)) == LONG[1:1001]
    assert len(below.reads) == 1


def test_the_cache_keeps_its_bound_and_what_was_used_last(below: Counting, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    store = CachedObjectStore(below, ReadCache(directory, MIN_BYTES))
    for number in range(40):
        store.put(f"object/{number}", [bytes([number]) * (BLOCK_BYTES - 100)])
    for number in range(40):
        store.get(f"object/{number}")
        settled(store)
        # Each is used a minute after the one before; the first again with each.
        for path in blocks(directory):
            status = path.stat()
            os.utime(path, (status.st_atime - 60, status.st_mtime))
        below.reads.clear()
        store.get("object/0")
        settled(store)
        assert below.reads == []
        assert on_disk(directory) <= MIN_BYTES
    for number in range(39, 27, -1):
        store.get(f"object/{number}")
    assert below.reads == []
    store.get("object/1")
    assert below.reads


def test_two_caches_of_one_directory_share_blocks_and_bound(below: Counting, tmp_path: Path) -> None:
    caches = [ReadCache(tmp_path / "cache", MIN_BYTES) for _ in range(2)]
    stores = [CachedObjectStore(below, cache) for cache in caches]
    for number in range(40):
        stores[0].put(f"object/{number}", [bytes(BLOCK_BYTES // 2)])
        stores[number % 2].get(f"object/{number}")
        settled(*stores)
        below.reads.clear()
        stores[1 - number % 2].get(f"object/{number}")
        assert below.reads == []
        assert on_disk(tmp_path / "cache") <= MIN_BYTES
    assert caches[0].used_bytes() == caches[1].used_bytes() <= MIN_BYTES


@pytest.mark.parametrize("change", ["cut", "altered", "emptied", "longer"])
def test_a_damaged_block_is_never_served(
    store: CachedObjectStore, below: Counting, tmp_path: Path, change: str
) -> None:
    store.put(KEY, [b"0123456789" * 1000])
    store.get(KEY)
    settled(store)
    (path,) = blocks(tmp_path / "cache")
    data = path.read_bytes()
    changes = {"cut": data[:-1], "altered": data[:-1] + b"x", "emptied": b"", "longer": data + b"x"}
    path.write_bytes(changes[change])
    assert store.get(KEY) == b"0123456789" * 1000
    settled(store)
    assert len(below.reads) == 2
    assert store.get(KEY) == b"0123456789" * 1000
    assert len(below.reads) == 2


def test_a_deletion_is_seen_by_every_process(below: Counting, tmp_path: Path) -> None:
    one, two = (CachedObjectStore(below, ReadCache(tmp_path / "cache", 1 << 30)) for _ in range(2))
    one.put(KEY, [LONG])
    one.put("other", [b"other"])
    for store in (one, two):
        store.get(KEY)
        store.get("other")
    settled(one, two)
    one.delete(KEY)
    for store in (one, two):
        with pytest.raises(ObjectNotFound):
            store.get(KEY, ByteRange(BLOCK_BYTES, BLOCK_BYTES + 10))
    below.reads.clear()
    assert two.get("other") == b"other"
    assert below.reads == []
    assert len(blocks(tmp_path / "cache")) == 1


def test_who_reads_past_the_cache_still_drops_from_it(below: Counting, cache: ReadCache, tmp_path: Path) -> None:
    store, past = CachedObjectStore(below, cache), CachedObjectStore(below, cache, reading=False)
    store.put(KEY, [b"data"])
    assert past.get(KEY) == past.read_at(KEY, 0, 9).data == b"data"
    assert blocks(tmp_path / "cache") == []
    store.get(KEY)
    settled(store)
    past.delete(KEY)
    assert blocks(tmp_path / "cache") == []


def test_who_reads_while_an_object_is_deleted_puts_nothing_back(
    store: CachedObjectStore, below: Counting, tmp_path: Path
) -> None:
    store.put(KEY, [b"data"])
    other = CachedObjectStore(below, ReadCache(tmp_path / "cache", 1 << 30))
    below.before_answer = lambda: other.delete(KEY)
    assert store.get(KEY) == b"data"
    settled(store)
    assert blocks(tmp_path / "cache") == []
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []
    with pytest.raises(ObjectNotFound):
        store.get(KEY)


def test_what_a_killed_process_left_is_removed_and_never_served(tmp_path: Path, below: Counting) -> None:
    directory = tmp_path / "cache"
    program = f"""
import itertools
from pathlib import Path
from storage.objects.cached import CachedObjectStore
from storage.objects.memory import MemoryObjectStore
from storage.objects.read_cache import ReadCache
store = CachedObjectStore(MemoryObjectStore(), ReadCache(Path({str(directory)!r}), {MIN_BYTES}))
print("ready", flush=True)
for number in itertools.count():
    key = f"key/{{number}}"
    store.put(key, [key.encode() * 50_000])
    store.get(key)
    if number % 10 == 9:
        store._kept.settle()
        print(number, flush=True)
"""
    written = 0
    for _ in range(3):
        with ExitStack() as processes:
            command = [sys.executable, "-c", program]
            writers = [processes.enter_context(running(command, stdout=subprocess.PIPE, text=True)) for _ in range(2)]
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
                assert writer.stdout.readline()
            for writer in writers:
                writer.send_signal(signal.SIGKILL)
            for writer in writers:
                told, _ = writer.communicate()
                written = max([written, *map(int, told.split())])
    for path in (directory / "tmp").iterdir():
        os.utime(path, (time.time() - 120, time.time() - 120))
    cache = ReadCache(directory, MIN_BYTES)
    assert list((directory / "tmp").iterdir()) == []
    found = 0
    # However far they came: what is kept is what they wrote last.
    for number in range(written + 20):
        key = f"key/{number}"
        piece = cache.read(key, 0)
        if piece is not None:
            found += 1
            assert piece.data == (key.encode() * 50_000)[:BLOCK_BYTES]
    assert found
    # No lock is left either.
    with (directory / "usage").open("r+b") as usage:
        fcntl.flock(usage, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_count_that_went_wrong_is_put_right(below: Counting, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    store = CachedObjectStore(below, ReadCache(directory, MIN_BYTES))
    store.put(KEY, [b"data"])
    for wrong in (b"not a number", b"%020d" % (1 << 40), b""):
        (directory / "usage").write_bytes(wrong)
        cache = ReadCache(directory, MIN_BYTES)
        key = f"object/{len(wrong)}"
        store.put(key, [b"x" * 5000])
        again = CachedObjectStore(below, cache)
        again.get(key)
        settled(again)
        assert 8192 <= cache.used_bytes() <= 3 * 8192 + 4096


def test_a_cache_that_cannot_be_written_fails_no_read_and_says_so(
    store: CachedObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(KEY, [b"data"])
    (tmp_path / "cache" / "tmp").rmdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert store.get(KEY) == b"data"
            settled(store)
    assert caplog.text.count("the read cache does not work") == 1
    assert KEY not in caplog.text


def test_blocks_of_encrypted_objects_are_encrypted(cache: ReadCache, tmp_path: Path) -> None:
    below = CachedObjectStore(MemoryObjectStore(), cache)
    store = EncryptedObjectStore(below, MasterKeys("1", {"1": b"1" * 32}), mixed=True)
    store.put(KEY, [b"DOE^JANE" * 1000])
    assert store.get(KEY) == b"DOE^JANE" * 1000
    settled(below)
    (path,) = blocks(tmp_path / "cache")
    assert b"DOE^JANE" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


def test_a_bucket_behind_a_cache(cache: ReadCache, seaweedfs_bucket: S3Settings) -> None:
    bucket = S3ObjectStore(seaweedfs_bucket)
    store = CachedObjectStore(bucket, cache)
    store.put("long", [LONG])
    store.put("empty", [])
    for _ in range(2):
        assert store.get("long", ByteRange(BLOCK_BYTES - 5, BLOCK_BYTES + 5)) == LONG[BLOCK_BYTES - 5 : BLOCK_BYTES + 5]
        assert store.get("long") == LONG
        assert store.get("empty") == b""
        with pytest.raises(ObjectDamaged):
            store.get("long", ByteRange(0, len(LONG) + 1))
        settled(store)
    bucket.delete("long")
    assert store.get("long") == LONG  # from the cache alone
    store.close()


def instance_key(version: str) -> str:
    """The key of an instance, as the archive makes it."""
    return f"main/1.1/1.1.1/1.2.{version}.dcm"


def test_what_another_host_removed_leaves_the_cache_when_it_is_compared(below: Counting, tmp_path: Path) -> None:
    caches = [ReadCache(tmp_path / host, 1 << 30) for host in ("here", "there")]
    here, there = (CachedObjectStore(below, cache) for cache in caches)
    gone, kept = CLOCK.next(), CLOCK.next()
    for key in (instance_key(gone), instance_key(kept), "main/records/one.json"):
        here.put(key, [LONG])
        for store in (here, there):
            store.get(key)
    settled(here, there)
    here.delete(instance_key(gone))
    before = len(blocks(tmp_path / "there"))
    assert caches[1].compare(lambda versions: set(versions) & {kept}, 0) == 1
    assert len(blocks(tmp_path / "there")) == len(blocks(tmp_path / "here")) == before * 2 // 3
    assert not [path for path in blocks(tmp_path / "there") if gone in path.name]
    below.reads.clear()
    assert there.get(instance_key(kept), ByteRange(0, 10)) == LONG[:10]
    assert below.reads == []


def test_a_host_that_was_off_serves_nothing_from_its_cache_before_it_is_compared(
    below: Counting, tmp_path: Path
) -> None:
    key = instance_key(CLOCK.next())
    CachedObjectStore(below, ReadCache(tmp_path, 1 << 30, trusted_s=60)).put(key, [b"data"])
    fresh = CachedObjectStore(below, ReadCache(tmp_path, 1 << 30, trusted_s=60))
    assert [fresh.get(key) for _ in range(2)] == [b"data"] * 2
    assert len(below.reads) == 1
    settled(fresh)
    long_ago_s = time.time() - 90
    os.utime(tmp_path / "compared", (long_ago_s, long_ago_s))
    cache = ReadCache(tmp_path, 1 << 30, trusted_s=60)
    store = CachedObjectStore(below, cache)
    assert [store.get(key) for _ in range(2)] == [b"data"] * 2
    assert len(below.reads) == 3

    def unknown(_: object) -> set[str]:
        raise StorageUnavailable("the index does not answer")

    with pytest.raises(StorageUnavailable):
        cache.compare(unknown, 30)
    store.get(key)
    settled(store)
    assert len(below.reads) == 4
    assert cache.compare(set, 30) == 0
    store.get(key)
    assert len(below.reads) == 4


def test_one_process_of_a_host_compares_and_not_before_it_is_time(tmp_path: Path) -> None:
    one, two = (ReadCache(tmp_path, 1 << 30) for _ in range(2))
    one.keep(instance_key(CLOCK.next()), 0, Piece(b"data", 4))
    meanwhile: list[int | None] = []

    def kept(versions: Any) -> set[str]:
        meanwhile.append(two.compare(set, 0))
        return set(versions)

    assert one.compare(kept, 0) == 0
    assert meanwhile == [None]
    assert two.compare(kept, 60) is None
    assert len(meanwhile) == 1
