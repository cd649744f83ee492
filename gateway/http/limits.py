"""What callers may do how often, built from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import assembly
from gateway.access.attempts import Attempts
from gateway.access.throttle import Rate
from gateway.assembly import Core


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts that all processes of this host share."""

    principals: Rate
    sources: Rate
    unauthenticated: Rate
    attempts: Attempts


def limits(core: Core) -> Limits:
    """Those of the settings. Raises StorageFull, StorageUnavailable."""
    http, tables = core.settings.http, core.tables
    return Limits(
        Rate(http.principal_rate, tables.of("principals")),
        Rate(http.source_rate, tables.of("sources")),
        Rate(http.unauthenticated_rate, tables.of("unauthenticated")),
        assembly.attempts(core),
    )
