"""Whether the objects are what the rows say: every one read again, digested and compared. It changes nothing."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from storage import records
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier, ObjectDamaged, ObjectNotFound, StorageUnavailable
from storage.index.stored import Holding
from storage.objects.base import ObjectStore

_BATCH = 500
_SETTLING_S = 300.0
"""An object younger than this may be waiting for its row."""


class Wrong(StrEnum):
    """What is wrong with an object that a row names."""

    MISSING = "missing"
    SIZE = "of another size than its row says"
    DIGEST = "its bytes are not those that were stored"
    UNREADABLE = "cannot be read"


@dataclass(slots=True)
class Verification:
    """What a verification found; ``last`` is the version up to which everything has been looked at."""

    checked: int = 0
    checked_bytes: int = 0
    skipped: int = 0
    wrong: list[tuple[str, Wrong]] = field(default_factory=list)
    without_row: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    last: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which versions to look at: of one tenant, after a version, those for which ``chosen`` says so."""

    tenant: ids.Tenant | None = None
    after: str = ""
    chosen: Callable[[Holding], bool] = lambda _: True


def verify(
    archive: Archive,
    selection: Selection,
    found: Verification,
    *,
    threads: int,
    progress: Callable[[Verification], None] = lambda _: None,
) -> None:
    """Read the objects of rows again, several at a time: digesting and reading let the other threads run.

    Parameters
    ----------
    found
        Filled on the way, so that a caller who breaks off has what was found until then.

    Raises
    ------
    StorageUnavailable
        Index or objects do not answer; one object that cannot be read is only reported.
    """
    found.last = selection.after
    ended = threading.Event()
    with ThreadPoolExecutor(threads, "verify") as pool:
        try:
            for batch in _holdings(archive, selection):
                chosen = [holding for holding in batch if selection.chosen(holding)]
                found.skipped += len(batch) - len(chosen)
                checks = pool.map(lambda holding: _check(archive, holding, ended), chosen)
                for holding, wrong in zip(chosen, checks, strict=True):
                    found.checked += 1
                    found.checked_bytes += holding.size
                    if wrong is not None:
                        found.wrong.append((holding.object_key, wrong))
                    progress(found)
                found.last = batch[-1].version
        finally:
            ended.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _holdings(archive: Archive, selection: Selection) -> Iterator[list[Holding]]:
    after = selection.after
    while batch := list(archive.index.holdings(after, _BATCH, selection.tenant)):
        yield batch
        after = batch[-1].version


def _check(archive: Archive, holding: Holding, ended: threading.Event) -> Wrong | None:
    digest, size = hashlib.sha256(), 0
    try:
        with archive.objects.open(holding.object_key) as reader:
            for block in reader.blocks():
                if ended.is_set():
                    return None
                digest.update(block)
                size += len(block)
    except ObjectNotFound:
        return Wrong.MISSING if _still_held(archive, holding) else None
    except ObjectDamaged:
        return Wrong.UNREADABLE
    except StorageUnavailable:
        # One bad sector, or the whole engine?
        next(iter(archive.objects.list("")), None)
        return Wrong.UNREADABLE
    if size != holding.size:
        return Wrong.SIZE
    return None if digest.hexdigest() == holding.sha256 else Wrong.DIGEST


def _still_held(archive: Archive, holding: Holding) -> bool:
    """Whether the row still asks for an object: it may have been removed for good since the row was read."""
    # Versions that begin as this one but for the last character: itself and 31 others at most.
    return any(
        each.version == holding.version for each in archive.index.holdings(holding.version[:-1], 32, holding.key.tenant)
    )


def find_without_row(
    archive: Archive,
    tenant: ids.Tenant | None,
    found: Verification,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Look for objects that no row names, and for what is none of the archive's; neither is wrong by itself."""
    before_s = time.time() - _SETTLING_S
    instances = _instances(archive.objects, tenant, before_s, found, progress)
    while batch := list(islice(instances, _BATCH)):
        found.without_row += sorted(set(batch) - archive.index.known_objects(batch))


def _instances(
    objects: ObjectStore,
    tenant: ids.Tenant | None,
    before_s: float,
    found: Verification,
    progress: Callable[[int], None],
) -> Iterator[str]:
    for number, info in enumerate(objects.list("" if tenant is None else f"{tenant}/"), 1):
        progress(number)
        if records.is_record(info.key) or records.is_beside(info.key):
            continue
        try:
            _, version = ids.parse_object_key(info.key)
        except InvalidIdentifier:
            found.foreign.append(info.key)
            continue
        if ids.version_time_s(version) < before_s:
            yield info.key
