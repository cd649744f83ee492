"""Instances kept in less room: their bytes, and every range of them, are those that were put."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import ObjectDamaged, ObjectExists, ObjectNotFound
from storage.objects import condensed, container
from storage.objects.base import BlocksReader, ByteRange, ObjectInfo, ObjectStore, Segment
from storage.objects.condensed import CondensedObjectStore, condensed_key
from storage.objects.container import Coded, Shared
from storage.objects.local import LocalObjectStore
from storage.objects.memory import MemoryObjectStore
from tests.storage.objects.conformance import KEY, ObjectStoreContract

FORM = "shift by one"
OTHER = KEY.replace("5FAV", "5FAW")


def coded(data: bytes) -> bytes:
    """What the decoder of these tests makes the data of."""
    return bytes((byte + 1) % 256 for byte in data)


def decode(data: bytes, form: str) -> bytes:
    assert form == FORM
    return bytes((byte - 1) % 256 for byte in data)


def piece(data: bytes) -> Coded:
    return Coded(coded(data), len(data), zlib.crc32(data))


class AlwaysCondensed(CondensedObjectStore):
    """Condenses each instance once it is put: what is between its ends is coded."""

    putting = threading.Lock()

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        with self.putting:
            if key == KEY and self.forms(key)[1]:
                raise ObjectExists(key)  # in truth no key of an instance is used again
            info = super().put(key, body)
            if key == KEY:
                data = self._store.get(key)
                third = len(data) // 3
                pieces = [data[:third], piece(data[third : 2 * third]), data[2 * third :]]
                self.condense(key, pieces, sha256=hashlib.sha256(data).hexdigest(), form=FORM)
                self.keep_condensed(key)
            return info


class Contract(ObjectStoreContract):
    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        assert isinstance(store, CondensedObjectStore)
        try:
            return store._store.get(key)
        except ObjectNotFound:
            pass
        try:
            kept = store._store.get(condensed_key(key))
        except ObjectNotFound:
            return None
        found = container.layout(key, kept[12 : 12 + int.from_bytes(kept[8:12], "big")])
        made = b""
        for part in found.parts:
            data = kept[part.start : part.start + part.stored]
            if part.kind is container.Kind.CODED:
                data = decode(data, FORM)
            made += zlib.decompress(data) if part.kind is container.Kind.DEFLATED else part.given or data
        return made


class TestInMemory(Contract):
    @pytest.fixture(params=[CondensedObjectStore, AlwaysCondensed])
    def store(self, request: pytest.FixtureRequest) -> ObjectStore:
        made = request.param(MemoryObjectStore(), decode)
        assert isinstance(made, CondensedObjectStore)
        return made


class TestInADirectory(Contract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ObjectStore]:
        made = AlwaysCondensed(LocalObjectStore(tmp_path / "archive", fsync=False), decode)
        yield made
        made.close()


# Every range


@given(
    pieces=st.lists(
        st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(piece)),
        max_size=7,
    ),
    data=st.data(),
)
def test_any_range_is_that_of_the_bytes_that_were_put(pieces: list[bytes | Coded], data: st.DataObject) -> None:
    store = CondensedObjectStore(MemoryObjectStore(), decode)
    parts = [each if isinstance(each, bytes) else decode(bytes(each.body), FORM) for each in pieces]  # type: ignore[arg-type]
    whole = b"".join(parts)
    store.condense(KEY, pieces, sha256=hashlib.sha256(whole).hexdigest(), form=FORM, sharers=[OTHER])
    # Another one, which shares what is coded and has bytes of its own around.
    there = store.coded(KEY)
    shared: list[bytes | Shared] = [b"begin"]
    other = b"begin"
    behind = store._store.get(condensed_key(KEY))
    for each in there:
        shared += [Shared(each.start, each.length), b"a header that is deflated"]
        other += behind[each.start : each.end] + b"a header that is deflated"
    store.condense(OTHER, shared, sha256=hashlib.sha256(other).hexdigest(), source=KEY)
    for key, expected in ((KEY, whole), (OTHER, other)):
        assert store.get(key) == expected
        info = store.head(key)
        assert (info.size, info.sha256) == (len(expected), hashlib.sha256(expected).hexdigest())
        for _ in range(4):
            start = data.draw(st.integers(0, len(expected)))
            end = data.draw(st.integers(start, len(expected)))
            assert store.get(key, ByteRange(start, end)) == expected[start:end]
            found = store.read_at(key, start, end - start + 3)
            assert (found.data, found.object_size) == (expected[start : end + 3], len(expected))
        with pytest.raises(ObjectDamaged):
            store.get(key, ByteRange(0, len(expected) + 1))
        with pytest.raises(ObjectDamaged):
            store.read_at(key, len(expected) + 1, 1)


def test_no_changed_bit_gives_other_bytes() -> None:
    data = bytes(range(90))
    behind = MemoryObjectStore()
    store = CondensedObjectStore(behind, decode)
    store.condense(KEY, [data[:20], piece(data[20:30]), data[30:]], sha256=hashlib.sha256(data).hexdigest(), form=FORM)
    kept = behind.get(condensed_key(KEY))
    found = 0
    for place in range(len(kept) * 8):
        changed = bytearray(kept)
        changed[place // 8] ^= 1 << place % 8
        behind.delete(condensed_key(KEY))
        behind.put(condensed_key(KEY), [bytes(changed)])
        try:
            assert CondensedObjectStore(behind, decode).get(KEY) == data
        except ObjectDamaged:
            found += 1
    assert found > len(kept) * 7


def test_large_bytes_are_deflated_in_parts_and_a_decoded_frame_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def counted(data: bytes, form: str) -> bytes:
        decoded.append(len(data))
        return decode(data, form)

    store = CondensedObjectStore(MemoryObjectStore(), counted)
    header, frames = bytes(range(256)) * 4096, [bytes([number]) * 5000 for number in range(4)]
    pieces = [header, *map(piece, frames), b"end"]
    whole = header + b"".join(frames) + b"end"
    store.condense(KEY, pieces, sha256=hashlib.sha256(whole).hexdigest(), form=FORM)
    with store.open(KEY) as reader:
        blocks = list(reader.blocks())
    assert b"".join(blocks) == whole
    assert max(map(len, blocks)) <= 1 << 20
    assert len(decoded) == 4
    for start in range(0, 5000, 100):
        begin = len(header) + 5000 + start
        assert store.get(KEY, ByteRange(begin, begin + 100)) == frames[1][:100]
    assert len(decoded) == 4, "it was kept"
    monkeypatch.setattr(condensed, "_KEPT_DECODED_BYTES", 9000)
    fresh = CondensedObjectStore(store._store, counted)
    for _ in range(2):
        assert fresh.get(KEY) == whole
    assert len(decoded) == 4 + 8, "no more is kept than there is room for"
    assert fresh._decoded_bytes == sum(map(len, fresh._decoded.values())) <= 9000


def test_who_decodes_the_same_at_once_leaves_it_counted_once() -> None:
    together = threading.Barrier(2, timeout=30)

    def slow(data: bytes, form: str) -> bytes:
        together.wait()
        return decode(data, form)

    store = CondensedObjectStore(MemoryObjectStore(), slow)
    data = b"frame" * 10
    store.condense(KEY, [piece(data)], sha256=hashlib.sha256(data).hexdigest(), form=FORM)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(store.get, (KEY, KEY))) == [data, data]
    assert store._decoded_bytes == len(data)


# Both forms


@pytest.fixture
def store() -> CondensedObjectStore:
    return CondensedObjectStore(MemoryObjectStore(), decode)


DATA = b"as it was put " * 10


def condense(store: CondensedObjectStore, key: str = KEY) -> None:
    store.condense(key, [piece(DATA)], sha256=hashlib.sha256(DATA).hexdigest(), form=FORM, sharers=[OTHER])


def test_an_instance_that_is_there_in_both_forms_is_there_once(store: CondensedObjectStore) -> None:
    for key in (KEY, OTHER):
        store.put(key, [DATA])
    store.put("tenant/records/x.json", [b"{}"])
    condense(store)
    expected = [KEY, OTHER, "tenant/records/x.json"]
    assert store.forms(KEY) == (True, True)
    assert [info.key for info in store.list("")] == expected
    store.keep_condensed(KEY)
    assert store.forms(KEY) == (False, True)
    assert next((info.key, info.size) for info in store.list("")) == (KEY, len(DATA))
    for length in range(len(KEY) + 1):
        found = [info.key for info in store.list(KEY[:length])]
        assert found == [key for key in expected if key.startswith(KEY[:length])]
    for after in (KEY, KEY[:-1], KEY[:-2], KEY[:-4], KEY + "a", condensed_key(KEY), OTHER, OTHER[:-1], "tenant/1"):
        assert [info.key for info in store.list("", after)] == [key for key in expected if key > after], after


def test_what_is_deleted_is_gone_in_both_forms_and_so_is_what_shares_its_bytes(store: CondensedObjectStore) -> None:
    store.put(KEY, [DATA])
    condense(store)
    there = store.coded(KEY)[0]
    store.condense(OTHER, [Shared(there.start, there.length)], sha256="", source=KEY)
    assert store.get(OTHER) == coded(DATA)
    fresh = CondensedObjectStore(store._store, decode)
    fresh.delete(KEY)
    assert list(store._store.list("")) == []
    for key in (KEY, OTHER):
        with pytest.raises(ObjectNotFound):
            fresh.get(key)
        with pytest.raises(ObjectNotFound):
            store.get(key)  # which knew it
        with pytest.raises(ObjectNotFound), store.open(key):
            pass


def test_who_reads_while_the_form_changes_gets_the_rest_from_the_other(store: CondensedObjectStore) -> None:
    class InParts(MemoryObjectStore):
        """Each block is fetched when it is asked for, as from a bucket."""

        def open(self, key: str, byte_range: ByteRange | None = None):  # type: ignore[no-untyped-def,override]
            size = self.head(key).size
            wanted = byte_range or ByteRange(0, size)

            def blocks() -> Iterator[bytes]:
                for start in range(wanted.start, wanted.end, 10):
                    yield self.get(key, ByteRange(start, min(start + 10, wanted.end)))

            return nullcontext(BlocksReader(wanted.length, blocks()))

    store = CondensedObjectStore(InParts(), decode)
    store.put(KEY, [DATA])
    with store.open(KEY, ByteRange(5, 130)) as reader:
        blocks = reader.blocks()
        got = next(blocks)
        condense(store)
        store.keep_condensed(KEY)
        got += b"".join(blocks)
    assert got == DATA[5:130]


def test_what_does_not_say_what_it_is_made_of_is_damaged_and_a_list_goes_on(store: CondensedObjectStore) -> None:
    for body in (b"", b"short", container.MAGIC + b"\xff" * 40, container.MAGIC + b"\0\0\0\4abcd"):
        store._store.put(condensed_key(KEY), [body])
        with pytest.raises(ObjectDamaged):
            store.get(KEY)
        assert [info.key for info in store.list("")] == [KEY]
        store.delete(KEY)
        assert list(store._store.list("")) == []
