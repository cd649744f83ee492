"""What a machine has to have done before it is measured."""

from __future__ import annotations

import mmap
from pathlib import Path

_STEP_BYTES = 256 << 20
_KEPT_FREE = 0.1


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
