"""Blocks on their way into a read cache: a thread of their own writes them, so that no reader waits for a file."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from storage.objects.base import Piece
from storage.objects.read_cache import ReadCache

_log = logging.getLogger("storage.objects")

_HELD_BYTES = 16 << 20


class Keeper:
    """Keeps blocks in a ReadCache beside their readers, and gives those out that have not got there yet.

    Parameters
    ----------
    held_bytes
        What may wait in memory to be written; who brings more writes it itself.
    """

    def __init__(self, cache: ReadCache, held_bytes: int = _HELD_BYTES) -> None:
        self._cache = cache
        self._room = held_bytes
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, int], Piece] = {}
        self._writer: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="read-cache")

    def has(self, key: str, number: int) -> bool:
        """Whether a block is to be had now."""
        return self._waits(key, number) is not None or self._cache.has(key, number)

    def read(self, key: str, number: int) -> Piece | None:
        """A block, or None."""
        # In this order: what is written meanwhile is in the cache before it is gone from here.
        return self._waits(key, number) or self._cache.read(key, number)

    def keep(self, key: str, number: int, piece: Piece) -> None:
        """Keep a block, soon, unless its object was deleted meanwhile."""
        with self._lock:
            if (key, number) in self._waiting:
                return
            later = self._writer is not None and len(piece.data) <= self._room
            if later:
                self._room -= len(piece.data)
                self._waiting[key, number] = piece
                assert self._writer is not None
                self._writer.submit(self._write, key, number)
        if not later:
            self._cache.keep(key, number, piece)

    def settle(self) -> None:
        """Return when everything is written that waits now."""
        writer = self._writer
        if writer is not None:
            writer.submit(lambda: None).result()

    def close(self) -> None:
        """Return when everything is written; who brings more writes it itself. Idempotent."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.shutdown()

    def _waits(self, key: str, number: int) -> Piece | None:
        found = self._waiting.get((key, number))
        # Another process may have deleted the object, and a cache that is not trusted has nothing to give.
        return found if found is not None and self._cache.may_serve(key) else None

    def _write(self, key: str, number: int) -> None:
        piece = self._waiting[key, number]
        try:
            self._cache.keep(key, number, piece)
        except Exception:  # the boundary of a thread that nobody waits for
            _log.exception("a block was not kept in the read cache")
        finally:
            with self._lock:
                del self._waiting[key, number]
                self._room += len(piece.data)
