"""What every command says to the person or script that gave it: answers on standard output, the rest on standard error.

The exit statuses of all commands are those of ``STATUSES``. Names that come from outside (paths, keys) are shown with
their control characters escaped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

OK, FAILED, USAGE, UNREACHED, INTERRUPTED = 0, 1, 2, 3, 130
STATUSES = {
    OK: "everything is well",
    FAILED: "the work failed, or found something wrong",
    USAGE: "the command line was not understood; nothing was done",
    UNREACHED: "the peer or gateway cannot be reached, or refuses; the same command goes on later",
    INTERRUPTED: "interrupted by Ctrl-C or SIGTERM",
}
"""What the exit status of a command says; the greatest counts of several."""
SHOWN = 20
"""Faults that a report names one by one; a JSON report has more."""

_LINE_EVERY_S = 10.0
_THOUSAND = 1000


def out() -> Console:
    """Standard output as it is now."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Standard error as it is now."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def error(text: str) -> None:
    """Say what went wrong, and what to do."""
    err().print(f"[red]error[/] {safe(text)}")


def advise(text: str) -> None:
    """Say what to do next, if there is something to say."""
    if text:
        err().print(f"[cyan]next[/] {safe(text)}")


def note(text: str) -> None:
    """Say what a person should know although it is not the answer."""
    err().print(f"[yellow]note[/] {safe(text)}")


def answer(text: str) -> None:
    """A line of the command's answer, for a person."""
    out().print(safe(text))


def report(found: Mapping[str, object]) -> None:
    """The command's answer, for a script: one JSON document."""
    print(json.dumps(found, indent=2, ensure_ascii=True))


def done(options: argparse.Namespace, found: Mapping[str, object], text: str) -> None:
    """What was done, as the one who asked wants it: as one JSON document, or as a line for a person."""
    if options.json:
        report(found)
    else:
        answer(text)


def safe(text: str) -> str:
    """A text that can neither style nor steer the terminal."""
    return escape(safe_text(text))


def safe_text(text: str) -> str:
    """A text that cannot steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], longest: int = 40) -> None:
    """A part of the answer in aligned columns, for a person; all columns but the last are cut off at a length."""
    written = [[_cut(safe_text(cell), longest) for cell in row[:-1]] + [safe_text(row[-1])] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(head, *written, strict=True)]
    console = out()
    for number, row in enumerate([list(head), *written]):
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        line = escape("  ".join(cells).rstrip())
        console.print(line if number else f"[bold]{line}[/]")


def pairs(lines: Iterable[tuple[str, str]]) -> None:
    """A part of the answer as names and what is to be said of each, for a person."""
    found = list(lines)
    width = max((cell_len(name) for name, _ in found), default=0)
    for name, text in found:
        out().print(f"  [bold]{safe(name.ljust(width))}[/]  {safe(text)}")


def size(count: float) -> str:
    """A number of bytes as a person says it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < _THOUSAND:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= _THOUSAND
    return f"{count:,.1f} TB"


def _cut(text: str, longest: int) -> str:
    return text if cell_len(text) <= longest else set_cell_size(text, longest - 1).rstrip() + "…"


def report_file(path: Path) -> TextIO:
    """A file for a JSON line of each thing that went wrong, readable for its owner alone: names may be patients'."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii")


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Meter:
    """The progress of long work; safe to call as often as one likes."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.detail = ""
        self._started_s = time.monotonic()

    @property
    def passed_s(self) -> float:
        """Seconds since it began."""
        return max(time.monotonic() - self._started_s, 1e-3)

    def update(self, done: int, total: int | None = None, detail: str = "") -> None:
        """``done`` of ``total`` are done; ``detail`` is told beside them."""
        self.done = done
        self.detail = detail
        if total is not None:
            self.total = total

    def line(self) -> str:
        """The state as a line: done, rate, time left."""
        rate = self.done / self.passed_s
        text = f"{self.title}: {self.done}" + (f" of {self.total}" if self.total is not None else "")
        text += f", {rate:.0f}/s"
        if self.total and rate:
            text += f", {max(self.total - self.done, 0) / rate:.0f} s left"
        return text + (f", {self.detail}" if self.detail else "")


class _Bar(Meter):
    def __init__(self, title: str, total: int | None, progress: Progress) -> None:
        super().__init__(title, total)
        self._progress = progress
        self._task = progress.add_task(title, total=total, detail="")

    def update(self, done: int, total: int | None = None, detail: str = "") -> None:
        super().update(done, total, detail)
        self._progress.update(self._task, completed=done, total=self.total, detail=detail)


class _Lines(Meter):
    def __init__(self, title: str, total: int | None) -> None:
        super().__init__(title, total)
        self._next_s = time.monotonic() + _LINE_EVERY_S

    def update(self, done: int, total: int | None = None, detail: str = "") -> None:
        super().update(done, total, detail)
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_EVERY_S
            err().print(escape(self.line()))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Meter]:
    """A bar with rate and time left on a terminal; elsewhere a line every ten seconds, and one at the end."""
    console = err()
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[detail]}"), console=console) as bars:
            yield _Bar(title, total, bars)
        return
    lines = _Lines(title, total)
    try:
        yield lines
    finally:
        with suppress(BrokenPipeError):
            console.print(escape(lines.line()))
