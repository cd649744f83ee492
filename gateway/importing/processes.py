"""Files stored by several processes, told in the order in which they were given."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import TracebackType

from gateway import log
from gateway.config import InvalidSettings
from gateway.errors import GatewayError
from gateway.importing.items import Item, Told
from gateway.importing.storing import Order, Storer
from storage import reconcile
from storage.errors import StorageError, StorageUnavailable

_IN_HAND = 2
"""Batches that a process has: one that it stores and one that it finds when it is done."""
_AHEAD = 16
"""Batches for each process that may be stored before the one whose turn it is."""
_END_S = 30.0


@dataclass(slots=True)
class _Process:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    in_hand: deque[int] = field(default_factory=deque)


class StoringProcesses:
    """A number of processes that store; a context, at whose end they are gone."""

    def __init__(self, order: Order, count: int) -> None:
        self._order = order
        self._count = count
        self._processes: list[_Process] = []

    def __enter__(self) -> StoringProcesses:
        # Not forked: the processes have threads and connections of their own.
        context = multiprocessing.get_context("spawn")
        for number in range(self._count):
            ours, theirs = context.Pipe()
            name = f"import-{number + 1}"
            process = context.Process(target=_serve, args=(theirs, self._order, name), name=name, daemon=True)
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
            # What it has in hand it stores to the end: less is left for who looks for objects without a row.
            each.process.join(_END_S)
            each.process.kill()
            each.process.join()
        self._processes.clear()

    def store(self, batches: Iterable[Sequence[Item]]) -> Iterator[tuple[Item, Told]]:
        """What became of files, in their order. Raises StorageUnavailable when a process ended."""
        left = enumerate(batches)
        given: dict[int, Sequence[Item]] = {}
        done: dict[int, list[Told]] = {}
        turn, all_given = 0, False
        while True:
            while not all_given and len(given) < _AHEAD * self._count:
                free = min(self._processes, key=lambda each: len(each.in_hand))
                if len(free.in_hand) >= _IN_HAND:
                    break
                number, batch = next(left, (-1, ()))
                if number < 0:
                    all_given = True
                    break
                given[number] = batch
                self._send(free, batch)
                free.in_hand.append(number)
            if not given:
                return
            if turn in done:
                yield from zip(given.pop(turn), done.pop(turn), strict=True)
                turn += 1
                continue
            for each, told in self._received():
                done[each.in_hand.popleft()] = told

    def _received(self) -> Iterator[tuple[_Process, list[Told]]]:
        by_pipe = {each.pipe: each for each in self._processes if each.in_hand}
        for pipe in wait(list(by_pipe)):
            assert isinstance(pipe, Connection)
            each = by_pipe[pipe]
            try:
                told, failure = pipe.recv()
            except (EOFError, OSError) as error:
                raise self._ended(each) from error
            if failure is not None:
                raise failure
            yield each, told

    def _send(self, each: _Process, batch: Sequence[Item]) -> None:
        try:
            each.pipe.send(list(batch))
        except OSError as error:
            raise self._ended(each) from error

    def _ended(self, each: _Process) -> StorageError:
        each.process.join(5)
        return StorageUnavailable(
            f"{each.process.name} ended with status {each.process.exitcode}: without memory? Give fewer workers"
        )


def _serve(pipe: Connection, order: Order, name: str) -> None:
    """Store what is given until nobody gives any more: the other end is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that gives
    gc.set_threshold(reconcile.GARBAGE_THRESHOLD)
    log.configure(name, "warning", order.settings.log.format)
    try:
        storer = Storer(order, name)
    except (StorageError, GatewayError) as error:
        failure: Exception = error
    except InvalidSettings as error:
        failure = StorageUnavailable("; ".join(error.faults))
    else:
        try:
            while True:
                pipe.send((storer.store(pipe.recv()), None))
        except (EOFError, OSError):
            return
        finally:
            storer.close()
    try:
        pipe.recv()
        pipe.send(([], failure))
    except (EOFError, OSError):
        return
