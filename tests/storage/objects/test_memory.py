"""The object store in memory."""

from __future__ import annotations

import pytest

from storage.objects.base import ObjectStore
from storage.objects.memory import MemoryObjectStore
from tests.storage.objects.conformance import ObjectStoreContract


class TestMemoryObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> MemoryObjectStore:
        return MemoryObjectStore()

    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        assert isinstance(store, MemoryObjectStore)
        found = store._objects.get(key)
        return None if found is None else found[1]
