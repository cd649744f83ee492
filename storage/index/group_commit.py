"""Group commit: changes that wait at the same time share one transaction and one fsync."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from storage.errors import StorageUnavailable

Connection = TypeVar("Connection")
Result = TypeVar("Result")

MAX_GROUP = 256


class Observer(Protocol):
    """Hears of what the writer does."""

    def waiting(self, changes: int) -> None:
        """So many changes more, or fewer, wait."""
        ...

    def transacted(self, changes: int, seconds: float) -> None:
        """A transaction with so many changes has ended, well or not."""
        ...


class Unobserved:
    """Nobody listens."""

    def waiting(self, changes: int) -> None:
        """See Observer."""

    def transacted(self, changes: int, seconds: float) -> None:
        """See Observer."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Connection]):
    change: Callable[[Connection], object]
    done: Future[object]


class GroupCommit(Generic[Connection]):
    """The writing of one process, one transaction at a time.

    A thread does it, with all that waits at the same time in one transaction. A change that comes alone, when nothing
    else is written, goes into one at once in its caller's own thread: the way to the other and back would cost as much
    as the statements.

    Parameters
    ----------
    transact
        Runs a group of changes in one transaction, when it is this process's turn, and returns each one's result, or
        an exception in its place; it raises when the transaction as a whole failed. A caller of ``run`` gets its result
        only after that.
    at_once
        The same without waiting for other processes: None when that would have to be, and nothing was done.
    timeout_s
        How long a caller waits.
    """

    def __init__(
        self,
        transact: Callable[[Sequence[Callable[[Connection], object]]], Sequence[object]],
        at_once: Callable[[Sequence[Callable[[Connection], object]]], Sequence[object] | None] = lambda _: None,
        *,
        timeout_s: float,
    ) -> None:
        self._transact = transact
        self._at_once = at_once
        self._writing = threading.Lock()
        # A group is to be written next: nobody alone may go before it again and again.
        self._gathered = False
        self._timeout_s = timeout_s
        self._queue: queue.Queue[_Waiting[Connection] | None] = queue.Queue(maxsize=4 * MAX_GROUP)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.observer: Observer = Unobserved()

    def run(self, change: Callable[[Connection], Result]) -> Result:
        """Apply a change; returns its result when it is durable. Raises StorageUnavailable when it takes too long."""
        done: Future[object] = Future()
        self.observer.waiting(1)
        try:
            if not self._alone(change, done):
                self._start()
                self._queue.put(_Waiting(change, done), timeout=self._timeout_s)
            return done.result(timeout=self._timeout_s)  # type: ignore[return-value]
        except (queue.Full, TimeoutError) as error:
            raise StorageUnavailable("the index is too busy to write") from error
        finally:
            self.observer.waiting(-1)

    def _alone(self, change: Callable[[Connection], object], done: Future[object]) -> bool:
        """Whether a change could be written at once; then it is."""
        if self._gathered or not self._queue.empty() or not self._writing.acquire(blocking=False):
            return False
        try:
            self._check_open()
            started_s = time.perf_counter()
            results: Sequence[object] | None = ()
            try:
                results = self._at_once([change])
            finally:
                if results is not None:
                    self.observer.transacted(1, time.perf_counter() - started_s)
            if results is None:
                return False
            _tell(done, results[0])
            return True
        finally:
            self._writing.release()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("the index is closed")

    def _start(self) -> None:
        with self._lock:
            self._check_open()
            if self._thread is None:
                # On first use, so that a process that forks before it writes takes no thread along.
                self._thread = threading.Thread(target=self._work, name="index-writer", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            self._gathered = True
            group = [first]
            while len(group) < MAX_GROUP:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._queue.put(None)
                    break
                group.append(following)
            self._commit([waiting for waiting in group if waiting.done.set_running_or_notify_cancel()])
            self._gathered = False

    def _commit(self, group: list[_Waiting[Connection]]) -> None:
        if not group:
            return
        started_s = time.perf_counter()
        try:
            with self._writing:
                results = self._transact([waiting.change for waiting in group])
        except Exception as error:  # every waiting caller must learn of it, whatever it is
            for waiting in group:
                waiting.done.set_exception(error)
            return
        finally:
            self.observer.transacted(len(group), time.perf_counter() - started_s)
        for waiting, result in zip(group, results, strict=True):
            _tell(waiting.done, result)

    def close(self) -> None:
        """Finish what waits and end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join()
        with self._writing:
            return  # whoever writes in its own thread has done so


def _tell(done: Future[object], result: object) -> None:
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)
