"""Simulated power cuts: a file system on a loop device is shut down without flushing its log, and mounted again.

SIGKILL leaves the page cache alone, so that it cannot show a missing fsync; this does. Needs root, mkfs.ext4 and loop
devices. A control file that nobody synced must be gone after each cut, or the cut was none.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.faults.disk import Disk, can_be_made
from tests.faults.harness import Book, Crowd, Findings, examine
from tests.serving import Gateway


class NoCut(Exception):
    """A file that nobody synced survived: what was simulated is no power cut."""


def run(directory: Path, cuts: int, seed: int, *, quiet: bool = True) -> tuple[Book, Findings]:
    """Cut the power under a gateway that ingests; examine everything acknowledged so far after each cut."""
    chance = random.Random(seed)
    disk, book, findings = Disk(directory), Book(), Findings()
    gateway = Gateway(disk.mount_point / "data", directory / "gateway.log", GATEWAY_STORAGE__MIN_FREE_BYTES="0")
    disk.mount()
    try:
        gateway.start()
        numbers = range(cuts)
        for number in numbers if quiet else track(numbers, "cutting the power", console=Console(stderr=True)):
            _cut(disk, gateway, book, chance.uniform(0.5, 2.5), f"unsynced-{number}")
            gateway.start()
            findings.add(examine(gateway, book))
        gateway.stop()
    finally:
        gateway.kill_all()
        disk.detach()
    return book, findings


def _cut(disk: Disk, gateway: Gateway, book: Book, after_s: float, control_name: str) -> None:
    """Let the gateway ingest, cut the power, and have the disk back as it is then; the gateway is down."""
    control = disk.mount_point / control_name
    with Crowd(gateway, book):
        time.sleep(after_s)
        control.write_bytes(b"x" * 4096)
        told = list(book.lies)
        disk.cut()
        gateway.kill_all()
    # What a gateway says on a disk that is gone, before it is killed, no machine without power says.
    book.lies[:] = told
    disk.unmount()
    disk.mount()
    if control.exists() and control.stat().st_size:
        raise NoCut


def main() -> int:
    """Run and report; 1 when a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    if not can_be_made():
        print("power cuts are simulated as root only, with mkfs.ext4 and loop devices")
        return 1
    with tempfile.TemporaryDirectory() as directory:
        book, findings = run(Path(directory), options.cuts, options.seed, quiet=False)
    print(findings.told(f"{options.cuts} power cuts (seed {options.seed})", book))
    return 0 if findings.ok else 1


if __name__ == "__main__":
    sys.exit(main())
