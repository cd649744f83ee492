"""Processes that work on batches, whose answers are given back in the order of the batches.

What is done with an instance is Python at work, so threads would take turns at it. What the processes have done
waits here until its turn comes, in bounded numbers and bytes; so whatever overtakes what, what follows sees one order.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from storage.errors import StorageError, StorageUnavailable

_IN_HAND = 2
"""Batches that a process has: one that it works on and one that it finds when it is done."""
_AHEAD = 8
"""Batches for each process that may be done before the one whose turn it is."""
_WAITING_BYTES = 128 << 20
GARBAGE_THRESHOLD = 100_000
"""Data sets are many small objects without cycles: looking for some every 700 took a third of the time."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Item_contra = TypeVar("Item_contra", contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)


class Worker(Protocol[Item_contra, Answer_co]):
    """Whoever works in one of the processes."""

    def work(self, batch: Sequence[Item_contra]) -> Iterator[Sequence[Answer_co]]:
        """The answers to a batch, one for each item and in their order, in as many messages as they need.

        An error that it raises is raised again where the answers are awaited, and ends the process.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


@dataclass(slots=True)
class _Process:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    in_hand: deque[int] = field(default_factory=deque)


class Crew(Generic[Item, Answer]):
    """A number of processes; a context, at whose end they are gone.

    Parameters
    ----------
    start
        Makes the worker in each process, whose name it is given; it has to be picklable.
    count
        How many processes.
    name
        What each is called, before its number.
    size_of
        Bytes that an answer takes while it waits for its turn.
    end_s
        How long they may go on with what they have in hand at the end.
    """

    def __init__(
        self,
        start: Callable[[str], Worker[Item, Answer]],
        count: int,
        name: str,
        *,
        size_of: Callable[[Answer], int] = lambda _: 0,
        end_s: float = 0,
    ) -> None:
        self._start = start
        self._count = count
        self._name = name
        self._size_of = size_of
        self._end_s = end_s
        self._processes: list[_Process] = []

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [each.process.pid for each in self._processes if each.process.pid is not None]

    def __enter__(self) -> Crew[Item, Answer]:
        # Not forked: this process may have threads and connections already.
        context = multiprocessing.get_context("spawn")
        for number in range(self._count):
            ours, theirs = context.Pipe()
            name = f"{self._name}-{number + 1}"
            process = context.Process(target=_serve, args=(theirs, self._start, name), name=name, daemon=True)
            process.start()
            theirs.close()
            self._processes.append(_Process(process, ours))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._processes:
            each.pipe.close()
        for each in self._processes:
            each.process.join(self._end_s)
            each.process.kill()
            each.process.join()
        self._processes.clear()

    def answers(self, batches: Iterable[Sequence[Item]]) -> Iterator[Answer]:
        """One answer for each item of the batches, in their order. Raises StorageUnavailable when a process ended."""
        left = enumerate(batches)
        turn, given, all_given = 0, 0, False
        waiting: dict[int, list[Answer]] = {}
        complete: set[int] = set()
        waiting_bytes = 0
        while True:
            while not all_given and given < turn + _AHEAD * self._count:
                free = min(self._processes, key=lambda each: len(each.in_hand))
                if len(free.in_hand) >= _IN_HAND:
                    break
                number, batch = next(left, (-1, ()))
                if number < 0:
                    all_given = True
                    break
                self._send(free, list(batch))
                free.in_hand.append(number)
                given += 1
            if turn == given:
                return
            found = waiting.pop(turn, [])
            waiting_bytes -= sum(map(self._size_of, found))
            yield from found
            if turn in complete:
                complete.remove(turn)
                turn += 1
            elif not found:
                for each, answers, last in self._received(turn, only_turn=waiting_bytes > _WAITING_BYTES):
                    number = each.in_hand[0]
                    waiting.setdefault(number, []).extend(answers)
                    waiting_bytes += sum(map(self._size_of, answers))
                    if last:
                        complete.add(each.in_hand.popleft())

    def _received(self, turn: int, *, only_turn: bool) -> Iterator[tuple[_Process, Sequence[Answer], bool]]:
        """Messages that are there, after waiting for one; of the process whose turn it is only, when too much waits."""
        by_pipe = {
            each.pipe: each for each in self._processes if each.in_hand and (not only_turn or turn in each.in_hand)
        }
        for pipe in wait(list(by_pipe)):
            assert isinstance(pipe, Connection)
            each = by_pipe[pipe]
            try:
                answers, last, failure = pipe.recv()
            except (EOFError, OSError) as error:
                raise self._ended(each) from error
            if failure is not None:
                raise failure
            yield each, answers, last

    def _send(self, each: _Process, batch: list[Item]) -> None:
        try:
            each.pipe.send(batch)
        except OSError as error:
            raise self._ended(each) from error

    def _ended(self, each: _Process) -> StorageError:
        each.process.join(5)
        return StorageUnavailable(
            f"{each.process.name} ended with status {each.process.exitcode}: without memory? Give fewer workers"
        )


def _serve(pipe: Connection, start: Callable[[str], Worker[Item, Answer]], name: str) -> None:
    """Work on what is given until nobody gives any more: the other end is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that gives
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        worker = start(name)
    except StorageError as error:
        pipe.recv()
        pipe.send(([], True, error))
        return
    try:
        while True:
            for answers in worker.work(pipe.recv()):
                pipe.send((answers, False, None))
            pipe.send(([], True, None))
    except StorageError as error:
        pipe.send(([], True, error))
    except (EOFError, OSError):
        return
    finally:
        worker.close()
