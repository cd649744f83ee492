"""An import from its sources to its report."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

from gateway.importing.items import TAKEN, WRONG, Fate, Item, Source, Told
from gateway.importing.journal import Journal
from storage.crew import Crew
from storage.errors import StorageUnavailable

_BATCH = 128
_BATCH_BYTES = 64 << 20
_NAMED = 1000
"""Files that a report names; a report file names all."""


@dataclass(slots=True)
class Report:
    """What became of the files so far. ``size`` is the bytes of those that were looked at or done before."""

    fates: Counter[Fate] = field(default_factory=Counter)
    before: int = 0
    files: int = 0
    size: int = 0
    wrong: list[Told] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many files somebody has to look at."""
        return sum(self.fates[fate] for fate in WRONG)


@dataclass(frozen=True, slots=True)
class Amount:
    """How much there is to do."""

    files: int = 0
    size: int = 0


def measure(sources: Iterable[Source], progress: Callable[[Amount], None]) -> Amount:
    """Count files and bytes."""
    files = size = 0
    for number, source in enumerate(sources):
        for entry in source.entries(number):
            if isinstance(entry, Item):
                files += 1
                size += entry.size
                progress(Amount(files, size))
    return Amount(files, size)


class Import:
    """One run.

    Parameters
    ----------
    journal
        What was done before, and will be; None for a run that stores nothing.
    report_file
        Takes a JSON line for each file that was not stored, and why.
    """

    def __init__(self, sources: tuple[Source, ...], journal: Journal | None, report_file: TextIO | None) -> None:
        self._sources = sources
        self._journal = journal
        self._report_file = report_file
        self.report = Report()

    def run(self, crew: Crew[Item, Told], progress: Callable[[Report], None]) -> None:
        """Store everything. Raises StorageUnavailable when the archive takes nothing any more."""
        done: list[tuple[Item, Told]] = []
        given: deque[Item] = deque()
        try:
            for told in crew.answers(self._batches(given)):
                item = given.popleft()
                if told.fate is Fate.STOPPED:
                    raise StorageUnavailable(f"the import stopped: {told.reason}")
                done.append((item, told))
                self._tell(told)
                self.report.files += 1
                self.report.size += item.size
                if len(done) >= _BATCH:
                    self._note(done)
                    progress(self.report)
        finally:
            self._note(done)
        progress(self.report)

    def _note(self, done: list[tuple[Item, Told]]) -> None:
        if self._journal is not None:
            self._journal.note(done)
        done.clear()

    def _batches(self, given: deque[Item]) -> Iterator[list[Item]]:
        batch: list[Item] = []
        size = 0
        for item in self._left():
            batch.append(item)
            size += item.size
            if len(batch) >= _BATCH or size >= _BATCH_BYTES:
                given.extend(batch)
                yield batch
                batch, size = [], 0
        given.extend(batch)
        if batch:
            yield batch

    def _left(self) -> Iterator[Item]:
        """The files of every source that no earlier run has dealt with."""
        for number, source in enumerate(self._sources):
            for entry in source.entries(number):
                if isinstance(entry, Told):
                    self._tell(entry)
                    continue
                fate = None if self._journal is None else self._journal.fate(entry)
                if fate is None:
                    yield entry
                    continue
                self.report.files += 1
                self.report.size += entry.size
                self.report.before += 1
                if fate is Fate.QUARANTINED:
                    self._tell(Told(entry.name, fate, "by an earlier run"))

    def _tell(self, told: Told) -> None:
        report = self.report
        report.fates[told.fate] += 1
        if told.fate in WRONG and len(report.wrong) < _NAMED:
            report.wrong.append(told)
        if self._report_file is not None and told.fate not in TAKEN:
            line = {"file": told.name, "outcome": told.fate.value, "reason": told.reason}
            self._report_file.write(json.dumps(line) + "\n")
