"""The machine that is measured on: what it has to have done before, and what its processes took."""

from __future__ import annotations

import contextlib
import mmap
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROCESSORS = len(os.sched_getaffinity(0))
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STEP_BYTES = 256 << 20
_KEPT_FREE = 0.1
_FILES = 30


def touch_memory() -> None:
    """Touch the memory that is free, once, and give it back.

    A virtual machine gets each page from its host when it is first used. Then a file of 526 KB takes more than a
    millisecond to write, instead of 0.1: of a server that has run for a day nobody would see that.
    """
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemFree"].split()[0]) * 1024
    held = []
    for _ in range(int(free * (1 - _KEPT_FREE)) // _STEP_BYTES):
        step = mmap.mmap(-1, _STEP_BYTES)
        for start in range(0, _STEP_BYTES, mmap.PAGESIZE):
            step[start] = 1
        held.append(step)
    for step in held:
        step.close()


def new_file_us(directory: Path) -> float:
    """What it takes to make a file there, with the disk as it is.

    Where much was removed in the last five minutes, ext4 passes over the inodes that were in use: a millisecond instead
    of 15 us. ``chattr +T`` on the directory above has what is made in it begin in another place of the disk.
    """
    taken_s = []
    for number in range(_FILES):
        started_s = time.perf_counter()
        with (directory / f"new-{number}").open("xb"):
            taken_s.append(time.perf_counter() - started_s)
    return statistics.median(taken_s) * 1e6


def processor_s(pid: int) -> float:
    """Processor time of a process and all below it."""
    spent = 0.0
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # Its own, and that of what it has waited for: DCMTK has a process for each association.
        spent = sum(map(int, fields[11:15])) / _TICKS_PER_S
        spent += sum(processor_s(child) for child in _children(pid))
    return spent


@dataclass(frozen=True, slots=True)
class Resident:
    """Memory of a process; of what several share each has its part. ``files`` are pages the kernel can take back."""

    title: str
    size: int
    files: int


def resident(pid: int) -> list[Resident]:
    """Memory of a process and of each below it."""
    found = []
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":", 1) for line in lines)}
        found.append(Resident(_title(pid), sizes["Pss"], sizes["Pss_File"]))
        for child in _children(pid):
            found += resident(child)
    return found


def told(processes: Sequence[Resident]) -> str:
    """The memory of all of them, and of each."""
    size, files = sum(each.size for each in processes), sum(each.files for each in processes)
    parts = ", ".join(f"{each.title} {each.size / 1e6:.0f}" for each in processes)
    return f"{size / 1e6:.0f} MB, {files / 1e6:.0f} of them pages of files ({parts})"


def _title(pid: int) -> str:
    """What it calls itself; a program of Python's by its module."""
    words = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    return words[words.index("-m") + 1] if "-m" in words else Path(words[0]).name


def busy_s() -> float:
    """Processor time that the whole machine has spent, or that was taken from it."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / _TICKS_PER_S


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
