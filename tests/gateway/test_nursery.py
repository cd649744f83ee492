"""What workers are forked from: from a process that may be forked, and with what it may hold."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from gateway.nursery import Nursery


def _children() -> set[str]:
    return {each for task in Path("/proc/self/task").iterdir() for each in (task / "children").read_text().split()}


def test_a_process_with_threads_is_not_forked_from() -> None:
    before, end = _children(), threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        nursery = Nursery.forked()
        assert _children() == before
        nursery.close()
    finally:
        end.set()
        thread.join()


def test_what_is_forked_holds_nothing_open_but_its_channel_and_ends_with_it(tmp_path: Path) -> None:
    """Whatever a caller has open, such as a lock, would be held as long as there are workers."""
    script = """
import os, sys
from pathlib import Path
from gateway.nursery import Nursery
held = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
nursery = Nursery.forked()
(pid,) = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
command = Path("/proc", pid, "cmdline")
while not command.read_text().startswith("gateway nursery"):
    pass
print(*(each.readlink() for each in Path("/proc", pid, "fd").iterdir()), sep="\\n")
nursery.close()
assert not command.exists()
"""
    held = tmp_path / "held"
    ended = subprocess.run(
        [sys.executable, "-c", script, str(held)], capture_output=True, text=True, timeout=60, check=True
    )
    opened = ended.stdout.splitlines()
    assert str(held) not in opened
    assert os.devnull in opened
