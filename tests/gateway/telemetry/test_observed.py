"""Engines behind the observer: the same answers, and every call counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observed import ObservedObjects, observed_index
from gateway.telemetry.tracing import NoTracer
from storage.dicom import identifiers as ids
from storage.errors import ObjectDamaged, ObjectNotFound
from storage.index.base import Index
from storage.index.sqlite import SqliteIndex
from storage.objects.base import ByteRange
from storage.objects.memory import MemoryObjectStore


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def objects(metrics: Metrics) -> ObservedObjects:
    return ObservedObjects(MemoryObjectStore(), "objects", metrics, NoTracer())


@pytest.fixture
def index(tmp_path: Path, metrics: Metrics) -> Iterator[Index]:
    found = observed_index(SqliteIndex(tmp_path / "index.sqlite", fsync=False), metrics, NoTracer())
    yield found
    found.close()


def count(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_objects_go_in_and_out_as_without_an_observer(objects: ObservedObjects, metrics: Metrics) -> None:
    assert objects.put("a/b", [b"12345"]).size == 5
    assert objects.get("a/b", ByteRange(1, 3)) == b"23"
    with objects.open("a/b") as reader:
        assert b"".join(reader.blocks()) == b"12345"
    assert objects.head("a/b").size == 5
    assert [info.key for info in objects.list("")] == ["a/b"]
    assert objects.read_at("a/b", 4, 9).data == b"5"
    objects.ping()
    objects.delete("a/b")
    for operation in ("put", "get", "open", "read_at", "head", "ping", "delete"):
        labels = {"engine": "objects", "operation": operation}
        assert count(metrics, "gateway_engine_operation_seconds_count", **labels) == 1
    assert count(metrics, "gateway_object_bytes_total", engine="objects", direction="written") == 5
    assert count(metrics, "gateway_object_bytes_total", engine="objects", direction="read") == 8


def test_errors_come_out_as_they_are_and_are_counted_by_name(objects: ObservedObjects, metrics: Metrics) -> None:
    with pytest.raises(ObjectNotFound):
        objects.get("a/b")
    with pytest.raises(ObjectNotFound), objects.open("a/b"):
        pass
    objects.put("a/b", [b"1"])
    with pytest.raises(ObjectDamaged, match="mine"), objects.open("a/b"):
        raise ObjectDamaged("mine")
    for operation in ("get", "open"):
        labels = {"engine": "objects", "operation": operation, "error": "ObjectNotFound"}
        assert count(metrics, "gateway_engine_errors_total", **labels) == 1
    labels = {"engine": "objects", "operation": "open", "error": "ObjectDamaged"}
    assert count(metrics, "gateway_engine_errors_total", **labels) == 0


def test_every_operation_of_the_index_is_observed(index: Index) -> None:
    for name, value in vars(Index).items():
        if not name.startswith("_") and callable(value) and name != "close":
            assert getattr(index, name).__wrapped__.__name__ == name


def test_a_write_is_counted_with_its_transaction(index: Index, metrics: Metrics) -> None:
    index.complete(ids.Tenant("main"), [], "nothing")
    assert count(metrics, "gateway_engine_operation_seconds_count", engine="index", operation="complete") == 1
    assert count(metrics, "gateway_index_group_size_sum") == 1
    assert count(metrics, "gateway_index_group_seconds_count") == 1
    assert count(metrics, "gateway_index_writes_waiting") == 0
