"""Group commit: who writes, and what waits for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.errors import StorageUnavailable
from storage.index.group_commit import GroupCommit, Unobserved

Change = Callable[[list[int]], object]


class Engine:
    """A transaction that takes as long as it is told to, in whichever thread."""

    def __init__(self) -> None:
        self.groups: list[tuple[int, int]] = []
        self.go_on, self.is_ours, self.under_way = threading.Event(), True, threading.Event()
        self.go_on.set()
        self._one = threading.Lock()

    def transact(self, changes: Sequence[Change]) -> Sequence[object]:
        assert self._one.acquire(blocking=False), "two transactions at a time"
        try:
            self.under_way.set()
            assert self.go_on.wait(30)
            self.groups.append((threading.get_ident(), len(changes)))
            return [change([]) for change in changes]
        finally:
            self._one.release()

    def at_once(self, changes: Sequence[Change]) -> Sequence[object] | None:
        return self.transact(changes) if self.is_ours else None


class Waiting(Unobserved):
    """Counts who waits."""

    def __init__(self) -> None:
        self.changes = 0
        self._lock = threading.Lock()

    def waiting(self, changes: int) -> None:
        with self._lock:
            self.changes += changes


def test_a_change_that_comes_alone_is_written_in_its_own_thread() -> None:
    engine = Engine()
    group = GroupCommit(engine.transact, engine.at_once, timeout_s=30)
    assert group.run(lambda _: "done") == "done"
    assert engine.groups == [(threading.get_ident(), 1)]
    group.close()


def test_changes_that_come_meanwhile_share_one_transaction_of_another_thread() -> None:
    engine = Engine()
    group = GroupCommit(engine.transact, engine.at_once, timeout_s=30)
    group.observer = waiting = Waiting()
    engine.go_on.clear()
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(group.run, lambda _: threading.get_ident())
        assert engine.under_way.wait(30)
        others = [threads.submit(group.run, lambda _, number=number: number) for number in range(8)]
        until(lambda: waiting.changes == 9)
        engine.go_on.set()
        alone = first.result(30)
        assert [each.result(30) for each in others] == list(range(8))
    assert engine.groups[0] == (alone, 1)
    assert sum(size for _, size in engine.groups) == 9
    assert max(size for _, size in engine.groups) > 1
    group.close()


def test_what_has_to_wait_for_another_process_waits_in_the_thread_and_no_longer_than_it_may() -> None:
    engine = Engine()
    engine.is_ours = False
    group = GroupCommit(engine.transact, engine.at_once, timeout_s=0.3)
    engine.go_on.clear()
    with pytest.raises(StorageUnavailable, match="too busy"):
        group.run(lambda _: None)
    engine.go_on.set()
    until(lambda: is_written(group))
    assert threading.get_ident() not in {thread for thread, _ in engine.groups}
    group.close()


def test_an_error_of_a_change_or_of_the_transaction_reaches_its_caller_alone_too() -> None:
    def failing(_: Sequence[Change]) -> Sequence[object]:
        raise StorageUnavailable("the engine")

    alone = GroupCommit(failing, failing, timeout_s=30)
    with pytest.raises(StorageUnavailable, match="the engine"):
        alone.run(lambda _: None)
    told = GroupCommit(lambda _: [ValueError("the change")], lambda _: [ValueError("the change")], timeout_s=30)
    with pytest.raises(ValueError, match="the change"):
        told.run(lambda _: None)
    for each in (alone, told):
        each.close()


def test_closing_waits_for_who_writes_and_lets_nobody_in() -> None:
    engine = Engine()
    group = GroupCommit(engine.transact, engine.at_once, timeout_s=30)
    engine.go_on.clear()
    with ThreadPoolExecutor(2) as threads:
        written = threads.submit(group.run, lambda _: "written")
        assert engine.under_way.wait(30)
        closed = threads.submit(group.close)
        time.sleep(0.1)
        assert not closed.done()
        engine.go_on.set()
        assert written.result(30) == "written"
        closed.result(30)
    with pytest.raises(StorageUnavailable, match="closed"):
        group.run(lambda _: None)


def test_of_threads_that_write_without_a_pause_each_has_its_turn() -> None:
    engine = Engine()
    group = GroupCommit(engine.transact, engine.at_once, timeout_s=30)

    def write() -> int:
        return sum(bool(group.run(lambda _: True)) for _ in range(300))

    with ThreadPoolExecutor(8) as threads:
        assert [each.result(30) for each in [threads.submit(write) for _ in range(8)]] == [300] * 8
    group.close()


def is_written(group: GroupCommit[list[int]]) -> bool:
    """Whether a change is written in the time that there is."""
    try:
        return group.run(lambda _: True)
    except StorageUnavailable:
        return False


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)
