"""What a process lets callers do how often, built from the settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.access.throttle import Rate, Throttle
from gateway.config.serving import HttpSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """The counts of one process; each has its share of what holds for all of them."""

    principals: Rate
    sources: Rate
    unauthenticated: Rate
    attempts: Throttle


def limits(http: HttpSettings) -> Limits:
    """One process's share."""
    return Limits(
        Rate(http.principal_rate / http.workers),
        Rate(http.source_rate / http.workers),
        Rate(http.unauthenticated_rate / http.workers),
        Throttle(math.ceil(http.failed_attempts / http.workers), http.lockout_s, http.max_lockout_s),
    )
