"""Requests that wait for the archive to change: one look at the index serves all of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from gateway.errors import Busy
from storage.index.questions import State

_LOOK_INTERVAL_S = 0.25


class Followers:
    """Those who wait.

    Parameters
    ----------
    state
        Where the feed stands.
    maximum
        How many may follow at the same time; one more gets Busy.
    ending
        Whether the process is about to end, so that nobody should wait any longer.
    """

    def __init__(self, state: Callable[[], Awaitable[State]], maximum: int, ending: Callable[[], bool]) -> None:
        self._state = state
        self._maximum = maximum
        self._ending = ending
        self._count = 0
        self._known = State("", 0)
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Followers:
        if self._count >= self._maximum:
            raise Busy("too many requests follow the changes already")
        self._count += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count -= 1
        if not self._count and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    @property
    def ending(self) -> bool:
        """Whether to stop following."""
        return self._ending()

    async def beyond(self, epoch: str, sequence: int, within_s: float) -> bool:
        """Wait until there is something after a sequence number; False when the time is over, or the process ends.

        Raises
        ------
        storage.errors.StorageUnavailable
            The index does not answer.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + within_s
        while True:
            if self._looking is None or self._looking.done():
                self._known = await self._state()
                self._looking = asyncio.create_task(self._look())
            if self._ending():
                return False
            if self._known.epoch != epoch or self._known.change > sequence:
                return True
            left_s = end_s - loop.time()
            if left_s <= 0:
                return False
            looking = self._looking
            await asyncio.wait([looking, self._news], timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if looking.done() and not looking.cancelled():
                looking.result()  # raises what ended it

    async def _look(self) -> None:
        while True:
            known = await self._state()
            if known != self._known or self._ending():
                self._known = known
                news, self._news = self._news, asyncio.get_running_loop().create_future()
                news.set_result(None)
            await asyncio.sleep(_LOOK_INTERVAL_S)
