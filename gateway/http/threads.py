"""Threads that work for an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Threads:
    """So many threads at most, each started when all others are at work.

    Of those that rest the one is woken that has worked last, which has most of what it needs at hand.

    Parameters
    ----------
    most
        Threads; further calls wait for their turn.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._started: list[_Thread] = []
        self._resting: list[_Thread] = []
        self._waiting: deque[_Call[Any]] = deque()
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """Call in a thread. What is cancelled while it waits for its turn is not called."""
        made = _Call(asyncio.get_running_loop(), call)
        try:
            return await self._begun(made)
        except asyncio.CancelledError:
            self._forget(made)
            raise
        finally:
            # An error holds this frame, and would by its outcome hold itself.
            del made

    def _begun(self, call: _Call[T]) -> asyncio.Future[T]:
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads have ended")
            if self._resting:
                thread = self._resting.pop()
            elif len(self._started) < self._most:
                thread = _Thread(self.next, f"{self._name}-{len(self._started)}")
                thread.start()
                self._started.append(thread)
            else:
                self._waiting.append(call)
                return call.outcome
        thread.wake(call)
        return call.outcome

    def _forget(self, call: _Call[Any]) -> None:
        """Or, while all threads hang, what clients gave up would stay, however many come."""
        with self._lock, suppress(ValueError):
            self._waiting.remove(call)

    def next(self, thread: _Thread) -> _Call[Any] | None:
        """What a thread does next; None when it is to rest, or to end."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._closed:
                thread.ends = True
            else:
                self._resting.append(thread)
            return None

    def close(self) -> None:
        """End the threads; what runs is finished, what waits for its turn is cancelled. Idempotent."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            resting, self._resting = self._resting, []
        for call in waiting:
            call.cancel()
        for thread in resting:
            thread.ends = True
            thread.wake(None)
        for thread in self._started:
            thread.join()


class _Thread(threading.Thread):
    """One of them."""

    def __init__(self, following: Callable[[_Thread], _Call[Any] | None], name: str) -> None:
        # Nobody waits for it when the process ends otherwise than by ``close``.
        super().__init__(name=name, daemon=True)
        self._following = following
        self._given: _Call[Any] | None = None
        self._woken = threading.Lock()
        self._woken.acquire()
        self.ends = False

    def wake(self, call: _Call[Any] | None) -> None:
        """Give it something to do; for whoever took it from those that rest."""
        self._given = call
        self._woken.release()

    def run(self) -> None:
        """Work until the end."""
        while not self.ends:
            self._woken.acquire()
            call, self._given = self._given, None
            while call is not None:
                call.make()
                call = self._following(self)


class _Call(Generic[T]):
    """A call, and the loop in which somebody waits for its outcome.

    A ``concurrent.futures.Future``, made for threads that wait for each other and then chained to one of the loop,
    would cost more than many a call.
    """

    __slots__ = ("_call", "_loop", "outcome")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], T]) -> None:
        self._call = call
        self._loop = loop
        self.outcome: asyncio.Future[T] = loop.create_future()

    def make(self) -> None:
        """Call, in a thread."""
        if self.outcome.cancelled():
            return
        try:
            result = self._call()
        except BaseException as error:  # it is raised where the outcome is waited for
            self._tell(_fail, self.outcome, error)
        else:
            self._tell(_succeed, self.outcome, result)
        finally:
            # The error holds this frame, and would by it hold itself.
            del self

    def cancel(self) -> None:
        """Have nobody wait any more."""
        self._tell(self.outcome.cancel)

    def _tell(self, then: Callable[..., object], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(then, *arguments)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            # Whoever waited has ended with it.


def _succeed(outcome: asyncio.Future[T], result: T) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _fail(outcome: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, StopIteration):
        # No future takes it: whoever waits would never be told.
        told = RuntimeError("the call raised StopIteration")
        told.__cause__ = error
        error = told
    if not outcome.done():
        outcome.set_exception(error)
