"""Objects put together of bytes of their own and of ranges of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InvalidIdentifier, ObjectDamaged, ObjectNotFound
from storage.objects.base import ByteRange, ObjectStore
from storage.objects.memory import MemoryObjectStore
from storage.objects.spliced import Reference, SplicedObjectStore
from tests.storage.objects.conformance import ObjectStoreContract

FOLDER = "main/views/research/"
OTHER = bytes(range(100))


class TestSplicedObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> SplicedObjectStore:
        return SplicedObjectStore(MemoryObjectStore(), FOLDER)

    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        assert isinstance(store, SplicedObjectStore)
        behind = store._objects
        assert isinstance(behind, MemoryObjectStore)
        found = behind._objects.get(FOLDER + key)
        if found is None:
            return None
        manifest_bytes = int.from_bytes(found[1][8:12], "little")
        return found[1][12 + manifest_bytes :]

    def test_a_key_of_the_greatest_length_is_taken(self, store: ObjectStore) -> None:
        key = f"{'x' * 255}/{'y' * (254 - len(FOLDER))}/z"
        store.put(key, [b"x"])
        assert store.get(key) == b"x"
        with pytest.raises(InvalidIdentifier):
            store.put(key + "z", [b"x"])


@pytest.fixture
def behind() -> MemoryObjectStore:
    found = MemoryObjectStore()
    found.put("main/1/2/3.dcm", [OTHER])
    return found


@pytest.fixture
def store(behind: MemoryObjectStore) -> SplicedObjectStore:
    return SplicedObjectStore(behind, FOLDER)


@given(
    pieces=st.lists(st.one_of(st.binary(max_size=20), st.tuples(st.integers(0, 100), st.integers(0, 100))), max_size=6),
    data=st.data(),
)
def test_any_range_of_it_is_that_of_the_bytes_that_it_is_made_of(
    pieces: list[bytes | tuple[int, int]], data: st.DataObject
) -> None:
    behind = MemoryObjectStore()
    behind.put("main/1/2/3.dcm", [OTHER])
    store = SplicedObjectStore(behind, FOLDER)
    spans = [each if isinstance(each, bytes) else sorted(each) for each in pieces]
    body = [
        each if isinstance(each, bytes) else Reference("main/1/2/3.dcm", each[0], each[1] - each[0]) for each in spans
    ]
    whole = b"".join(each if isinstance(each, bytes) else OTHER[each[0] : each[1]] for each in spans)
    assert store.put("k", body).size == len(whole)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    assert store.get("k", ByteRange(start, end)) == whole[start:end]
    assert store.read_at("k", start, 50).data == whole[start : start + 50]
    assert store.get("k") == whole
    assert store.head("k").size == len(whole)
    with pytest.raises(ObjectDamaged):
        store.get("k", ByteRange(0, len(whole) + 1))


def test_it_tells_what_it_refers_to_and_holds_only_its_own_bytes(
    store: SplicedObjectStore, behind: MemoryObjectStore
) -> None:
    large = bytes(1_000_000)
    behind.put("main/1/2/4.dcm", [large])
    store.put("k", [b"header", Reference("main/1/2/4.dcm", 10, 900_000)])
    assert store.references("k") == [Reference("main/1/2/4.dcm", 10, 900_000)]
    assert behind.head(f"{FOLDER}k").size < 200
    assert [(info.key, info.size) for info in store.list("")] == [("k", 900_006)]


def test_when_what_it_refers_to_is_gone_it_is_gone_too(store: SplicedObjectStore, behind: MemoryObjectStore) -> None:
    store.put("k", [Reference("main/1/2/3.dcm", 0, 100)])
    behind.delete("main/1/2/3.dcm")
    with pytest.raises(ObjectNotFound), store.open("k"):
        raise AssertionError("it was opened")


def test_a_manifest_of_thousands_of_pieces_is_read_whole(store: SplicedObjectStore) -> None:
    store.put("k", [Reference("main/1/2/3.dcm", number % 100, 1) for number in range(3000)])
    assert store.get("k") == bytes(number % 100 for number in range(3000))


def test_what_is_no_such_object_is_damaged(store: SplicedObjectStore, behind: MemoryObjectStore) -> None:
    for number, body in enumerate((b"", b"SPLICED1", b"SPLICED1\xff\xff\xff\x7f[]", b"SPLICED1\x02\x00\x00\x00{]")):
        behind.put(f"{FOLDER}{number}", [body])
        with pytest.raises(ObjectDamaged):
            store.get(f"{number}")
