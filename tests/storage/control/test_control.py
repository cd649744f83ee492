"""The contract of the control state, on both engines."""

from __future__ import annotations

import dataclasses
import os
import resource
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.control import base, relational
from storage.control.base import ControlStore, Entry, Failures
from storage.control.postgres import PostgresControl
from storage.control.sqlite import SqliteControl
from storage.errors import StorageUnavailable
from storage.index.postgres import PostgresSettings

PAST_S = 1.0


@pytest.fixture(params=["sqlite", "postgres"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ControlStore, ControlStore]]:
    """Two processes' views of one state."""
    stores: list[ControlStore]
    if request.param == "sqlite":
        stores = [SqliteControl(tmp_path / "made" / "control.sqlite") for _ in range(2)]
    else:
        settings = request.getfixturevalue("postgres_schema")
        stores = [PostgresControl(settings) for _ in range(2)]
    yield stores[0], stores[1]
    for store in stores:
        store.close()
        store.close()


def test_what_one_writes_the_other_reads(two: tuple[ControlStore, ControlStore]) -> None:
    one, other = two
    before = other.revision()
    revision = one.put("api_key", "k1", {"name": "Größe", "roles": ["a"], "n": 1.5, "none": None}, expected=None)
    found = other.get("api_key", "k1")
    assert found is not None
    assert (found.kind, found.key, found.revision, found.expires_at_s) == ("api_key", "k1", revision, None)
    assert found.body == {"name": "Größe", "roles": ["a"], "n": 1.5, "none": None}
    assert other.revision() > before
    assert other.get("user", "k1") is None
    assert other.delete("api_key", "k1")
    assert not one.delete("api_key", "k1")
    assert one.get("api_key", "k1") is None


def test_only_who_saw_the_last_revision_changes_it(two: tuple[ControlStore, ControlStore]) -> None:
    one, other = two
    first = one.put("user", "u", {"n": 0}, expected=None)
    assert first is not None
    assert other.put("user", "u", {"n": 9}, expected=None) is None
    second = other.put("user", "u", {"n": 1}, expected=first)
    assert second is not None
    assert second > first
    assert one.put("user", "u", {"n": 2}, expected=first) is None
    found = one.get("user", "u")
    assert found is not None
    assert found.body == {"n": 1}
    assert one.put("user", "absent", {}, expected=first) is None


def test_what_has_expired_is_not_there_and_its_key_is_free(two: tuple[ControlStore, ControlStore]) -> None:
    one, other = two
    soon = base.now_s() + 3600
    gone = one.put("share", "a", {}, expected=None, expires_at_s=PAST_S)
    assert gone is not None
    one.put("share", "b", {}, expected=None, expires_at_s=soon)
    one.put("share", "c", {}, expected=None)
    assert other.get("share", "a") is None
    assert [each.key for each in other.list("share")] == ["b", "c"]
    assert other.put("share", "a", {"n": 1}, expected=gone) is None
    assert not other.delete("share", "a")
    assert other.put("share", "a", {}, expected=None, expires_at_s=PAST_S) is not None
    assert other.put("share", "a", {"n": 2}, expected=None, expires_at_s=soon) is not None
    one.put("share", "d", {}, expected=None, expires_at_s=PAST_S)
    assert one.sweep() == 1
    assert one.sweep() == 0
    assert [each.key for each in one.list("share")] == ["a", "b", "c"]


def test_an_end_can_be_put_off_without_a_change(two: tuple[ControlStore, ControlStore]) -> None:
    one, other = two
    soon, later = base.now_s() + 60, base.now_s() + 3600
    first = one.put("session", "s", {"n": 1}, expected=None, expires_at_s=soon)
    before = other.revision()
    assert other.extend("session", "s", later)
    found = one.get("session", "s")
    assert found == base.Document("session", "s", {"n": 1}, first or 0, later)
    assert other.revision() == before
    assert not one.extend("session", "absent", later)
    one.extend("session", "s", PAST_S)
    assert not one.extend("session", "s", later)


def test_documents_are_listed_in_the_order_of_their_keys_and_in_pages(two: tuple[ControlStore, ControlStore]) -> None:
    one, _ = two
    keys = ["Z", "a", "b'; --", "é", "日"]
    for key in reversed(keys):
        one.put("user", key, {}, expected=None)
    one.put("other", "m", {}, expected=None)
    assert [each.key for each in one.list("user")] == keys
    assert [each.key for each in one.list("user", after="a", limit=2)] == ["b'; --", "é"]


