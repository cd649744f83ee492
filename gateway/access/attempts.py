"""Attempts to prove who somebody is, over every face: failures are counted, recorded, and lock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

from gateway.access.door import Door
from gateway.access.throttle import Throttle, source_of
from gateway.audit.events import AuditEvent
from gateway.context import Caller, Principal, PrincipalKind, Source
from gateway.errors import LinkEnded, NotFound, NotOpened, Unauthenticated

T = TypeVar("T")


class Attempts:
    """Safe to use from several threads."""

    def __init__(self, door: Door, throttle: Throttle) -> None:
        self._door = door
        self._throttle = throttle

    def check(self, source: Source, claimed: str) -> bool:
        """Whether somebody was let in from there lately, as far as this host knows. Waits for nothing.

        Raises
        ------
        TooManyRequests
            There were too many failures.
        """
        return self._throttle.check(source_of(source.address), claimed)

    def succeeded(self, source: Source, claimed: str) -> None:
        """Tell of a success without an attempt: of what is remembered. Waits for nothing."""
        self._throttle.succeeded(source_of(source.address), claimed)

    def prove(self, source: Source, claimed: str, call: Callable[[], T]) -> T:
        """Have something proven; a failure is recorded, and counted by source and claimed name.

        Who shows a share link that has ended, or has to be opened, has not guessed: that is not counted.

        Raises
        ------
        TooManyRequests
            There were too many failures, or one more would be and another secret is looked at; this one was not.
        Unauthenticated, NotFound
            As ``call``.
        AuditUnavailable, storage.errors.StorageUnavailable
            It cannot be recorded or counted.
        """
        where = source_of(source.address)
        with self._throttle.turn(where, claimed):
            try:
                found = call()
            except (NotOpened, LinkEnded) as error:
                self.refused(source, str(error))
                raise
            except (Unauthenticated, NotFound) as error:
                locked_s = self._throttle.failed(where, claimed)
                self.refused(source, str(error))
                if locked_s:
                    self._record(source, "locked", f"for {locked_s:g} s")
                raise
            self._throttle.succeeded(where, claimed)
        return found

    def refused(self, source: Source, why: str) -> None:
        """Put on the trail that somebody was not let in. Raises AuditUnavailable."""
        self._record(source, "denied", why)

    def _record(self, source: Source, outcome: str, detail: str) -> None:
        nobody = Caller(Principal("unknown", PrincipalKind.API_KEY), source)
        self._door.record(AuditEvent("authenticate", outcome, nobody, detail=detail))


def digest(secret: str) -> str:
    """What stands for a secret where failures are counted."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
