"""How often somebody may try: failed authentications and the delay after them, rates of requests and of bytes.

Rates are those of a host: its processes count together, in ``gateway.access.moments``. Failures are kept in the
control state, so that they count on all hosts.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from gateway.access.moments import Moments
from gateway.access.networks import parsed
from gateway.errors import TooManyRequests
from storage.control.base import ControlStore, Failures, now_s
from storage.errors import StorageError

Clock = Callable[[], float]

_BURST_S = 10.0
_LENT_S = 1.0
_ROUNDING_S = 1e-6
_LOOKED_AT_S = 2.0
"""So long a secret is looked at, at the most, before another one may be although that one may still fail."""


@lru_cache(maxsize=4096)
def source_of(address: str) -> str:
    """What an address counts as: IPv6 by its /64, which one client has as a whole."""
    found = parsed(address)
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))


class Pace:
    """Bytes per second for each name: not refused when they are more, but waited for."""

    def __init__(self, paid_until_s: Moments, clock: Clock = time.monotonic) -> None:
        self._paid_until_s = paid_until_s
        self._clock = clock

    def pause_s(self, name: str, count: int, per_s: float) -> float:
        """Take so many bytes; how long to pause before the next ones. A second's worth comes without a pause."""
        now, until = self._clock(), 0.0

        def paid(before: float) -> float:
            nonlocal until
            until = max(before, now - _LENT_S) + count / per_s
            return until

        self._paid_until_s.change(name, paid)
        return max(0.0, until - now)


class Rate:
    """A rate for each name: a token bucket that holds ten seconds' worth, and at least one.

    What is kept of a bucket is when it will be full again.

    Parameters
    ----------
    per_s
        How often in a second, on the long run; 0 is without bound.
    """

    def __init__(self, per_s: float, full_at_s: Moments, clock: Clock = time.monotonic) -> None:
        self._each_s = 1.0 / per_s if per_s else 0.0
        self._most_s = max(self._each_s, _BURST_S)
        self._full_at_s = full_at_s
        self._clock = clock

    def take(self, name: str) -> None:
        """Once more. Raises TooManyRequests with the time after which it may be."""
        if not self._each_s:
            return
        now, wait_s = self._clock(), 0.0

        def taken(full_at: float) -> float | None:
            nonlocal wait_s
            after = max(full_at, now) + self._each_s
            wait_s = after - now - self._most_s
            return None if wait_s > _ROUNDING_S else after

        self._full_at_s.change(name, taken)
        if wait_s > _ROUNDING_S:
            raise TooManyRequests("more requests than are allowed", wait_s)


@dataclass(frozen=True, slots=True)
class Locks:
    """When failures lock, and for how long.

    Parameters
    ----------
    allowed
        Failures without consequence; 0 never locks.
    first_s, longest_s
        The first lock, and the longest.
    """

    allowed: int
    first_s: float
    longest_s: float

    @property
    def remembered_s(self) -> float:
        """How long a failure counts, and a success is known."""
        return 2 * self.longest_s

    def lasting_s(self, count: int) -> float:
        """How long the lock is that begins with a failure."""
        beyond = count - self.allowed
        return min(self.longest_s, self.first_s * 2.0 ** min(beyond - 1, 60)) if beyond > 0 else 0.0