def test_a_count_is_right_however_many_count(two: tuple[ControlStore, ControlStore]) -> None:
    """As the uses of a share link: each of them counts, none twice."""
    one, _ = two
    one.put("share", "s", {"uses": 0, "most": 30}, expected=None)

    def use(store: ControlStore) -> bool:
        def made(body: base.Body) -> base.Body | None:
            return {**body, "uses": body["uses"] + 1} if body["uses"] < body["most"] else None

        return base.change(store, "share", "s", made) is not None

    together = threading.Barrier(4)

    def many(number: int) -> int:
        together.wait()
        return sum(use(two[number % 2]) for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        allowed = sum(pool.map(many, range(4)))
    assert allowed == 30
    found = one.get("share", "s")
    assert found is not None
    assert found.body["uses"] == 30


def test_failures_count_together_and_are_forgotten(two: tuple[ControlStore, ControlStore]) -> None:
    one, other = two
    before = one.revision()
    assert one.failures(["a", "b"], 100.0) == {}
    assert one.count_failure(["a", "b"], 100.0, 10.0) == {"a": Failures(1, 100.0), "b": Failures(1, 100.0)}
    assert other.count_failure(["b", "c"], 105.0, 10.0) == {"b": Failures(2, 105.0), "c": Failures(1, 105.0)}
    assert one.failures(["a", "b", "c", "d"], 109.0) == {
        "a": Failures(1, 100.0),
        "b": Failures(2, 105.0),
        "c": Failures(1, 105.0),
    }
    assert set(one.failures(["a", "b", "c"], 110.0)) == {"b", "c"}
    assert one.count_failure(["a", "b"], 110.0, 10.0) == {"a": Failures(1, 110.0), "b": Failures(3, 110.0)}
    assert one.revision() == before, "what is remembered of others stays good"


def test_no_failure_is_lost_however_many_are_counted(two: tuple[ControlStore, ControlStore]) -> None:
    together = threading.Barrier(4)

    def many(number: int) -> None:
        together.wait()
        names = ["a", "b", f"own {number}"]
        for _ in range(10):
            two[number % 2].count_failure(names if number < 2 else names[::-1], base.now_s(), 60.0)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, range(4)))
    found = two[0].failures(["a", "b", "own 0"], base.now_s())
    assert {name: each.count for name, each in found.items()} == {"a": 40, "b": 40, "own 0": 10}


def test_failures_that_are_forgotten_and_those_beyond_a_bound_are_removed(
    two: tuple[ControlStore, ControlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    monkeypatch.setattr(relational, "MAX_FAILURES", 3)
    now = base.now_s()
    one.count_failure(["long ago"], PAST_S, 10.0)
    for number in range(5):
        one.count_failure([f"{number}"], now, 100.0 + number)
    assert other.sweep() == 3
    assert sorted(one.failures(["long ago", *"01234"], 0.0)) == ["2", "3", "4"]
    assert other.sweep() == 0


def test_a_log_has_its_latest_entries_once_each(two: tuple[ControlStore, ControlStore]) -> None:
    one, other = two
    before = one.revision()
    entries = [Entry(float(number), f"{number}", {"n": number}) for number in range(6)]
    one.log("a", entries[3:], 4)
    other.log("a", entries[:4], 4)
    other.log("b", entries[:1], 4)
    assert one.logged("a", 10) == entries[:1:-1], "the latest, however they came"
    assert one.logged("a", 2) == entries[:3:-1]
    assert one.logged("b", 10) == entries[:1]
    assert one.logged("c", 10) == []
    other.log("a", [], 1)
    assert one.logged("a", 10) == entries[5:]
    assert one.revision() == before, "what is remembered of others stays good"


def test_a_log_is_written_by_many(two: tuple[ControlStore, ControlStore]) -> None:
    together = threading.Barrier(4)

    def many(number: int) -> None:
        together.wait()
        for count in range(20):
            two[number % 2].log("a", [Entry(float(count), f"{number}", {}), Entry(1000.0 + count, f"{number}", {})], 10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, range(4)))
    assert [each.at_s for each in two[0].logged("a", 100)] == [1019.0] * 4 + [1018.0] * 4 + [1017.0] * 2


def test_a_document_is_bounded(two: tuple[ControlStore, ControlStore]) -> None:
    with pytest.raises(ValueError, match="65537"):
        two[0].put("user", "u", {"": "x" * (base.MAX_BODY_BYTES - 6)}, expected=None)
    assert two[0].put("user", "u", {"": "x" * (base.MAX_BODY_BYTES - 7)}, expected=None)


def test_a_file_of_secrets_is_its_owners_alone(tmp_path: Path) -> None:
    store = SqliteControl(tmp_path / "control.sqlite")
    store.put("user", "u", {}, expected=None)
    for file in tmp_path.glob("control.sqlite*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    store.close()


def test_a_new_file_is_opened_by_several_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        for number in range(60):
            path = tmp_path / str(number) / "control.sqlite"
            for store in threads.map(lambda _, path=path: SqliteControl(path, fsync=False), range(8)):
                store.close()


def test_a_process_with_thousands_of_descriptors_goes_on(postgres_schema: PostgresSettings) -> None:
    """As an HTTP worker has, one for each client."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2048), before[1]))
    store = PostgresControl(postgres_schema)
    descriptors: list[int] = []
    try:
        while not descriptors or descriptors[-1] < 1100:
            descriptors.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(3):  # the second time by a connection that was kept
            store.ping()
    finally:
        for each in descriptors:
            os.close(each)
        store.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_engine_that_does_not_answer_is_unavailable(tmp_path: Path, postgres: str) -> None:
    broken = SqliteControl(tmp_path / "control.sqlite")
    for file in tmp_path.glob("control.sqlite*"):
        file.write_bytes(b"no database" * 1000)
    there = PostgresSettings(conninfo=postgres)
    away = PostgresControl(dataclasses.replace(there, conninfo="postgresql://nobody@127.0.0.1:1/none"))
    for store in (broken, away):
        with pytest.raises(StorageUnavailable):
            store.ping()
        with pytest.raises(StorageUnavailable):
            store.put("user", "u", {}, expected=None)
        store.close()
