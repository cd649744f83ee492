"""Crossing from the event loop into threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.http.offload import Lane, Offload


@pytest.fixture
async def offload() -> AsyncIterator[Offload]:
    found = Offload()
    yield found
    await asyncio.to_thread(found.close)


class Source:
    """Items of which the second takes until it is let go, and whether the iterator was closed."""

    def __init__(self) -> None:
        self.entered, self.let_go = threading.Event(), threading.Event()
        self.closed = False

    def items(self) -> Iterator[int]:
        try:
            yield 1
            self.entered.set()
            self.let_go.wait(30)
            yield 2
        finally:
            self.closed = True


async def test_an_iterator_is_closed_when_its_consumer_is_cancelled_while_a_thread_is_inside_it(
    offload: Offload,
) -> None:
    source = Source()

    async def consume() -> None:
        async for _ in offload.iterate(Lane.OBJECTS, source.items()):
            pass

    task = asyncio.create_task(consume())
    await asyncio.to_thread(source.entered.wait, 20)
    task.cancel()
    asyncio.get_running_loop().call_soon(source.let_go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed


async def test_an_iterator_that_is_left_early_is_closed(offload: Offload) -> None:
    source = Source()
    source.let_go.set()
    items = offload.iterate(Lane.OBJECTS, source.items())
    assert await anext(items) == 1
    await items.aclose()
    assert source.closed
