"""Free ports on the loopback, that nobody else takes before they are used."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path

_LOWEST = 12_000
_LANES = 16


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    found: list[int] = []
    while len(found) < count:
        port = next(_CANDIDATES)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def _candidates() -> Iterator[int]:
    """Below those that the kernel gives to who connects, and apart from those of the other workers of a test run."""
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    lane = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _LANES
    turns = (highest - _LOWEST) // _LANES
    start = random.randrange(turns)
    for number in count():
        yield _LOWEST + (start + number) % turns * _LANES + lane


_CANDIDATES = _candidates()
