"""Simulated power cuts: a file system on a loop device is shut down without flushing its log, and mounted again.

SIGKILL leaves the page cache alone, so that it cannot show a missing fsync; this does. Needs root, mkfs.ext4 and loop
devices. A control file that nobody synced must be gone after each cut, or the cut was none.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.faults.harness import Book, Findings, Senders, examine
from tests.serving import Gateway

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_WITHOUT_LOG_FLUSH = 2
_IMAGE_BYTES = 1 << 30


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, directory: Path) -> None:
        self._image, self.mount_point = directory / "disk.img", directory / "disk"
        self.mount_point.mkdir()
        with self._image.open("wb") as image:
            image.truncate(_IMAGE_BYTES)
        subprocess.run(["/usr/sbin/mkfs.ext4", "-q", self._image], check=True)

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self._image, self.mount_point], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.mount_point], check=True)

    def cut(self) -> None:
        """Let nothing more reach the device, not even the journal that is in memory."""
        root = os.open(self.mount_point, os.O_RDONLY)
        fcntl.ioctl(root, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG_FLUSH))
        os.close(root)


class NoCut(Exception):
    """A file that nobody synced survived: what was simulated is no power cut."""


def run(directory: Path, cuts: int, seed: int, *, quiet: bool = True) -> tuple[Book, Findings]:
    """Cut the power under a gateway that ingests; examine everything acknowledged so far after each cut."""
    chance = random.Random(seed)
    disk, book, findings = Disk(directory), Book(), Findings()
    gateway = Gateway(disk.mount_point / "data", directory / "gateway.log")
    disk.mount()
    gateway.start()
    numbers = range(cuts)
    for number in numbers if quiet else track(numbers, "cutting the power", console=Console(stderr=True)):
        control = disk.mount_point / f"unsynced-{number}"
        with Senders(gateway, book):
            time.sleep(chance.uniform(0.5, 2.5))
            control.write_bytes(b"x" * 4096)
            disk.cut()
            gateway.kill_all()
        disk.unmount()
        disk.mount()
        if control.exists() and control.stat().st_size:
            raise NoCut
        gateway.start()
        found = examine(gateway, book)
        for name in ("lost", "changed", "partial", "rows_without_object"):
            known = getattr(findings, name)
            known.extend(each for each in getattr(found, name) if each not in known)
        findings.orphans = found.orphans
    gateway.stop()
    disk.unmount()
    return book, findings


def main() -> int:
    """Run and report; 1 when a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("power cuts are simulated as root only")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        book, findings = run(Path(directory), options.cuts, options.seed, quiet=False)
    print(findings.told(f"{options.cuts} power cuts (seed {options.seed})", book))
    return 0 if findings.ok else 1


if __name__ == "__main__":
    sys.exit(main())
