"""Something is killed, filled up or cut off while a gateway ingests: what was acknowledged stays, and is found.


python -m tests.faults.rounds [--engines PAIR] [--rounds N] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.engines import PAIRS
from tests.faults.disk import can_be_made
from tests.faults.harness import Book, Crowd, Findings, examine
from tests.faults.site import Site, started

_RECOVERS_WITHIN_S = 90.0


class NotRecovered(Exception):
    """Nothing was acknowledged any more after a fault was over."""


def run(
    directory: Path, pair: str, rounds: int, seed: int, *, quiet: bool = True
) -> tuple[Book, Findings, Counter[str]]:
    """Hurt a gateway ``rounds`` times; the book, what was wrong, and how often each fault happened."""
    chance, book, done = random.Random(seed), Book(), Counter[str]()
    # Small, so that it is filled up at once, but with room for what is stored in all rounds and never removed.
    disk_bytes = (128 << 20) + rounds * (8 << 20) if pair.startswith("local") and can_be_made() else 0
    with started(directory, pair, chance, disk_bytes=disk_bytes) as site:
        names = _drawn(site, rounds, chance)
        with Crowd(site.gateway, book):
            for name in names if quiet else track(names, f"hurting {pair}", console=Console(stderr=True)):
                time.sleep(chance.uniform(0.05, 0.8))
                site.faults[name][1]()
                done[name] += 1
                if name != "a worker":
                    _await_recovery(book, name)
        site.gateway.kill_all()
        site.gateway.start()
        return book, examine(site.gateway, book), done


def _drawn(site: Site, rounds: int, chance: random.Random) -> list[str]:
    """Faults by their weights, each at least once when there are rounds enough."""
    names = list(site.faults)
    weights = [weight for weight, _ in site.faults.values()]
    drawn = names[:rounds] + chance.choices(names, weights, k=max(0, rounds - len(names)))
    chance.shuffle(drawn)
    return drawn


def _await_recovery(book: Book, name: str) -> None:
    """Wait until something is acknowledged again over both protocols, without anybody restarting anything."""

    def stored() -> tuple[int, int]:
        return book.answers["C-STORE 0000"], book.answers["STOW 200"]

    before, deadline_s = stored(), time.monotonic() + _RECOVERS_WITHIN_S
    while any(now == then for now, then in zip(stored(), before, strict=True)):
        if time.monotonic() > deadline_s:
            raise NotRecovered(f"nothing was stored within {_RECOVERS_WITHIN_S:.0f} s after: {name}")
        time.sleep(0.02)


def main() -> int:
    """Run and report; 1 when a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", choices=PAIRS, default=PAIRS[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        book, findings, done = run(Path(directory), options.engines, options.rounds, options.seed, quiet=False)
    hurt = ", ".join(f"{count} x {name}" for name, count in done.most_common())
    print(findings.told(f"{options.engines}, {options.rounds} faults (seed {options.seed}): {hurt}", book))
    for lie in findings.lies[:20]:
        print(f"  {lie}")
    return 0 if findings.ok else 1


if __name__ == "__main__":
    sys.exit(main())
