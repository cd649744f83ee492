"""Threads that work for an event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.http.threads import Threads
from tests.gateway.http.conftest import eventually

Made = Callable[[int], Threads]


@pytest.fixture
async def threads() -> AsyncIterator[Made]:
    made: list[Threads] = []

    def make(most: int) -> Threads:
        made.append(Threads(most, "test"))
        return made[-1]

    yield make
    for each in made:
        await asyncio.to_thread(each.close)


class Gate:
    """A call that takes until it is let go."""

    def __init__(self) -> None:
        self.entered, self.let_go = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.let_go.wait(30)
        return threading.current_thread().name

    async def runs(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 30)


async def test_calls_one_after_the_other_are_all_of_the_thread_that_worked_last(threads: Made) -> None:
    pool, gates = threads(4), [Gate() for _ in range(3)]
    tasks = [asyncio.create_task(pool.run(gate)) for gate in gates]
    for gate in gates:
        await gate.runs()
    names = []
    for resting, (gate, task) in enumerate(zip(gates, tasks, strict=True), start=1):
        gate.let_go.set()
        names.append(await task)
        # A thread rests a moment after what it was asked for is there.
        await eventually(lambda resting=resting: len(pool._resting) == resting)  # type: ignore[misc]
    assert len(set(names)) == 3
    for _ in range(5):
        assert await pool.run(lambda: threading.current_thread().name) == names[-1]
        await eventually(lambda: len(pool._resting) == 3)


async def test_what_has_no_thread_waits_for_its_turn(threads: Made) -> None:
    pool, gate = threads(1), Gate()
    first = asyncio.create_task(pool.run(gate))
    await gate.runs()
    others = [asyncio.create_task(pool.run(lambda number=number: number)) for number in range(50)]  # type: ignore[misc]
    await asyncio.sleep(0.05)
    assert not any(each.done() for each in others)
    gate.let_go.set()
    await first
    assert await asyncio.gather(*others) == list(range(50))


async def test_what_is_given_up_before_its_turn_is_not_called(threads: Made) -> None:
    pool, gate, called = threads(1), Gate(), threading.Event()
    first = asyncio.create_task(pool.run(gate))
    await gate.runs()
    second = asyncio.create_task(pool.run(called.set))
    await asyncio.sleep(0)
    second.cancel()
    gate.let_go.set()
    await first
    await pool.run(int)
    assert second.cancelled()
    assert not called.is_set()


async def test_a_caller_that_gives_up_leaves_the_thread_to_the_next_ones(threads: Made) -> None:
    pool, gate = threads(1), Gate()
    first = asyncio.create_task(pool.run(gate))
    await gate.runs()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.let_go.set()
    assert await pool.run(lambda: 7) == 7


async def test_an_error_comes_out_where_it_is_waited_for_and_holds_nothing(threads: Made) -> None:
    class Held:
        pass

    pool, seen = threads(1), []

    def fail() -> None:
        held = Held()
        seen.append(weakref.ref(held))
        raise KeyError("missing")

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(KeyError, match="missing"):
            await pool.run(fail)
        await pool.run(int)
        assert seen[0]() is None
    finally:
        gc.enable()


async def test_what_was_cancelled_before_its_turn_is_not_kept_until_then(threads: Made) -> None:
    pool, gate = threads(1), Gate()
    running = asyncio.create_task(pool.run(gate))
    await gate.runs()
    given_up = [asyncio.create_task(pool.run(int)) for _ in range(5)]
    later = asyncio.create_task(pool.run(lambda: 7))
    await asyncio.sleep(0)
    assert len(pool._waiting) == 6
    for each in given_up:
        each.cancel()
    await asyncio.wait(given_up)
    assert len(pool._waiting) == 1
    gate.let_go.set()
    await running
    assert await later == 7


async def test_whoever_waits_for_an_iterator_that_has_ended_is_told(threads: Made) -> None:
    nothing: list[int] = []
    with pytest.raises(RuntimeError, match="StopIteration") as told:
        await asyncio.wait_for(threads(1).run(lambda: next(iter(nothing))), 30)
    assert isinstance(told.value.__cause__, StopIteration)


async def test_closing_finishes_what_runs_and_cancels_what_waits(threads: Made) -> None:
    pool, gate = threads(1), Gate()
    running, waiting = asyncio.create_task(pool.run(gate)), asyncio.create_task(pool.run(int))
    await gate.runs()
    closing = asyncio.create_task(asyncio.to_thread(pool.close))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not closing.done()
    gate.let_go.set()
    await closing
    assert await running == "test-0"
    with pytest.raises(RuntimeError, match="ended"):
        await pool.run(int)
    assert not any(each.name == "test-0" for each in threading.enumerate())


async def test_many_at_once_are_each_made_once(threads: Made) -> None:
    pool, counted = threads(4), []

    async def some(start: int) -> None:
        for number in range(start, start + 200):
            assert await pool.run(lambda number=number: counted.append(number) or number) == number  # type: ignore[misc]

    await asyncio.gather(*(some(start) for start in range(0, 4000, 200)))
    assert sorted(counted) == list(range(4000))


def test_a_loop_that_has_ended_is_told_nothing() -> None:
    pool, gate = Threads(1, "test"), Gate()

    async def leave() -> None:
        asyncio.get_running_loop().create_task(pool.run(gate))
        await gate.runs()

    asyncio.run(leave())
    gate.let_go.set()

    async def again() -> int:
        return await pool.run(lambda: 7)

    assert asyncio.run(again()) == 7
    pool.close()
