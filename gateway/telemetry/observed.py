"""Engines as they are, with every call of them counted, timed and, where traces are wanted, traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracer
from storage.index.arrivals import Commit
from storage.index.base import Index
from storage.index.relational import RelationalIndex
from storage.objects.base import ByteRange, Draft, ObjectInfo, ObjectReader, ObjectStore, Piece, Segment

P = ParamSpec("P")
T = TypeVar("T")

_PLAIN = ("close",)


class ObservedObjects:
    """An object store whose calls are observed under a name; ``open`` up to the first byte."""

    def __init__(self, store: ObjectStore, name: str, metrics: Metrics, tracer: Tracer) -> None:
        self._store = store
        self._name = name
        self._metrics = metrics
        self._tracer = tracer

    @contextmanager
    def _called(self, operation: str) -> Iterator[None]:
        with self._tracer.stage(f"{self._name} {operation}"), self._metrics.called(self._name, operation):
            yield

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        """See ObjectStore."""
        return self._wrote(lambda: self._store.put(key, body))

    def _wrote(self, put: Callable[[], ObjectInfo]) -> ObjectInfo:
        with self._called("put"):
            info = put()
        self._metrics.object_bytes.labels(self._name, "written").inc(info.size)
        return info

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:
        """See ObjectStore."""
        draft = self._store.draft(key, head, file, start)
        return None if draft is None else _ObservedDraft(draft, self._wrote)

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore."""
        opened = self._store.open(key, byte_range)
        with self._called("open"):
            reader = opened.__enter__()
        try:
            self._metrics.object_bytes.labels(self._name, "read").inc(reader.length)
            yield reader
        except BaseException as error:
            if not opened.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            opened.__exit__(None, None, None)

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        with self._called("get"):
            found = self._store.get(key, byte_range)
        self._metrics.object_bytes.labels(self._name, "read").inc(len(found))
        return found

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        with self._called("read_at"):
            found = self._store.read_at(key, start, length)
        self._metrics.object_bytes.labels(self._name, "read").inc(len(found.data))
        return found

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        with self._called("head"):
            return self._store.head(key)

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        with self._called("delete"):
            self._store.delete(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore; not timed, since whoever asks decides how long it takes."""
        return self._store.list(prefix, start_after)

    def ping(self) -> None:
        """See ObjectStore."""
        with self._called("ping"):
            self._store.ping()

    def close(self) -> None:
        """See ObjectStore."""
        self._store.close()


class _ObservedDraft:
    """What is left of a draft when it is completed counts as a put."""

    def __init__(self, draft: Draft, wrote: Callable[[Callable[[], ObjectInfo]], ObjectInfo]) -> None:
        self._draft = draft
        self._wrote = wrote

    def grown(self, length: int) -> None:
        """See Draft."""
        self._draft.grown(length)

    def complete(self, length: int) -> ObjectInfo:
        """See Draft."""
        return self._wrote(lambda: self._draft.complete(length))

    def abandon(self) -> None:
        """See Draft."""
        self._draft.abandon()


def observed_index(index: Index, metrics: Metrics, tracer: Tracer) -> Index:
    """The same index with every operation of the contract observed."""
    if isinstance(index, RelationalIndex):
        index.observe(metrics)
    return cast(Index, _ObservedIndex(index, "index", metrics, tracer))


def observed_view(index: Index, metrics: Metrics, tracer: Tracer) -> Index:
    """The same of a view's index; what is made for it did not arrive, and is not counted so."""
    return cast(Index, _ObservedIndex(index, "view_index", metrics, tracer))


class _ObservedIndex:
    """Takes its operations from the contract, so that one which is added there is observed too."""

    def __init__(self, index: Index, engine: str, metrics: Metrics, tracer: Tracer) -> None:
        self._engine = engine
        self._metrics = metrics
        self._tracer = tracer
        for name, value in vars(Index).items():
            if name.startswith("_") or not callable(value):
                continue
            call = getattr(index, name)
            setattr(self, name, call if name in _PLAIN else self._observed(name, call))

    def _observed(self, name: str, call: Callable[P, T]) -> Callable[P, T]:
        @wraps(call)
        def observed(*args: P.args, **kwargs: P.kwargs) -> T:
            with self._tracer.stage(f"{self._engine} {name}"), self._metrics.called(self._engine, name):
                result = call(*args, **kwargs)
            if isinstance(result, Commit) and self._engine == "index":
                self._metrics.commits.labels(result.outcome.value).inc()
            return result

        return observed
