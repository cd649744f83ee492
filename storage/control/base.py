"""The contract of the control state: small documents by kind and key, changed only by who has seen them last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Body = Mapping[str, Any]
"""What a document says, as JSON has it."""

MAX_BODY_BYTES = 64 << 10
"""Longest body, written as JSON."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document. ``revision`` is another after each change; after ``expires_at_s`` (Unix time) it is not there."""

    kind: str
    key: str
    body: Body
    revision: int
    expires_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """How often something has failed, and when it did so last (Unix time)."""

    count: int
    last_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened, and when (Unix time). ``key`` is of this entry alone."""

    at_s: float
    key: str
    body: Body


MAX_FAILURES = 100_000
"""So many names have their failures kept by ``sweep``, those that would be forgotten last."""


class ControlStore(Protocol):
    """Documents that all processes, on all hosts, see alike. Safe to use from several threads.

    Raises
    ------
    storage.errors.StorageUnavailable, storage.errors.StorageFull
        From every method, when the engine does not answer or has no room.
    """

    def get(self, kind: str, key: str) -> Document | None:
        """A document, unless it has expired."""
        ...

    def list(self, kind: str, after: str = "", limit: int = 1000) -> Sequence[Document]:
        """Documents of a kind in the order of their keys, from behind ``after``; none that has expired."""
        ...

    def put(
        self, kind: str, key: str, body: Body, *, expected: int | None, expires_at_s: float | None = None
    ) -> int | None:
        """Write a document durably; its revision, None when somebody else came first.

        ``expected`` is the revision that is replaced; None says that there is none.
        """
        ...

    def delete(self, kind: str, key: str) -> bool:
        """Remove a document; whether it was there."""
        ...

    def extend(self, kind: str, key: str, expires_at_s: float) -> bool:
        """Let a document that has not expired do so at another time; whether it is there.

        No revision is another by that: what the document says stays.
        """
        ...

    def revision(self) -> int:
        """A number that grows with every change of what any document says."""
        ...

    def failures(self, names: Sequence[str], at_s: float) -> Mapping[str, Failures]:
        """The failures of names, of which some have any that are not forgotten yet."""
        ...

    def count_failure(self, names: Sequence[str], at_s: float, kept_s: float) -> Mapping[str, Failures]:
        """Count one more for each of some names, all or none, and forget them when there is none for so long.

        No revision is another by that.
        """
        ...

    def log(self, name: str, entries: Sequence[Entry], kept: int) -> None:
        """Add to a log, of which the latest ``kept`` entries stay; what it has already, it does not take again.

        For what is good to know and no loss: it is in no backup, and no revision is another by that.
        """
        ...

    def logged(self, name: str, limit: int) -> Sequence[Entry]:
        """The entries of a log, latest first."""
        ...

    def sweep(self) -> int:
        """Remove what has expired or is forgotten; how many."""
        ...

    def ping(self) -> None:
        """Ask the engine for an answer."""
        ...

    def close(self) -> None:
        """Let go of the engine. Idempotent."""
        ...


def change(store: ControlStore, kind: str, key: str, made: Callable[[Body], Body | None]) -> Document | None:
    """Change a document by a function of what it says, however many others do so at the same time.

    The document as it then is; None when it is not there, or the function says by None that it stays as it is.
    """
    while (found := store.get(kind, key)) is not None:
        body = made(found.body)
        if body is None:
            return None
        revision = store.put(kind, key, body, expected=found.revision, expires_at_s=found.expires_at_s)
        if revision is not None:
            return Document(kind, key, body, revision, found.expires_at_s)
    return None


def every(store: ControlStore, kind: str) -> Iterator[Document]:
    """All documents of a kind, page after page; what comes meanwhile may be missed."""
    after = ""
    while page := store.list(kind, after):
        yield from page
        after = page[-1].key


def now_s() -> float:
    """Unix time, by which documents expire."""
    return time.time()
