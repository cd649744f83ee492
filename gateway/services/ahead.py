"""Reads that are begun before their turn, where each costs a round trip to a store that is far."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from itertools import chain, islice

MAX_BYTES = 1 << 20
"""A longer read is streamed in its turn: the round trip is little of its time, and the bytes would have to be held."""

_HELD_BYTES = 32 << 20
_FEW = 3
"""A frame, and the borders of its multipart."""


class ReadAhead:
    """Threads that read ahead for every request of a process.

    Parameters
    ----------
    at_once
        Reads that one request has begun at the same time.
    held_bytes
        What all of them together may hold; beyond it reads wait for their turn.
    """

    def __init__(self, at_once: int, held_bytes: int = _HELD_BYTES) -> None:
        self.at_once = at_once
        self._pool = ThreadPoolExecutor(2 * at_once, thread_name_prefix="read-ahead")
        self._lock = threading.Lock()
        self._room = held_bytes

    def begin(self, span: Span) -> Begun | None:
        """Begin a read; None when it has to wait for its turn."""
        if span.length > MAX_BYTES:
            return None
        with self._lock:
            if span.length > self._room:
                return None
            self._room -= span.length
        return Begun(self._pool, span, self._give_back)

    def close(self) -> None:
        """End the threads, after the reads that they are at."""
        self._pool.shutdown(cancel_futures=True)

    def _give_back(self, length: int) -> None:
        with self._lock:
            self._room += length


@dataclass(frozen=True, slots=True)
class Span:
    """A read of known length; ``ahead`` is who may begin it early."""

    length: int
    blocks: Callable[[], Iterator[bytes]]
    ahead: ReadAhead | None = None


class Begun:
    """A read that is on its way."""

    def __init__(self, pool: ThreadPoolExecutor, span: Span, give_back: Callable[[int], None]) -> None:
        self._span = span
        self._give_back = give_back
        self._dropped = threading.Event()
        self._future: Future[list[bytes]] = pool.submit(copy_context().run, self._read)

    def _read(self) -> list[bytes]:
        found = []
        for block in self._span.blocks():
            if self._dropped.is_set():
                break  # the generator closes what it has open
            found.append(block)
        return found

    def blocks(self) -> Iterator[bytes]:
        """What was read; its error, if there was one."""
        try:
            yield from self._future.result()
        finally:
            self.drop()

    def drop(self) -> None:
        """Nobody wants the bytes any more: read no further, and give the room back when the read has ended."""
        if not self._dropped.is_set():
            self._dropped.set()
            self._future.cancel()
            self._future.add_done_callback(lambda _: self._give_back(self._span.length))


def begun(spans: Iterable[Span]) -> Generator[Iterator[bytes], None, None]:
    """The blocks of each span in turn, the next ones begun meanwhile; closing the iterator drops those."""
    pending = iter(spans)
    first = list(islice(pending, _FEW + 1))
    if len(first) <= _FEW and sum(span.ahead is not None for span in first) <= 1:
        # There is nothing to read meanwhile, and each crossing to another thread costs.
        for each in first:
            yield each.blocks()
        return
    pending = chain(first, pending)
    waiting: deque[tuple[Span, Begun | None]] = deque()
    at_once = under_way = 0
    current: Begun | None = None
    try:
        while True:
            # Between two far reads there may be near ones, such as what stands between the parts of a multipart.
            while not waiting or (under_way < at_once and len(waiting) < 3 * at_once):
                span = next(pending, None)
                if span is None:
                    break
                started = None
                if span.ahead is not None:
                    at_once = span.ahead.at_once
                    started = span.ahead.begin(span)
                under_way += started is not None
                waiting.append((span, started))
            if not waiting:
                return
            span, current = waiting.popleft()
            if current is None:
                yield span.blocks()
            else:
                yield current.blocks()
                current.drop()
                under_way -= 1
    finally:
        for read in (current, *(started for _, started in waiting)):
            if read is not None:
                read.drop()
