"""This host's read cache holds nothing for long that other hosts have removed from the archive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway import assembly, stores
from storage.dicom import identifiers as ids
from storage.errors import StorageError
from storage.objects.read_cache import ReadCache

_log = logging.getLogger("gateway.caching")

_LOOKS = 10
"""Within one interval: what the process that compared leaves undone another takes up."""


@contextmanager
def compared(core: assembly.Core) -> Iterator[None]:
    """Compare the cache with the index as long as the block runs, in turn with the host's other processes.

    Of a host that was off nothing is served from its cache before that was done.
    """
    cache = stores.read_cache(core.settings)
    if cache is None:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_compare, args=(core, cache, stop), name="read cache")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _compare(core: assembly.Core, cache: ReadCache, stop: threading.Event) -> None:
    indexes = [core.archive.index, *(view.index for view in core.views.values())]

    def kept(versions: Sequence[str]) -> set[str]:
        asked = [ids.Version(each) for each in versions]
        return {version for index in indexes for version in index.kept_versions(asked)}

    interval_s = core.settings.s3.cache_compare_interval_s
    while not stop.is_set():
        try:
            if dropped := cache.compare(kept, interval_s):
                _log.info("%d objects that the archive has no more left the read cache", dropped)
        except StorageError:
            _log.warning("the read cache cannot be compared with the index", exc_info=True)
        stop.wait(interval_s / _LOOKS)
