"""The data set of a C-STORE request, as much of it as could be kept."""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import PayloadTooLarge
from gateway.services.spool import Follower, Spool, Spooled
from storage.errors import StorageError


class Received:
    """Writing never raises: the rest of the message has to be read in any case, so that it can be answered."""

    def __init__(
        self, spool: Spool, max_bytes: int | None = None, follow: Callable[[], Follower | None] | None = None
    ) -> None:
        self._arriving = spool.begin(max_bytes, follow)
        self._error: PayloadTooLarge | StorageError | None = None

    def write(self, data: memoryview) -> None:
        """Keep bytes, as long as that works."""
        if self._error is None:
            try:
                self._arriving.write(data)
            except (PayloadTooLarge, StorageError) as error:
                self._error = error

    @property
    def size(self) -> int:
        """Bytes that came, kept or not."""
        return self._arriving.size

    def spooled(self) -> Spooled:
        """What was received. Raises PayloadTooLarge, StorageFull or StorageUnavailable when not all of it was kept."""
        if self._error is not None:
            raise self._error
        return self._arriving.finish()

    def discard(self) -> None:
        """Forget it, unless it was taken. Idempotent."""
        self._arriving.discard()
