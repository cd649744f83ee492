"""How often somebody may try: failed authentications and the delay after them, and rates of requests.

Each process counts for itself; whoever builds these divides the limits by the number of processes. What is
remembered is bounded: the entries that were not used for longest are forgotten first.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from gateway.access.networks import parsed
from gateway.errors import TooManyRequests

Clock = Callable[[], float]
T = TypeVar("T")

_MAX_ENTRIES = 10_000
_BURST_S = 10.0
_LENT_S = 1.0


@lru_cache(maxsize=4096)
def source_of(address: str) -> str:
    """What an address counts as: IPv6 by its /64, which one client has as a whole."""
    found = parsed(address)
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))


class _Recent(Generic[T]):
    """Values by name, so many and no more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[str, T] = OrderedDict()

    def get(self, name: str) -> T | None:
        found = self._values.get(name)
        if found is not None:
            self._values.move_to_end(name)
        return found

    def put(self, name: str, value: T) -> None:
        self._values[name] = value
        self._values.move_to_end(name)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)


class Pace:
    """Bytes per second for each name: not refused when they are more, but waited for."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._paid_until_s: _Recent[float] = _Recent(_MAX_ENTRIES)
        self._lock = threading.Lock()

    def pause_s(self, name: str, count: int, per_s: float) -> float:
        """Take so many bytes; how long to pause before the next ones. A second's worth comes without a pause."""
        now_s = self._clock()
        with self._lock:
            until_s = max(self._paid_until_s.get(name) or 0.0, now_s - _LENT_S) + count / per_s
            self._paid_until_s.put(name, until_s)
        return max(0.0, until_s - now_s)


class Rate:
    """A rate for each name: a token bucket that holds ten seconds' worth, and at least one.

    Parameters
    ----------
    per_s
        How often in a second, on the long run; 0 is without bound.
    """

    def __init__(self, per_s: float, clock: Clock = time.monotonic) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s * _BURST_S)
        self._clock = clock
        self._buckets: _Recent[tuple[float, float]] = _Recent(_MAX_ENTRIES)
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Once more. Raises TooManyRequests with the time after which it may be."""
        if not self._per_s:
            return
        with self._lock:
            now = self._clock()
            left, at = self._buckets.get(name) or (self._most, now)
            left = min(self._most, left + (now - at) * self._per_s)
            allowed = left >= 1
            self._buckets.put(name, (left - 1 if allowed else left, now))
        if not allowed:
            raise TooManyRequests("more requests than are allowed", (1 - left) / self._per_s)


@dataclass(slots=True)
class _Failures:
    count: int
    at: float
    until: float = 0.0


class Throttle:
    """Failed authentications, by where they come from and by whom they claim to be.

    After some failures each further one locks the source, and the claimed identity, for twice as long as the one
    before. Who has succeeded from a source lately is let through there: a neighbour behind the same address, or a
    stranger who claims the same identity elsewhere, does not lock them out; failures of that identity from that source
    itself do. A success takes no failure back, or guesses between successes would be free; failures are forgotten when
    there was none for twice the longest lock.

    Parameters
    ----------
    allowed
        Failures without consequence; 0 never locks.
    first_s, longest_s
        The first lock, and the longest.

    References
    ----------
    NIST SP 800-63B 5.2.2 "Rate Limiting (Throttling)"
    """

    def __init__(self, allowed: int, first_s: float, longest_s: float, clock: Clock = time.monotonic) -> None:
        self._allowed = allowed
        self._first_s, self._longest_s = first_s, longest_s
        self._clock = clock
        self._failures: _Recent[_Failures] = _Recent(_MAX_ENTRIES)
        self._known: _Recent[float] = _Recent(_MAX_ENTRIES)
        self._lock = threading.Lock()

    def check(self, source: str, claimed: str = "") -> None:
        """Ask before a secret is looked at, so that a locked out guesser does not learn whether it was right.

        Parameters
        ----------
        source
            As ``source_of`` names it.
        claimed
            Who it is said to be, or "": never the secret itself.

        Raises
        ------
        TooManyRequests
            With the time that the lock still takes.
        """
        with self._lock:
            now = self._clock()
            known = bool(claimed) and self._is_known(source, claimed, now)
            names = [_pair(source, claimed)] if known else _names(source, claimed)
            left_s = max(self._until(name) for name in names) - now
        if left_s > 0:
            raise TooManyRequests("too many failed authentications", left_s)

    def failed(self, source: str, claimed: str = "") -> float:
        """Count a failure; the seconds of the lock that begins with it, 0.0 where none does.

        A lock begins once: nothing reaches this while it holds.
        """
        if not self._allowed:
            return 0.0
        with self._lock:
            now = self._clock()
            return max(self._count(name, now) for name in _names(source, claimed))

    def succeeded(self, source: str, claimed: str) -> None:
        """Remember who is known here."""
        with self._lock:
            self._known.put(_pair(source, claimed), self._clock())

    def __len__(self) -> int:
        return len(self._failures) + len(self._known)

    def _is_known(self, source: str, claimed: str, now: float) -> bool:
        at = self._known.get(_pair(source, claimed))
        return at is not None and now - at < 2 * self._longest_s

    def _until(self, name: str) -> float:
        found = self._failures.get(name)
        return float("-inf") if found is None else found.until

    def _count(self, name: str, now: float) -> float:
        found = self._failures.get(name)
        if found is None or now - found.at > 2 * self._longest_s:
            found = _Failures(0, now)
        found.count += 1
        found.at = now
        beyond = found.count - self._allowed
        locked_s = min(self._longest_s, self._first_s * 2.0 ** min(beyond - 1, 60)) if beyond > 0 else 0.0
        found.until = now + locked_s
        self._failures.put(name, found)
        return locked_s


def _pair(source: str, claimed: str) -> str:
    return f"{claimed} from {source}"


def _names(source: str, claimed: str) -> list[str]:
    """What a failure counts for."""
    return [f"source {source}", f"claimed {claimed}", _pair(source, claimed)] if claimed else [f"source {source}"]
