"""Pictures that were just rendered, in the memory of the process that did it.

An entity tag names a picture wholly: versions, view, presentation states and everything that was asked for. It is made
of what the caller's scope let be found, so whoever may not have a picture does not come to its tag.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_AGE_S = 600.0
"""What is erased from the archive is out of here as well after so long."""
_LOOK_EVERY = 0.25
_LARGEST = 0.25


@dataclass(frozen=True, slots=True)
class Picture:
    """A rendered file, and the warnings that went with it."""

    media_type: str
    data: bytes
    warnings: tuple[str, ...] = ()


class Pictures:
    """As many of the latest as have room; for one event loop.

    Parameters
    ----------
    max_bytes
        Of all together; what is larger than a quarter of it is not kept. With 0 nothing is.
    """

    def __init__(
        self, max_bytes: int, max_age_s: float = MAX_AGE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Picture]] = OrderedDict()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def get(self, etag: str) -> Picture | None:
        """A picture by its entity tag, or what names it with more than that, if it is here."""
        found = self._kept.get(etag)
        if found is None:
            return None
        self._kept.move_to_end(etag)
        return found[1]

    def keep(self, etag: str, picture: Picture) -> None:
        """Keep a picture; the ones that nobody asked for the longest make room."""
        if len(picture.data) > self._max_bytes * _LARGEST or etag in self._kept:
            return
        self._kept[etag] = self._clock(), picture
        self._bytes += len(picture.data)
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._kept)))
        self._wake()

    def _wake(self) -> None:
        """Look again when some may be old, also when nobody asks any more."""
        if self._timer is None and self._kept:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY * self._max_age_s, self._look)

    def _look(self) -> None:
        self._timer = None
        # What is younger than that is looked at again in time.
        before_s = self._clock() - self._max_age_s + _LOOK_EVERY * self._max_age_s
        for etag in [etag for etag, (since_s, _) in self._kept.items() if since_s < before_s]:
            self._forget(etag)
        self._wake()

    def _forget(self, etag: str) -> None:
        _, picture = self._kept.pop(etag)
        self._bytes -= len(picture.data)

    def close(self) -> None:
        """Forget all of them."""
        self._kept.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
