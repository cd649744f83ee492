"""What every command says to the person or script that gave it: answers on standard output, the rest on standard error.

Exit status: 0 when everything is well, 1 when the work failed or found something wrong, 2 when the command line was not
understood. Names that come from outside (paths, keys) are shown with their control characters escaped.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

OK, FAILED, USAGE = 0, 1, 2
SHOWN = 20
"""Faults that a report names one by one; a JSON report has more."""

_LINE_EVERY_S = 10.0


def out() -> Console:
    """Standard output as it is now."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Standard error as it is now."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def error(text: str) -> None:
    """Say what went wrong, and what to do."""
    err().print(f"[red]error[/] {safe(text)}")


def note(text: str) -> None:
    """Say what a person should know although it is not the answer."""
    err().print(f"[yellow]note[/] {safe(text)}")


def answer(text: str) -> None:
    """A line of the command's answer, for a person."""
    out().print(safe(text))


def report(found: Mapping[str, object]) -> None:
    """The command's answer, for a script: one JSON document."""
    print(json.dumps(found, indent=2, ensure_ascii=True))


def safe(text: str) -> str:
    """A text that can neither style nor steer the terminal."""
    return escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text))


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
