"""What every object store has to do; each backend's tests inherit it and look behind the interface."""

from __future__ import annotations

import hashlib
import threading
import time
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.errors import InvalidIdentifier, ObjectDamaged, ObjectExists, ObjectNotFound
from storage.objects.base import ByteRange, FileSegment, MadeSegment, ObjectStore, Piece, Segment

KEY = "tenant/1.2.840.1/1.2.840.2/1.2.840.3.01ARZ3NDEKTSV4RRFFQ69G5FAV.dcm"
INVALID_KEYS = [
    *("", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "../a"),
    *("a b", "a\\b", "a%2Fb", "a\0b", "a\nb", "a\n", "ä", "a*", "~", "a:b", "x" * 256, "a/" * 256 + "b"),
]
# In key order: '-' and '.' sort before the slash, digits and letters after it.
KEYS_IN_ORDER = [
    *("1.2-x", "1.2.3-a", "1.2.3.4/a", "1.2.3/a", "1.2.3/b/c", "1.2/3", "1.2/3.4", "1.20/1"),
    *("B/1/2", "a-b/x", "a-c", "a.b/x", "a/x", "a/x.y", "a/y/z", "a0/x", "aa", "b"),
]


class ObjectStoreContract:
    """Inherit, give a ``store`` fixture, and ``stored_bytes`` that reads past the store."""

    @abstractmethod
    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        """What the engine holds under the key, read without the store under test."""

    def test_put_stores_exactly_the_bytes_of_its_segments(self, store: ObjectStore, tmp_path: Path) -> None:
        spool = tmp_path / "spool"
        spool.write_bytes(b"....middle....")
        body: list[Segment] = [b"start ", FileSegment(spool, 4, 6), memoryview(b" end"), b"", FileSegment(spool, 0, 0)]

        before = time.time()
        info = store.put(KEY, body)

        assert self.stored_bytes(store, KEY) == b"start middle end"
        assert (info.key, info.size) == (KEY, 16)
        assert info.sha256 in (None, hashlib.sha256(b"start middle end").hexdigest())
        assert before - 2 <= info.modified_s <= time.time() + 2
        found = store.head(KEY)
        assert (found.key, found.size, found.sha256) == (info.key, info.size, info.sha256)
        assert before - 2 <= found.modified_s <= time.time() + 2
        assert store.get(KEY) == b"start middle end"

    def test_put_takes_an_empty_body(self, store: ObjectStore) -> None:
        assert store.put(KEY, []).size == 0
        assert self.stored_bytes(store, KEY) == b""
        assert store.get(KEY) == b""
        assert store.get(KEY, ByteRange(0, 0)) == b""
        with store.open(KEY) as reader:
            assert (reader.length, list(reader.blocks())) == (0, [])

    def test_put_takes_views_of_wider_items(self, store: ObjectStore) -> None:
        store.put(KEY, [memoryview(b"12345678").cast("I")])
        assert store.get(KEY) == b"12345678"

    def test_put_refuses_a_key_that_is_taken_and_leaves_the_object_alone(self, store: ObjectStore) -> None:
        first = store.put(KEY, [b"first"])
        for body in ([b"second"], [b"first"]):
            with pytest.raises(ObjectExists):
                store.put(KEY, body)
        assert self.stored_bytes(store, KEY) == b"first"
        assert (store.head(KEY).size, store.head(KEY).sha256) == (first.size, first.sha256)

    def test_of_many_puts_under_one_key_exactly_one_wins(self, store: ObjectStore) -> None:
        ready = threading.Barrier(8)

        def put(number: int) -> int | None:
            ready.wait(timeout=30)
            try:
                store.put(KEY, [b"%d" % number])
            except ObjectExists:
                return None
            return number

        with ThreadPoolExecutor(8) as pool:
            winners = [number for number in pool.map(put, range(8)) if number is not None]
        assert len(winners) == 1
        assert self.stored_bytes(store, KEY) == b"%d" % winners[0]

    def test_put_leaves_nothing_when_a_file_segment_is_shorter_than_it_says(
        self, store: ObjectStore, tmp_path: Path
    ) -> None:
        spool = tmp_path / "spool"
        spool.write_bytes(b"1234")
        for segment in (
            FileSegment(spool, 0, 5),
            FileSegment(spool, 9, 1),
            FileSegment(tmp_path / "no", 0, 1),
        ):
            with pytest.raises(ObjectDamaged):
                store.put(KEY, [b"begin", segment])
        assert self.stored_bytes(store, KEY) is None
        assert list(store.list("")) == []

    def test_get_gives_the_bytes_of_a_range(self, store: ObjectStore) -> None:
        store.put(KEY, [b"0123456789"])
        assert store.get(KEY, ByteRange(0, 10)) == b"0123456789"
        assert store.get(KEY, ByteRange(3, 7)) == b"3456"
        assert store.get(KEY, ByteRange(9, 10)) == b"9"
        assert store.get(KEY, ByteRange(10, 10)) == b""

    def test_put_takes_bytes_that_are_made_when_asked_for(self, store: ObjectStore) -> None:
        made = MadeSegment(3 << 20, lambda: iter([bytes(1 << 20), b"1" * (2 << 20)]))
        store.put(KEY, [b"start", made, b"end"])
        assert store.get(KEY) == b"start" + bytes(1 << 20) + b"1" * (2 << 20) + b"end"

    def test_read_at_tells_the_size_of_the_object_and_stops_at_its_end(self, store: ObjectStore) -> None:
        store.put(KEY, [b"0123456789"])
        assert store.read_at(KEY, 0, 4) == Piece(b"0123", 10)
        assert store.read_at(KEY, 7, 3) == Piece(b"789", 10)
        assert store.read_at(KEY, 7, 1 << 20) == Piece(b"789", 10)
        assert store.read_at(KEY, 10, 5) == Piece(b"", 10)
        with pytest.raises(ObjectDamaged):
            store.read_at(KEY, 11, 5)
        store.put("empty", [])
        assert store.read_at("empty", 0, 5) == Piece(b"", 0)
        with pytest.raises(ObjectNotFound):
            store.read_at("missing", 0, 5)
        with pytest.raises(InvalidIdentifier):
            store.read_at("a/../b", 0, 5)

    def test_a_range_beyond_the_end_is_damage(self, store: ObjectStore) -> None:
        store.put(KEY, [b"0123456789"])
        for start, end in ((0, 11), (5, 11), (10, 11), (11, 11), (50, 60)):
            with pytest.raises(ObjectDamaged):
                store.get(KEY, ByteRange(start, end))
            with pytest.raises(ObjectDamaged), store.open(KEY, ByteRange(start, end)):
                pass

    def test_open_streams_in_blocks_of_at_most_one_mebibyte(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * (5 << 12)
        store.put(KEY, [data])
        for byte_range in (None, ByteRange(1000, (3 << 20) + 1)):
            with store.open(KEY, byte_range) as reader:
                blocks = list(reader.blocks())
                expected = data if byte_range is None else data[byte_range.start : byte_range.end]
                assert reader.length == len(expected)
            assert b"".join(blocks) == expected
            assert max(map(len, blocks)) <= 1 << 20
            assert all(type(block) is bytes and block for block in blocks)

    def test_open_can_be_left_before_the_end(self, store: ObjectStore) -> None:
        store.put(KEY, [bytes(4 << 20)])
        with store.open(KEY) as reader:
            assert next(reader.blocks())
        assert len(store.get(KEY)) == 4 << 20

    def test_what_is_not_there_is_not_found(self, store: ObjectStore) -> None:
        store.put("tenant/study/series/one", [b"1"])
        # "tenant/study" is a folder to some engines, "…/one/more" has an object in its path.
        for key in ("missing", "tenant/missing", "tenant/study", "tenant/study/series/one/more"):
            for byte_range in (None, ByteRange(0, 1), ByteRange(0, 0)):
                with pytest.raises(ObjectNotFound):
                    store.get(key, byte_range)
                with pytest.raises(ObjectNotFound), store.open(key, byte_range):
                    pass
            with pytest.raises(ObjectNotFound):
                store.head(key)

    def test_delete_removes_the_object_alone(self, store: ObjectStore) -> None:
        store.put("a/b/one", [b"1"])
        store.put("a/b/two", [b"2"])
        store.delete("a/b/one")
        assert self.stored_bytes(store, "a/b/one") is None
        assert self.stored_bytes(store, "a/b/two") == b"2"
        with pytest.raises(ObjectNotFound):
            store.get("a/b/one")

    def test_delete_of_what_is_not_there_is_no_error(self, store: ObjectStore) -> None:
        store.put("a/b/one", [b"1"])
        for key in ("a/b/two", "a/b", "a", "x/y/z", "a/b/one/more"):
            store.delete(key)
        store.delete("a/b/one")
        store.delete("a/b/one")
        assert list(store.list("")) == []

    def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(self, store: ObjectStore) -> None:
        def put_and_delete(worker: int) -> None:
            for number in range(15):
                key = f"tenant/study/series/{worker}.{number}"
                store.put(key, [key.encode()])
                assert store.get(key) == key.encode()
                store.delete(key)

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(put_and_delete, worker) for worker in range(4)]:
                done.result()
        assert list(store.list("")) == []

    def test_an_invalid_key_is_refused_everywhere(self, store: ObjectStore) -> None:
        for key in INVALID_KEYS:
            with pytest.raises(InvalidIdentifier):
                store.put(key, [b"x"])
            with pytest.raises(InvalidIdentifier):
                store.get(key)
            with pytest.raises(InvalidIdentifier), store.open(key):
                pass
            with pytest.raises(InvalidIdentifier):
                store.head(key)
            with pytest.raises(InvalidIdentifier):
                store.delete(key)

    def test_a_key_of_the_greatest_length_is_taken(self, store: ObjectStore) -> None:
        key = f"{'x' * 255}/{'y' * 254}/z"
        assert len(key) == 512
        store.put(key, [b"x"])
        assert [info.key for info in store.list("")] == [key]

    def test_list_refuses_what_no_key_begins_with(self, store: ObjectStore) -> None:
        for prefix in ("/", "a//", "../", "a/../", "ä", "a b", "x" * 600):
            with pytest.raises(InvalidIdentifier):
                store.list(prefix)
        with pytest.raises(InvalidIdentifier):
            store.list("", start_after="ä")

    def test_list_gives_keys_by_code_point_of_the_whole_key(self, store: ObjectStore) -> None:
        assert sorted(KEYS_IN_ORDER) == KEYS_IN_ORDER
        for key in reversed(KEYS_IN_ORDER):
            store.put(key, [key.encode()])
        infos = list(store.list(""))
        assert [info.key for info in infos] == KEYS_IN_ORDER
        assert [info.size for info in infos] == [len(key) for key in KEYS_IN_ORDER]
        assert all(abs(info.modified_s - time.time()) < 600 for info in infos)

        for prefix in (
            "1",
            "1.2",
            "1.2.",
            "1.2.3",
            "1.2.3/",
            "1.2.3/b/",
            "a",
            "a/",
            "a/x",
            "a-",
            "c",
            "a/y/z/",
        ):
            expected = [key for key in KEYS_IN_ORDER if key.startswith(prefix)]
            assert [info.key for info in store.list(prefix)] == expected
            for start in (*KEYS_IN_ORDER, "1.2/", "a", "a/", "a/x/", "a/y/", "0", "z"):
                after = [key for key in expected if key > start]
                assert [info.key for info in store.list(prefix, start)] == after

    def test_list_goes_on_where_it_stopped(self, store: ObjectStore) -> None:
        for key in KEYS_IN_ORDER:
            store.put(key, [b"x"])
        seen: list[str] = []
        while (info := next(store.list("", seen[-1] if seen else ""), None)) is not None:
            seen.append(info.key)
        assert seen == KEYS_IN_ORDER

    def test_ping_returns_and_leaves_nothing(self, store: ObjectStore) -> None:
        store.ping()
        assert list(store.list("")) == []

    def test_close_can_be_called_twice(self, store: ObjectStore) -> None:
        store.close()
        store.close()
