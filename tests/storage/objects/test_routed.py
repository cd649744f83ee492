"""Objects of several tenants in several stores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage.errors import ObjectNotFound, StorageUnavailable
from storage.objects.base import ObjectStore
from storage.objects.memory import MemoryObjectStore
from storage.objects.routed import RoutedObjectStore
from tests.storage.objects.conformance import ObjectStoreContract


class TestRoutedObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> RoutedObjectStore:
        return RoutedObjectStore(
            MemoryObjectStore(), {name: MemoryObjectStore() for name in ("tenant", "a", "1.2", "1.2.3")}
        )

    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        assert isinstance(store, RoutedObjectStore)
        behind = store._own.get(key.partition("/")[0], store._common)
        assert isinstance(behind, MemoryObjectStore)
        found = behind._objects.get(key)
        return None if found is None else found[1]


@pytest.fixture
def stores() -> dict[str, MemoryObjectStore]:
    return {name: MemoryObjectStore() for name in ("common", "blue", "red")}


@pytest.fixture
def routed(stores: dict[str, MemoryObjectStore]) -> RoutedObjectStore:
    return RoutedObjectStore(stores["common"], {name: stores[name] for name in ("blue", "red")})


def test_each_tenants_objects_are_in_its_own_store_and_the_list_is_of_all_in_key_order(
    routed: RoutedObjectStore, stores: dict[str, MemoryObjectStore]
) -> None:
    keys = ["alpha/1", "blue-ish/1", "blue/1", "blue/2", "main/1", "red/1", "zeta/1"]
    for key in reversed(keys):
        routed.put(key, [key.encode()])
    assert {name: [info.key for info in store.list("")] for name, store in stores.items()} == {
        "common": ["alpha/1", "blue-ish/1", "main/1", "zeta/1"],
        "blue": ["blue/1", "blue/2"],
        "red": ["red/1"],
    }
    assert [info.key for info in routed.list("")] == keys
    assert [info.key for info in routed.list("", "blue/1")] == keys[3:]
    assert [info.key for info in routed.list("bl")] == keys[1:4]
    assert [info.key for info in routed.list("blue/")] == ["blue/1", "blue/2"]


def test_nothing_of_a_tenant_is_seen_where_it_does_not_belong(
    routed: RoutedObjectStore, stores: dict[str, MemoryObjectStore]
) -> None:
    stores["common"].put("blue/1", [b"in the common one"])
    stores["red"].put("blue/2", [b"in another's"])
    assert list(routed.list("")) == list(routed.list("blue/")) == []
    for key in ("blue/1", "blue/2"):
        with pytest.raises(ObjectNotFound):
            routed.get(key)


def test_all_are_asked_whether_they_answer(
    routed: RoutedObjectStore, stores: dict[str, MemoryObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down() -> None:
        raise StorageUnavailable("down")

    asked: list[Callable[[], None]] = [routed.ping]
    asked[0]()
    monkeypatch.setattr(stores["red"], "ping", down)
    with pytest.raises(StorageUnavailable):
        asked[0]()
