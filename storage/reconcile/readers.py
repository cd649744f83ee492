"""Objects read by several processes, given back in the order in which they were asked for.

The one pass over an instance is Python at work, so threads would take turns at it. What the processes have read
waits here until its turn comes, in bounded numbers and bytes; so whatever overtakes what, what follows sees one order.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Protocol

from storage.dicom import json_model
from storage.dicom.limits import Limits
from storage.errors import StorageError, StorageUnavailable
from storage.index.arrivals import Arrival
from storage.objects.base import ObjectStore
from storage.reconcile import reading
from storage.reconcile.reading import Unfit

_IN_HAND = 2
"""Batches that a process has: one that it reads and one that it finds when it is done."""
_AHEAD = 8
"""Batches for each process that may be read before the one whose turn it is."""
_WAITING_BYTES = 128 << 20
_MESSAGE_BYTES = 4 << 20
GARBAGE_THRESHOLD = 100_000
"""Data sets are many small objects without cycles: looking for some every 700 took a third of the time."""


class Readers(Protocol):
    """Whoever reads objects."""

    def read(self, batches: Iterable[Sequence[str]]) -> Iterator[Arrival | Unfit]:
        """What is under the keys of the batches, in their order. Raises StorageUnavailable."""
        ...


class OneReader:
    """Reads in this process, one object after the other."""

    def __init__(self, objects: ObjectStore, limits: Limits) -> None:
        self._objects = objects
        self._limits = limits

    def read(self, batches: Iterable[Sequence[str]]) -> Iterator[Arrival | Unfit]:
        """See Readers."""
        for batch in batches:
            for object_key in batch:
                yield reading.read(self._objects, self._limits, object_key)


_Packed = tuple[Arrival, bytes] | Unfit
"""An arrival without its data set, and that as JSON text: the fragments in it do not travel."""


@dataclass(slots=True)
class _Process:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    in_hand: deque[int] = field(default_factory=deque)


class ReadingProcesses:
    """A number of processes that read; a context, at whose end they are gone.

    Parameters
    ----------
    open_objects
        Opens the object store in each process; it has to be picklable.
    count
        How many processes.
    """

    def __init__(self, open_objects: Callable[[], ObjectStore], limits: Limits, count: int) -> None:
        self._open_objects = open_objects
        self._limits = limits
        self._count = count
        self._processes: list[_Process] = []

    @property
    def pids(self) -> list[int]:
        """Process ids of those that read."""
        return [each.process.pid for each in self._processes if each.process.pid is not None]

    def __enter__(self) -> ReadingProcesses:
        # Not forked: this process may have threads and connections already.
        context = multiprocessing.get_context("spawn")
        for number in range(self._count):
            ours, theirs = context.Pipe()
            arguments = (theirs, self._open_objects, self._limits)
            process = context.Process(target=_serve, args=arguments, name=f"reader-{number + 1}", daemon=True)
            process.start()
            theirs.close()
            self._processes.append(_Process(process, ours))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._processes:
            each.pipe.close()
            each.process.kill()
            each.process.join()
        self._processes.clear()

    def read(self, batches: Iterable[Sequence[str]]) -> Iterator[Arrival | Unfit]:
        """See Readers."""
        left = enumerate(batches)
        turn, given, all_given = 0, 0, False
        waiting: dict[int, list[_Packed]] = {}
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
            waiting_bytes -= sum(map(_bytes_of, found))
            yield from map(_unpacked, found)
            if turn in complete:
                complete.remove(turn)
                turn += 1
            elif not found:
                for each, packed, last in self._received(turn, only_turn=waiting_bytes > _WAITING_BYTES):
                    number = each.in_hand[0]
                    waiting.setdefault(number, []).extend(packed)
                    waiting_bytes += sum(map(_bytes_of, packed))
                    if last:
                        complete.add(each.in_hand.popleft())

    def _received(self, turn: int, *, only_turn: bool) -> Iterator[tuple[_Process, list[_Packed], bool]]:
        """Messages that are there, after waiting for one; of the process whose turn it is only, when too much waits."""
        by_pipe = {
            each.pipe: each for each in self._processes if each.in_hand and (not only_turn or turn in each.in_hand)
        }
        for pipe in wait(list(by_pipe)):
            assert isinstance(pipe, Connection)
            each = by_pipe[pipe]
            try:
                packed, last, failure = pipe.recv()
            except (EOFError, OSError) as error:
                raise self._ended(each) from error
            if failure:
                raise StorageUnavailable(failure)
            yield each, packed, last

    def _send(self, each: _Process, batch: list[str]) -> None:
        try:
            each.pipe.send(batch)
        except OSError as error:
            raise self._ended(each) from error

    def _ended(self, each: _Process) -> StorageError:
        each.process.join(5)
        return StorageUnavailable(
            f"{each.process.name} ended with status {each.process.exitcode}: without memory? Give fewer workers"
        )


def _bytes_of(packed: _Packed) -> int:
    return 0 if isinstance(packed, Unfit) else len(packed[1]) + len(packed[0].extract.metadata)


def _unpacked(packed: _Packed) -> Arrival | Unfit:
    if isinstance(packed, Unfit):
        return packed
    arrival, data_set = packed
    return replace(arrival, extract=replace(arrival.extract, data_set=json_model.loads(data_set)))


def _packed(found: Arrival | Unfit) -> _Packed:
    if isinstance(found, Unfit):
        return found
    extract = found.extract
    return replace(found, extract=replace(extract, data_set={})), json_model.dumps(extract.data_set)


def _serve(pipe: Connection, open_objects: Callable[[], ObjectStore], limits: Limits) -> None:
    """Read what is asked for until nobody asks any more: the other end is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        objects = open_objects()
        while True:
            batch: list[str] = pipe.recv()
            packed: list[_Packed] = []
            size = 0
            for object_key in batch:
                found = _packed(reading.read(objects, limits, object_key))
                packed.append(found)
                size += _bytes_of(found)
                if size > _MESSAGE_BYTES:
                    pipe.send((packed, False, ""))
                    packed, size = [], 0
            pipe.send((packed, True, ""))
    except StorageError as error:
        pipe.send(([], True, str(error)))
    except (EOFError, OSError):
        return
