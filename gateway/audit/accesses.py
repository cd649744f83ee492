"""Accesses: many requests for one study or series, recorded at the first and counted from then on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.audit.events import BATCHED, BREAK_GLASS, SEARCHES, AuditEvent, Counts
from gateway.errors import AuditUnavailable

_MOST = 10_000
"""Accesses under way in one process; a further one ends the oldest."""

Write = Callable[[AuditEvent], tuple[int, str]]
"""Writes a record; its number and its time."""


@dataclass(eq=False, slots=True)
class _Entry:
    event: AuditEvent
    until_s: float
    written: threading.Lock = field(default_factory=threading.Lock)
    first: int = 0
    since: str = ""
    requests: int = 0
    instances: int = 0
    frames: int = 0
    bytes: int = 0
    matches: int = 0

    def take(self) -> Counts:
        """What was counted, which is nothing from now on."""
        found = Counts(self.first, self.since, self.requests, self.instances, self.frames, self.bytes, self.matches)
        self.requests = self.instances = self.frames = self.bytes = self.matches = 0
        return found

    def give_back(self, counts: Counts) -> None:
        """Count again what was taken."""
        self.requests += counts.requests
        self.instances += counts.instances
        self.frames += counts.frames
        self.bytes += counts.bytes
        self.matches += counts.matches


class Access:
    """One caller's access, to count what it takes; counts are recorded when its window ends, or later ones after it."""

    def __init__(self, accesses: Accesses | None = None, entry: _Entry | None = None) -> None:
        self._accesses = accesses
        self._entry = entry

    def took(self, *, instances: int = 0, frames: int = 0, size: int = 0, matches: int = 0) -> None:
        """Count; ``size`` in bytes, ``matches`` of a search."""
        if self._accesses is not None and self._entry is not None:
            self._accesses.count(self._entry, instances, frames, size, matches)


UNCOUNTED = Access()


class Accesses:
    """The accesses of one process. Safe to use from several threads.

    Parameters
    ----------
    write
        Raises AuditUnavailable.
    window_s
        How long requests count as one access; 0 records each by itself.
    """

    def __init__(self, write: Write, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[object, _Entry] = {}
        self._over: dict[int, _Entry] = {}

    def begin(self, event: AuditEvent) -> Access:
        """Record a request, or count it with those before it. On return it is as good as recorded.

        Raises
        ------
        AuditUnavailable
            It is not, and has to be refused.
        """
        if not self._window_s:
            self._write(event)
            return UNCOUNTED
        if event.action in SEARCHES and event.outcome != "denied":
            return self._search(event)
        if not _is_batched(event):
            self._write(event)
            return UNCOUNTED
        key, now_s = _key(event), self._clock()
        with self._lock:
            entry, first = self._entry(key, event, now_s)
            if first:
                entry.written.acquire()
            entry.requests += 1
        if first:
            self._record_first(key, entry)
        elif not entry.first:
            with entry.written:  # whoever came first is just writing the record
                if not entry.first:
                    raise AuditUnavailable("the audit trail cannot be written")
        return Access(self, entry)

    def _search(self, event: AuditEvent) -> Access:
        """Each is recorded with what it asks for; what those of one window found is counted together."""
        number, time = self._write(event)
        event = replace(event, subject=(), detail="", query="")
        with self._lock:
            entry, first = self._entry(_key(event), event, self._clock())
            if first:
                entry.first, entry.since = number, time
            entry.requests += 1
        return Access(self, entry)

    def _entry(self, key: object, event: AuditEvent, now_s: float) -> tuple[_Entry, bool]:
        """The entry whose window it is, and whether it has just begun."""
        entry = self._open.get(key)
        if entry is not None and entry.until_s > now_s:
            return entry, False
        if entry is not None:
            self._end(key, entry)
        elif len(self._open) >= _MOST:
            self._end(*next(iter(self._open.items())))
        entry = self._open[key] = _Entry(event, now_s + self._window_s)
        return entry, True

    def _record_first(self, key: object, entry: _Entry) -> None:
        try:
            entry.first, entry.since = self._write(entry.event)
        except AuditUnavailable:
            with self._lock:
                if self._open.get(key) is entry:
                    del self._open[key]
            raise
        finally:
            entry.written.release()

    def _end(self, key: object, entry: _Entry) -> None:
        self._open.pop(key)
        self._over[id(entry)] = entry

    def count(self, entry: _Entry, instances: int, frames: int, size: int, matches: int) -> None:
        """Add to what an access took."""
        with self._lock:
            entry.instances += instances
            entry.frames += frames
            entry.bytes += size
            entry.matches += matches
            if self._open.get(_key(entry.event)) is not entry:
                self._over[id(entry)] = entry

    def complete(self, *, everything: bool = False) -> None:
        """Record what the accesses took whose window is over, or all of them. Raises AuditUnavailable: try again."""
        now_s = self._clock()
        with self._lock:
            for key, entry in list(self._open.items()):
                if not everything and entry.until_s > now_s:
                    break
                self._end(key, entry)
            over = list(self._over.values())
        for entry in over:
            with self._lock:
                counts = entry.take()
                self._over.pop(id(entry), None)
            try:
                self._complete(entry.event, counts)
            except AuditUnavailable:
                with self._lock:
                    entry.give_back(counts)
                    self._over[id(entry)] = entry
                raise

    def _complete(self, event: AuditEvent, counts: Counts) -> None:
        if not counts.first:
            return  # its first record was never written, and every request refused
        if event.outcome == "denied":
            if counts.requests > 1:
                self._write(replace(event, counts=replace(counts, requests=counts.requests - 1)))
            return
        self._write(replace(event, outcome="completed", subject=event.subject[:2], counts=counts))


def _is_batched(event: AuditEvent) -> bool:
    return event.outcome == "denied" or (event.outcome in ("allowed", BREAK_GLASS) and event.action in BATCHED)


def _key(event: AuditEvent) -> object:
    caller = event.caller
    source = caller.source if caller is not None else None
    who = caller and (
        caller.principal, source and (source.protocol, source.address, source.calling_ae_title, source.called_ae_title)
    )  # fmt: skip
    if event.outcome == "denied":
        return event.action, event.outcome, event.tenant, event.view, who, event.subject, event.detail
    return event.action, event.outcome, event.tenant, event.view, who, event.subject[:2], event.detail
