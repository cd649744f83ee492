"""What is done with each file: read once into the spool, then given to the ingest service as whatever arrives is."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gateway import assembly, log
from gateway.config import InvalidSettings, Settings
from gateway.context import command_line
from gateway.errors import AuditUnavailable, Busy, GatewayError, Misplaced, QuotaExceeded
from gateway.importing.items import Fate, Item, Source, Told
from gateway.services.ingest import Identified
from gateway.services.spool import Spool, Spooled
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.directory import DIRECTORY_CLASS
from storage.dicom.elements import Readable
from storage.errors import NotPart10, ReadOnly, StorageError, StorageFull, StorageUnavailable, Unreadable
from storage.index.arrivals import Outcome

_log = logging.getLogger("gateway.importing")

_HEAD_BYTES = 4096
_BLOCK_BYTES = 1 << 18
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Between attempts while an engine does not answer; then the import stops."""

FATES = {
    Outcome.STORED: Fate.STORED,
    Outcome.DUPLICATE: Fate.DUPLICATE,
    Outcome.NEW_VERSION: Fate.NEW_VERSION,
    Outcome.ALTERNATIVE: Fate.ALTERNATIVE,
}
"""What becomes of an instance that was stored."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an import is to do: everything that its processes have to know.

    ``threads`` of each process wait for the engines at the same time, which is what lets commits share an fsync.
    """

    settings: Settings
    sources: tuple[Source, ...]
    tenant: ids.Tenant
    spool: Path
    threads: int
    dry_run: bool = False


class Storer:
    """Stores files in one process."""

    def __init__(self, order: Order, name: str) -> None:
        self._order = order
        self._core = assembly.build(order.settings, name)
        self._ingest = self._core.ingest
        storage = order.settings.storage
        self._spool = Spool(order.spool, storage.spool_memory_bytes, storage.max_instance_bytes)
        self._decision = self._ingest.enter_by_command(command_line("import"), order.tenant)
        self._threads = ThreadPoolExecutor(order.threads, thread_name_prefix="store")

    def work(self, batch: Sequence[Item]) -> Iterator[Sequence[Told]]:
        """What became of files, in their order."""
        yield list(self._threads.map(self._one, batch))

    def _one(self, item: Item) -> Told:
        for pause_s in (*_PAUSES_S, None):
            fate, reason = self._attempt(item)
            if fate is not Fate.STOPPED or pause_s is None:
                break
            time.sleep(pause_s)
        return Told(item.name, fate, reason, item.size)

    def _attempt(self, item: Item) -> tuple[Fate, str]:
        try:
            with self._order.sources[item.source].open(item) as file:
                head = _read(file, _HEAD_BYTES)
                reason = _no_instance(head, self._core)
                if reason:
                    return Fate.SKIPPED, reason
                spooled = self._spooled(head, file)
            with spooled:
                return self._keep(spooled), ""
        except Exception as error:  # whatever it is, the files that follow are not to suffer
            return fate_of(error)

    def _spooled(self, head: bytes, file: Readable) -> Spooled:
        spooling = self._spool.begin()
        try:
            spooling.write(head)
            while block := file.read(_BLOCK_BYTES):
                spooling.write(block)
        except BaseException:
            spooling.discard()
            raise
        return spooling.finish()

    def _keep(self, spooled: Spooled) -> Fate:
        if self._order.dry_run:
            return Fate.DUPLICATE if self._ingest.holds(self._decision, spooled) else Fate.STORED
        return FATES[self._ingest.store(self._decision, spooled).outcome]

    def close(self) -> None:
        """End the threads, let go of the engines."""
        self._threads.shutdown()
        for source in self._order.sources:
            source.close()
        self._core.close()


def start(order: Order, name: str) -> Storer:
    """What stores in a process of its own. Raises StorageError."""
    log.configure(name, "warning", order.settings.log.format)
    try:
        return Storer(order, name)
    except InvalidSettings as error:
        raise StorageUnavailable("; ".join(error.faults)) from error
    except GatewayError as error:
        raise StorageUnavailable(str(error)) from error


def _read(file: Readable, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (block := file.read(size - len(found))):
        found += block
    return bytes(found)


def _no_instance(head: bytes, core: assembly.Core) -> str:
    """Why this is nothing that is to be stored, by its first bytes; empty when it may be."""
    try:
        meta, _, _ = file_meta.read(io.BytesIO(head), core.limits)
    except NotPart10:
        return "not DICOM"
    except Unreadable:
        return ""  # the service refuses it, and says so on the trail
    return "a DICOMDIR" if meta.sop_class_uid == DIRECTORY_CLASS else ""


def fate_of(error: Exception) -> tuple[Fate, str]:
    """What becomes of an instance that was not stored, and why; a defect is logged."""
    if isinstance(error, Identified):
        error = error.reason
    if isinstance(error, Misplaced):
        return Fate.QUARANTINED, str(error)
    if isinstance(error, StorageUnavailable | StorageFull | QuotaExceeded | AuditUnavailable | Busy | ReadOnly):
        return Fate.STOPPED, str(error)
    if isinstance(error, OSError):
        return Fate.UNREADABLE, error.strerror or str(error)
    if isinstance(error, StorageError | GatewayError):
        return Fate.REFUSED, str(error)
    _log.error("a file was not stored", exc_info=error)
    return Fate.REFUSED, f"a defect of the gateway, see the log: {type(error).__name__}"
