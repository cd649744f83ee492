"""kill -9 at random moments of ingest: what was acknowledged is found and equal, nothing partial is seen."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.faults.harness import Book, Findings, Senders, examine
from tests.serving import Gateway


def run(directory: Path, rounds: int, seed: int, *, quiet: bool = True) -> tuple[Book, Findings]:
    """Hurt a gateway ``rounds`` times: mostly one worker, now and then the supervisor or everything at once."""
    chance = random.Random(seed)
    gateway, book = Gateway(directory / "data", directory / "gateway.log"), Book()
    gateway.start()
    try:
        with Senders(gateway, book):
            numbers = range(rounds)
            for _ in numbers if quiet else track(numbers, "killing", console=Console(stderr=True)):
                time.sleep(chance.uniform(0.05, 0.8))
                kind = chance.random()
                workers = gateway.workers()
                if kind < 0.8 and workers:
                    gateway.kill(chance.choice(workers))
                    continue
                if kind < 0.9:
                    gateway.kill_supervisor()
                else:
                    gateway.kill_all()
                gateway.start()
        gateway.kill_all()
        gateway.start()
        return book, examine(gateway, book)
    finally:
        gateway.stop()


def main() -> int:
    """Run and report; 1 when a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        book, findings = run(Path(directory), options.rounds, options.seed, quiet=False)
    print(findings.told(f"{options.rounds} kills (seed {options.seed})", book))
    return 0 if findings.ok else 1


if __name__ == "__main__":
    sys.exit(main())