class Throttle:
    """Failed authentications, by where they come from and by whom they claim to be.

    After some failures each further one locks the source, and the claimed identity, for twice as long as the one
    before. Who has succeeded from a source lately is let through there: a neighbour behind the same address, or a
    stranger who claims the same identity elsewhere, does not lock them out; failures of that identity from that source
    itself do. A success takes no failure back, or guesses between successes would be free; failures are forgotten when
    there was none for twice the longest lock.

    Failures are counted in the control state. What a host knows of locks and of successes is beside, in tables that its
    processes share and that are looked at without waiting.

    Parameters
    ----------
    locked_until_s, known_until_s
        Of ``clock``.
    clock
        Unix time, by which hosts agree.

    References
    ----------
    NIST SP 800-63B 5.2.2 "Rate Limiting (Throttling)"
    """

    def __init__(
        self,
        locks: Locks,
        control: ControlStore,
        locked_until_s: Moments,
        known_until_s: Moments,
        clock: Clock = now_s,
    ) -> None:
        self._locks = locks
        self._control = control
        self._locked_until_s = locked_until_s
        self._known_until_s = known_until_s
        self._clock = clock

    def check(self, source: str, claimed: str) -> bool:
        """Ask before a secret is looked at, so that a locked out guesser does not learn whether it was right.

        By what this host knows, waiting for nothing; ``turn`` knows more. Whether somebody has succeeded there lately.

        Parameters
        ----------
        source
            As ``source_of`` names it.
        claimed
            Who it is said to be: never the secret itself.

        Raises
        ------
        TooManyRequests
            With the time that the lock still takes.
        """
        if not self._locks.allowed:
            return True
        now, pair = self._clock(), _pair(source, claimed)
        known = self._known_until_s.get(pair) > now
        names = [pair] if known else _names(source, claimed)
        _refuse(max(self._locked_until_s.get(each) for each in names) - now)
        return known

    @contextmanager
    def turn(self, source: str, claimed: str) -> Iterator[None]:
        """As ``check``, by what all hosts know if they can be asked, for as long as a secret is looked at.

        Where the next failure locks, this host looks at one secret at a time: or as many guesses as it has threads
        would be looked at whenever a lock ends.

        Raises
        ------
        TooManyRequests
            Also while another one is looked at.
        """
        if not self._locks.allowed:
            yield
            return
        now, pair = self._clock(), _pair(source, claimed)
        names = [pair] if self._known_until_s.get(pair) > now else _names(source, claimed)
        kept = {_digest(each): each for each in names}
        try:
            found = self._control.failures(list(kept), now)
        except StorageError:
            # Only keys of the policy file can be proven then, and are meant to be; whoever fails locks this host.
            found = {}
        near: list[str] = []
        for each, failures in found.items():
            until = failures.last_s + self._locks.lasting_s(failures.count)
            # Of a lock that has ended nothing is put down: there may be one of who is looked at in its place.
            if until > now:
                self._locked_until_s.put(kept[each], until)
                _refuse(until - now)
            if failures.count >= self._locks.allowed:
                near.append(kept[each])
        held: list[str] = []
        held_until = now + _LOOKED_AT_S
        try:
            for each in near:
                self._hold(each, now, held_until)
                held.append(each)
            yield
        finally:
            for each in held:
                # A failure has put its own lock in this one's place.
                self._locked_until_s.change(each, lambda until: 0.0 if until == held_until else None)

    def _hold(self, name: str, now: float, held_until: float) -> None:
        left_s = 0.0

        def held(until: float) -> float | None:
            nonlocal left_s
            left_s = until - now
            return None if left_s > 0 else held_until

        self._locked_until_s.change(name, held)
        _refuse(left_s)

    def failed(self, source: str, claimed: str) -> float:
        """Count a failure; the seconds of the lock that begins with it, 0.0 where none does.

        A lock begins once: but for what is looked at meanwhile, nothing reaches this while it holds.

        Raises
        ------
        storage.errors.StorageUnavailable, storage.errors.StorageFull
            It cannot be counted, and locks on this host as if it were the first too many.
        """
        if not self._locks.allowed:
            return 0.0
        now = self._clock()
        kept = {_digest(each): each for each in _names(source, claimed)}
        try:
            found = self._control.count_failure(list(kept), now, self._locks.remembered_s)
        except StorageError:
            for each in kept.values():
                self._locked_until_s.put(each, now + self._locks.first_s)
            raise
        return max(self._learn(kept[each], failures) for each, failures in found.items())

    def succeeded(self, source: str, claimed: str) -> None:
        """Remember who is known here."""
        if not self._locks.allowed:
            return
        now, pair = self._clock(), _pair(source, claimed)
        # Most come again and again; it is enough to put the end off when half of the time is over.
        if self._known_until_s.get(pair) < now + self._locks.remembered_s / 2:
            self._known_until_s.put(pair, now + self._locks.remembered_s)

    def _learn(self, name: str, failures: Failures) -> float:
        """How long the lock is that began with the last of some failures; this host knows it from now on."""
        lasting_s = self._locks.lasting_s(failures.count)
        if lasting_s:
            self._locked_until_s.put(name, failures.last_s + lasting_s)
        return lasting_s


def _refuse(left_s: float) -> None:
    if left_s > 0:
        raise TooManyRequests("too many failed authentications", left_s)


def _names(source: str, claimed: str) -> list[str]:
    """What a failure counts for."""
    return [f"source {source}", f"claimed {claimed}", _pair(source, claimed)]


def _pair(source: str, claimed: str) -> str:
    return f"{claimed} from {source}"


def _digest(name: str) -> str:
    """What a name is kept as: whoever reads the control state need not see who mistyped what from where."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
