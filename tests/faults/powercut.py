"""Simulated power cuts: a file system on a loop device is shut down without flushing its log, and mounted again.

SIGKILL leaves the page cache alone, so that it cannot show a missing fsync; this does. Needs root, mkfs.ext4 and loop
devices. A control file that nobody synced must be gone after each cut, or the cut was none.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.engines import Engines
from tests.faults.disk import Disk, can_be_made
from tests.faults.harness import Book, Crowd, Findings, examine
from tests.postgres import Postgres
from tests.serving import Gateway

WITH_POSTGRES = "local+postgres"
PAIRS = ("local+sqlite", WITH_POSTGRES)
"""Engines that keep everything on the disk."""


class NoCut(Exception):
    """A file that nobody synced survived: what was simulated is no power cut."""


class Machine:
    """A gateway on a disk of its own, with PostgreSQL on the same one where the pair of engines asks for it."""

    def __init__(self, directory: Path, pair: str) -> None:
        self._disk = Disk(directory)
        self._disk.mount()
        self._database: Postgres | None = None
        sections: dict[str, dict[str, str]] = {}
        if pair == WITH_POSTGRES:
            # The server runs as a user of its own, who has to get there.
            directory.chmod(0o755)
            self._database = Postgres(self._disk.mount_point / "postgres", fsync=True)
            # Its configuration is ours to make durable.
            os.sync()
            sections["index"] = {"engine": "postgres", "url": self._database.url}
        data, log = self._disk.mount_point / "data", directory / "gateway.log"
        self.gateway = Gateway(data, log, Engines(sections), GATEWAY_STORAGE__MIN_FREE_BYTES="0")

    def work(self, book: Book, for_s: float, control_name: str) -> None:
        """Let the gateway ingest, cut the power, and have the disk back as it is then; the gateway is down."""
        control = self._disk.mount_point / control_name
        with Crowd(self.gateway, book):
            time.sleep(for_s)
            control.write_bytes(b"x" * 4096)
            told = list(book.lies)
            self._disk.cut()
            self._kill()
        # What a gateway says on a disk that is gone, before it is killed, no machine without power says.
        book.lies[:] = told
        self._disk.unmount()
        self._disk.mount()
        if control.exists() and control.stat().st_size:
            raise NoCut
        if self._database is not None:
            self._database.start()

    def _kill(self) -> None:
        self.gateway.kill_all()
        if self._database is not None:
            self._database.kill()

    def close(self) -> None:
        """Leave nothing running and nothing mounted."""
        self.gateway.kill_all()
        if self._database is not None:
            self._database.stop()
        self._disk.detach()


def run(directory: Path, cuts: int, seed: int, pair: str = PAIRS[0], *, quiet: bool = True) -> tuple[Book, Findings]:
    """Cut the power under a gateway that ingests; examine everything acknowledged so far after each cut."""
    chance = random.Random(seed)
    book, findings = Book(), Findings()
    machine = Machine(directory, pair)
    try:
        machine.gateway.start()
        numbers = range(cuts)
        for number in numbers if quiet else track(numbers, "cutting the power", console=Console(stderr=True)):
            machine.work(book, chance.uniform(0.5, 2.5), f"unsynced-{number}")
            machine.gateway.start()
            findings.add(examine(machine.gateway, book))
        machine.gateway.stop()
    finally:
        machine.close()
    return book, findings


def main() -> int:
    """Run and report; 1 when a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", choices=PAIRS, default=PAIRS[0])
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    if not can_be_made():
        print("power cuts are simulated as root only, with mkfs.ext4 and loop devices")
        return 1
    with tempfile.TemporaryDirectory() as directory:
        book, findings = run(Path(directory), options.cuts, options.seed, options.engines, quiet=False)
    print(findings.told(f"{options.engines}, {options.cuts} power cuts (seed {options.seed})", book))
    return 0 if findings.ok else 1


if __name__ == "__main__":
    sys.exit(main())
