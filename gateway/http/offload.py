"""Crossing from the event loop into the synchronous core, through separate bounded pools.

A stalled bucket fills the object pool and stops neither search nor health; work that takes seconds has threads of
its own.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from enum import Enum
from functools import partial
from typing import ParamSpec, TypeVar

from gateway.errors import Busy
from gateway.http.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")


class Lane(Enum):
    """Which pool a call takes."""

    INDEX = "index"
    OBJECTS = "objects"
    LONG = "long"
    ACCESS = "access"
    """Who somebody is: passwords take time, and identity providers may."""


_THREADS = {Lane.INDEX: 4, Lane.OBJECTS: 16, Lane.LONG: 8, Lane.ACCESS: 4}
_MAX_WAITING = {Lane.INDEX: 512, Lane.OBJECTS: 512, Lane.LONG: 128, Lane.ACCESS: 256}


class Offload:
    """The pools of one HTTP process.

    Parameters
    ----------
    waiting
        Hears how many calls more, or fewer, are in a lane or wait for it.
    """

    def __init__(self, waiting: Callable[[str, int], None] = lambda _lane, _calls: None) -> None:
        self._told = waiting
        self._pools = {lane: Threads(threads, f"http-{lane.value}") for lane, threads in _THREADS.items()}
        self._waiting = dict.fromkeys(Lane, 0)

    async def run(self, lane: Lane, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a thread of a lane; raises Busy when too many wait already."""
        if self._waiting[lane] >= _MAX_WAITING[lane]:
            raise Busy(f"too many requests wait for the {lane.value} threads")
        self._count(lane, 1)
        try:
            context = contextvars.copy_context()
            return await self._pools[lane].run(partial(context.run, call, *args, **kwargs))
        finally:
            self._count(lane, -1)

    def _count(self, lane: Lane, calls: int) -> None:
        self._waiting[lane] += calls
        self._told(lane.value, calls)

    async def iterate(self, lane: Lane, blocks: Iterator[T]) -> AsyncGenerator[T, None]:
        """Take an iterator's items one by one, each in a thread; no thread is held while the consumer is slow."""
        # A request may be cancelled while a thread still makes its next item: closing waits for that thread.
        turn = threading.Lock()

        def step() -> T | None:
            with turn:
                return next(blocks, None)

        def end() -> None:
            close = getattr(blocks, "close", None)
            with turn:
                if close is not None:
                    close()

        try:
            while (block := await self.run(lane, step)) is not None:
                yield block
        finally:
            await self.run(lane, end)

    def close(self) -> None:
        """End the threads; what runs is finished."""
        for pool in self._pools.values():
            pool.close()
