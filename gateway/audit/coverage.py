"""What a search of the trail covers: the trails whose files it reads, and others of which only checkpoints tell."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit import checkpoints, verifying
from storage.errors import StorageError
from storage.objects.base import ObjectStore

_ASKED_EVERY_S = 60.0
_NAMED = 10
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A trail that is not in the directories read, with the times of its first and last checkpoint."""

    trail: str
    first: datetime.datetime
    last: datetime.datetime

    def concerns(self, since: str, until: str) -> bool:
        """Whether it may have records from one time on and before another, in ISO 8601; "" is without bound.

        A checkpoint comes some time after what it names, and a host that was killed has put no last one.
        """
        first, last = ((self.first - _DAY).date().isoformat(), (self.last + _DAY).date().isoformat())
        return (not since or since[:10] <= last) and (not until or until[:10] >= first)

    def __str__(self) -> str:
        return f"{self.trail} ({self.first.date()} to {self.last.date()})"


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was read, and what was not, latest first; ``elsewhere`` is None where the object store did not say."""

    here: Sequence[str]
    elsewhere: Sequence[Elsewhere] | None

    def of(self, since: str, until: str) -> Coverage:
        """What concerns a time."""
        if self.elsewhere is None:
            return self
        return Coverage(self.here, [each for each in self.elsewhere if each.concerns(since, until)])

    def fields(self) -> dict[str, object]:
        """For programs: the trails that were read, and those that were not; None where that is not known."""
        others = None
        if self.elsewhere is not None:
            others = [
                {"trail": each.trail, "first": each.first.isoformat(), "last": each.last.isoformat()}
                for each in self.elsewhere
            ]
        return {"trails": list(self.here), "elsewhere": others}

    @property
    def gap(self) -> str:
        """What may be missing from the answer; "" for nothing."""
        here = ", ".join(self.here) if len(self.here) <= _NAMED else f"{len(self.here)} trails"
        here = here or "none"
        if self.elsewhere is None:
            return f"whether other hosts have records is not known: the object store does not answer; read: {here}"
        if not self.elsewhere:
            return ""
        others = ", ".join(str(each) for each in self.elsewhere[:_NAMED])
        if len(self.elsewhere) > _NAMED:
            others += f" and {len(self.elsewhere) - _NAMED} more"
        return f"records of other hosts are missing, of the trails {others}; read: {here}"


@dataclass(slots=True)
class Known:
    """What does not change, or only at its end: the trails of files, and the first and last checkpoint of trails."""

    files: dict[Path, str] = field(default_factory=dict)
    spans: dict[str, tuple[str, str]] = field(default_factory=dict)


def coverage(objects: ObjectStore, directories: Sequence[Path], known: Known | None = None) -> Coverage:
    """Compare directories with the checkpoints of all hosts that share an object store. Raises OSError."""
    known = known or Known()
    here = verifying.trails(directories, known.files)
    others: list[Elsewhere] = []
    try:
        for trail in checkpoints.trails(objects):
            if trail not in here:
                first, last = known.spans[trail] = checkpoints.span(objects, trail, known.spans.get(trail))
                others.append(Elsewhere(trail, checkpoints.moment(first), checkpoints.moment(last)))
    except StorageError:
        return Coverage(here, None)
    return Coverage(here, sorted(others, key=lambda each: each.last, reverse=True))


class LiveCoverage:
    """The same, asked for once a minute at the most. Safe to use from several threads."""

    def __init__(self, objects: ObjectStore, directories: Callable[[], Sequence[Path]]) -> None:
        self._objects = objects
        self._directories = directories
        self._lock = threading.Lock()
        self._found: Coverage | None = None
        self._known = Known()
        self._asked_s = 0.0

    def current(self) -> Coverage:
        """What a search covers now. Raises OSError."""
        with self._lock:
            if self._found is None or time.monotonic() > self._asked_s + _ASKED_EVERY_S:
                self._found = coverage(self._objects, self._directories(), self._known)
                self._asked_s = time.monotonic()
            return self._found
