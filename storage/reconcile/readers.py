"""Objects read in this process or by several, given back in the order in which they were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Protocol

from storage.crew import Crew
from storage.dicom import json_model
from storage.dicom.limits import Limits
from storage.index.arrivals import Arrival
from storage.objects.base import ObjectStore
from storage.reconcile import reading
from storage.reconcile.reading import Unfit

_MESSAGE_BYTES = 4 << 20


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
        start = partial(_PackingReader, open_objects, limits)
        self._crew: Crew[str, _Packed] = Crew(start, count, "reader", size_of=_bytes_of)

    @property
    def pids(self) -> list[int]:
        """Process ids of those that read."""
        return self._crew.pids

    def __enter__(self) -> ReadingProcesses:
        self._crew.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.__exit__(kind, error, trace)

    def read(self, batches: Iterable[Sequence[str]]) -> Iterator[Arrival | Unfit]:
        """See Readers."""
        return map(_unpacked, self._crew.answers(batches))


class _PackingReader:
    """What works in a reading process."""

    def __init__(self, open_objects: Callable[[], ObjectStore], limits: Limits, name: str) -> None:  # noqa: ARG002
        self._objects = open_objects()
        self._limits = limits

    def work(self, batch: Sequence[str]) -> Iterator[Sequence[_Packed]]:
        packed: list[_Packed] = []
        size = 0
        for object_key in batch:
            found = _packed(reading.read(self._objects, self._limits, object_key))
            packed.append(found)
            size += _bytes_of(found)
            if size > _MESSAGE_BYTES:
                yield packed
                packed, size = [], 0
        yield packed

    def close(self) -> None:
        self._objects.close()


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
