"""Metrics of several processes in files that the supervisor reads: one set of files for each worker's place.

A file belongs to a place ("http-1"), not to a process: who takes the place of a killed worker goes on counting where
that one was cut off, and there are never more files than places.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from prometheus_client import values

from storage.errors import StorageFull, StorageUnavailable

_KINDS = ("counter", "histogram", "gauge_livesum", "gauge_max")
_LIVE = "gauge_livesum"
_FILE_BYTES = 1 << 20
"""Room for some 5,000 samples, reserved at the start: a mapped page without a block on a full disk ends the process."""


def prepare(directory: Path, worker: str) -> None:
    """Keep this process's metrics in files from now on; to be called before any metric is made.

    Raises
    ------
    StorageFull, StorageUnavailable
        There is no room for the files, or no way to write them.
    """
    forget(directory, worker)
    try:
        for kind in _KINDS:
            descriptor = os.open(_path(directory, kind, worker), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                if not os.fstat(descriptor).st_size:
                    os.posix_fallocate(descriptor, 0, _FILE_BYTES)
            finally:
                os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("there is no room for the metrics") from error
        raise StorageUnavailable(f"the metrics cannot be written: {error.strerror}") from error
    # The way in which prometheus_client takes both; its own names would be process ids, which are never used again.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]


def forget(directory: Path, worker: str) -> None:
    """Drop what a process that is gone said of its present: it has no requests under way any more."""
    _path(directory, _LIVE, worker).unlink(missing_ok=True)


def clear(directory: Path) -> None:
    """Begin anew: remove the files of an earlier run."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o750)
    for path in directory.glob("*.db"):
        path.unlink(missing_ok=True)


def _path(directory: Path, kind: str, worker: str) -> Path:
    return directory / f"{kind}_{worker}.db"
