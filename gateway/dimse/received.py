"""Files into which pynetdicom receives the data sets of C-STORE requests."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import BinaryIO

from gateway.services.spool import Spool, Spooled
from storage.errors import StorageFull, StorageUnavailable


class ReceivedFile:
    """A file of the spool as pynetdicom uses its temporary file.

    Writing never raises: pynetdicom would lose the thread that reads from the peer, and the peer wait for an answer
    until its own timeout. What went wrong is told by ``spooled``, once the message has ended and can be answered.
    """

    def __init__(self, spool: Spool) -> None:
        self._error: OSError | None = None
        self._file: BinaryIO | None = None
        self.path = spool.new_path()
        self.name = str(self.path)
        with self._noted():
            self._file = spool.create(self.path)

    @property
    def file(self) -> ReceivedFile:
        """What pynetdicom flushes."""
        return self

    def write(self, data: bytes) -> int:
        """Keep bytes, as long as that works."""
        with self._noted():
            if self._file is not None and self._error is None:
                self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing: pynetdicom asks after every fragment, but nobody reads before ``close``."""

    def close(self) -> None:
        """Write what is left and close. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            with self._noted():
                try:
                    file.flush()
                finally:
                    with contextlib.suppress(OSError):  # what the flush could not write is still in it
                        file.close()

    def spooled(self) -> Spooled:
        """What was received. Raises StorageFull or StorageUnavailable when not everything was kept; it is gone then."""
        self.close()
        if self._error is None:
            return Spooled.of_file(self.path)
        self.path.unlink(missing_ok=True)
        if self._error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the spool has no room") from self._error
        raise StorageUnavailable("the spool cannot be written") from self._error

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error
