"""The one composition root: settings become engines, engines become services."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from gateway.access import policy
from gateway.access.door import Door
from gateway.audit.trail import AuditTrail
from gateway.config import InvalidSettings, Settings
from gateway.imaging.pool import ImagingPool
from gateway.services.delete import DeleteService
from gateway.services.ingest import IngestService
from gateway.services.query import QueryService
from gateway.services.render import RenderService
from gateway.services.retrieve import RetrieveService
from gateway.services.spool import Spool
from storage.archive import Archive
from storage.dicom.limits import Limits
from storage.index.base import Conflict, Index
from storage.index.sqlite import SqliteIndex
from storage.objects.base import ObjectStore
from storage.objects.local import LocalObjectStore
from storage.objects.s3 import S3ObjectStore, S3Settings


@dataclass(frozen=True, slots=True)
class Core:
    """Everything below the faces, built once in each process."""

    settings: Settings
    limits: Limits
    archive: Archive
    trail: AuditTrail
    door: Door
    spool: Spool
    pool: ImagingPool
    ingest: IngestService
    query: QueryService
    retrieve: RetrieveService
    render: RenderService
    delete: DeleteService

    def ping(self) -> None:
        """Return when every engine answers; raise its error when one does not."""
        self.archive.index.ping()
        self.archive.objects.ping()

    def close(self) -> None:
        """Let go of engines and processes."""
        self.pool.close()
        self.archive.index.close()
        self.archive.objects.close()
        self.trail.close()


def limits(settings: Settings) -> Limits:
    """Bounds on arriving instances."""
    given = settings.limits
    return Limits(
        max_depth=given.max_depth,
        max_elements=given.max_elements,
        max_metadata_bytes=given.max_metadata_bytes,
        max_inflate_ratio=given.max_inflate_ratio,
    )


def object_store(settings: Settings) -> ObjectStore:
    """The engine of the objects."""
    storage, s3 = settings.storage, settings.s3
    if storage.objects == "local":
        return LocalObjectStore(storage.directory / "archive", fsync=storage.fsync)
    store = S3ObjectStore(
        S3Settings(
            endpoint_url=s3.endpoint_url or None,
            bucket=s3.bucket,
            prefix=s3.prefix,
            region=s3.region,
            access_key_id=s3.access_key_id or None,
            secret_access_key=s3.secret_access_key.get_secret_value() or None,
            path_style=s3.path_style,
            ca_bundle=s3.ca_bundle,
        )
    )
    if s3.create_bucket:
        store.ensure_bucket()
    return store


def index(settings: Settings, *, reindexing: bool = False) -> Index:
    """The engine of the rows; a reindex commits objects of any age."""
    storage = settings.storage
    return SqliteIndex(
        _index_path(settings),
        max_age_s=float("inf") if reindexing else storage.grace_s / 2,
        fsync=storage.fsync,
    )


def set_index_aside(settings: Settings) -> Path | None:
    """Move the index out of the way of a reindex; where it went, or None when there was none."""
    path = _index_path(settings)
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%dT%H%M%S')}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _index_path(settings: Settings) -> Path:
    return settings.storage.directory / "index.sqlite"


def audit_directory(settings: Settings) -> Path:
    """Where the audit files go."""
    return settings.audit.directory or settings.storage.directory / "audit"


def build(settings: Settings, worker: str) -> Core:
    """Everything below the faces, for one process.

    Parameters
    ----------
    worker
        The process's name, such as "http-1"; no two processes share one.
    """
    bounds = limits(settings)
    archive = Archive(object_store(settings), index(settings), bounds)
    trail = AuditTrail(audit_directory(settings), worker)
    door = Door(policy.load(settings.access.policy_file), trail)
    imaging = settings.imaging
    pool = ImagingPool(imaging.workers, imaging.memory_bytes, imaging.timeout_s)
    storage = settings.storage
    retrieve = RetrieveService(archive, door, pool, bounds)
    return Core(
        settings=settings,
        limits=bounds,
        archive=archive,
        trail=trail,
        door=door,
        spool=Spool(storage.directory / "spool", storage.spool_memory_bytes, storage.max_instance_bytes),
        pool=pool,
        ingest=IngestService(archive, door, bounds, Conflict(storage.conflict)),
        query=QueryService(archive.index, door),
        retrieve=retrieve,
        render=RenderService(retrieve, pool),
        delete=DeleteService(archive, door),
    )


def check(settings: Settings) -> None:
    """Validate what the settings point to, without starting anything. Raises InvalidSettings."""
    policy.load(settings.access.policy_file)
    directory = settings.storage.directory
    existing = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InvalidSettings([f"storage.directory: {existing} is not a directory"])
