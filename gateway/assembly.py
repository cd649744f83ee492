"""The one composition root: settings become engines, engines become services."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import certificates
from gateway import views as view_settings
from gateway.access import policy
from gateway.access.attempts import Attempts
from gateway.access.authentication import Authenticator
from gateway.access.door import AS_STORED, Door, View
from gateway.access.logins import Logins
from gateway.access.moments import Tables
from gateway.access.providers import Provider
from gateway.access.shares import Shares
from gateway.access.throttle import Locks, Throttle
from gateway.access.tokens import Tokens
from gateway.audit import key as audit_key_files
from gateway.audit import syslog, verifying
from gateway.audit.atna import Reporter
from gateway.audit.checkpoints import Checkpointer
from gateway.audit.coverage import LiveCoverage
from gateway.audit.key import AuditKey
from gateway.audit.patients import IndexPatients
from gateway.audit.trail import AuditTrail, never, unobserved
from gateway.config import InvalidSettings, Settings
from gateway.imaging.pool import ImagingPool
from gateway.services.accounts import AccountService
from gateway.services.activity import ActivityService
from gateway.services.ahead import ReadAhead
from gateway.services.associations import AssociationService
from gateway.services.audit import AuditService
from gateway.services.commitment import CommitmentService
from gateway.services.compose import Composer
from gateway.services.condense import Condenser
from gateway.services.delete import DeleteService
from gateway.services.feed import FeedService
from gateway.services.history import HistoryService
from gateway.services.ingest import IngestService
from gateway.services.peers import PeerService
from gateway.services.performed import PerformedService
from gateway.services.projection import Ingest, Projection, Projections
from gateway.services.quarantine import QuarantineService
from gateway.services.query import QueryService
from gateway.services.recompress import RecompressionService
from gateway.services.render import RenderService
from gateway.services.retention import RetentionService
from gateway.services.retrieve import RetrieveService
from gateway.services.room import Place, Quota, Room
from gateway.services.sealing import Sealing
from gateway.services.sharing import SharingService
from gateway.services.spool import Spool
from gateway.services.worklist import WorklistService
from gateway.stores import archive_directory, check_keys, check_places, key_in_file, key_of, object_store
from gateway.telemetry import counted, tracing
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observed import ObservedObjects, observed_index, observed_view
from gateway.telemetry.readiness import EngineProbe
from gateway.telemetry.tracing import Tracer
from gateway.viewing.arriving import Deidentification
from gateway.viewing.contents import Contents
from gateway.viewing.definition import Definition
from gateway.viewing.deriving import Deriver
from gateway.viewing.erasing import ViewEraser
from gateway.viewing.following import Follower
from gateway.viewing.notes import Notes
from gateway.viewing.pixels import PixelWriter
from gateway.viewing.pseudonymising import Pseudonymisation
from gateway.viewing.reidentifying import Reidentification
from gateway.viewing.storing import ViewIngest
from gateway.viewing.writing import InstanceWriter
from storage import records
from storage.archive import Archive
from storage.control.base import ControlStore
from storage.control.relational import RelationalControl
from storage.control.relational_steps import RelationalSteps
from storage.control.sqlite import SqliteControl
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.errors import StorageUnavailable
from storage.index.arrivals import Conflict, Conflicts
from storage.index.base import Index
from storage.index.sqlite import SqliteIndex, schema_version
from storage.objects.base import ObjectStore
from storage.objects.condensed import CondensedObjectStore
from storage.objects.spliced import SplicedObjectStore

if TYPE_CHECKING:
    from storage.index.postgres import PostgresSettings


_GENTLE_NICE = 15
_GENTLE_TIMES = 4
"""A worker that gives way takes so much longer on a busy host."""


@dataclass(frozen=True, slots=True)
class Core:
    """Everything below the faces, built once in each process."""

    settings: Settings
    metrics: Metrics
    tracer: Tracer
    limits: Limits
    archive: Archive
    trail: AuditTrail
    door: Door
    control: ControlStore
    tables: Tables
    authenticator: Authenticator
    providers: Sequence[Provider]
    logins: Logins
    accounts: AccountService
    sharing: SharingService
    sealing: Sealing
    spool: Spool
    composer: Composer
    pool: ImagingPool
    ingest: IngestService
    projections: Projections
    views: Mapping[str, Archive]
    reidentification: Reidentification
    pseudonymisation: Pseudonymisation
    delete: DeleteService
    retention: RetentionService
    audit: AuditService
    history: HistoryService
    peers: PeerService
    activity: ActivityService
    associations: AssociationService
    quarantine: QuarantineService
    commitment: CommitmentService
    worklist: WorklistService
    performed: PerformedService
    room: Room
    probe: EngineProbe

    def close(self) -> None:
        """Let go of engines and processes."""
        self.projections.close()
        for each in self.views.values():
            each.close()
        self.pool.close()
        self.probe.close()
        self.authenticator.close()
        self.control.close()
        self.tables.close()
        self.archive.close()
        self.trail.close()
        self.tracer.close()


def limits(settings: Settings) -> Limits:
    """Bounds on arriving instances."""
    given = settings.limits
    return Limits(
        max_depth=given.max_depth,
        max_elements=given.max_elements,
        max_metadata_bytes=given.max_metadata_bytes,
        max_inflate_ratio=given.max_inflate_ratio,
    )


def conflicts(settings: Settings) -> Conflicts:
    """What each tenant does with a known SOP Instance UID and other content."""
    own = {name: Conflict(given.conflict) for name, given in settings.tenants.items() if given.conflict}
    return Conflicts(Conflict(settings.storage.conflict), own)


def quotas(settings: Settings) -> dict[str, Quota]:
    """The tenants that have a quota."""
    return {
        name: Quota(given.quota_instances, given.quota_bytes)
        for name, given in settings.tenants.items()
        if given.quota_instances is not None or given.quota_bytes is not None
    }


def places(settings: Settings) -> list[Place]:
    """Directories that need room for what arrives; the spool's disk has the index in SQLite and the cache too."""
    found = [Place("spool", settings.storage.directory)]
    if settings.storage.objects == "local":
        found.append(Place("objects", archive_directory(settings)))
        own = {name: given.archive_directory for name, given in settings.tenants.items()}
        found += [Place(f"objects of {name}", directory) for name, directory in own.items() if directory]
    return [*found, Place("audit trail", audit_directory(settings))]


def index(settings: Settings, path: Path | None = None, *, any_age: bool = False, view: str = "") -> Index:
    """The engine of the rows; ``any_age`` lets it commit objects however long ago they were received.

    ``view`` names the view whose own rows they are, and what it makes is of no age.
    """
    storage, given = settings.storage, settings.index
    max_age_s = float("inf") if any_age or view else storage.grace_s / 2
    if given.engine == "postgres":
        return _postgres(settings, max_age_s, view)
    if view:
        path = view_settings.directory(settings) / f"{view}.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    return SqliteIndex(
        path or index_path(settings), max_age_s=max_age_s, fsync=storage.fsync, timeout_s=given.timeout_s
    )


def _postgres(settings: Settings, max_age_s: float, view: str = "") -> Index:
    where = postgres_settings(settings)
    if view:
        where = replace(where, schema=f"{where.schema}_view_{view.replace('-', '_')}")
    from storage.index.postgres import PostgresIndex  # noqa: PLC0415 - psycopg is an extra

    return PostgresIndex(where, max_age_s=max_age_s, timeout_s=settings.index.timeout_s)


def postgres_settings(settings: Settings) -> PostgresSettings:
    """Where the index is, on PostgreSQL. Raises InvalidSettings."""
    try:
        from storage.index.postgres import PostgresSettings  # noqa: PLC0415 - psycopg is an extra
    except ImportError as error:
        raise InvalidSettings(
            ['index.engine: "postgres" needs psycopg: pip install "dicomweb-gateway[postgres]"']
        ) from error
    given = settings.index
    try:
        return PostgresSettings(
            conninfo=given.url.get_secret_value(),
            password_file=given.password_file,
            schema=given.db_schema,
            max_readers=given.max_readers,
            fsync=settings.storage.fsync,
        )
    except ValueError as error:
        raise InvalidSettings([f"index.url: {error}"]) from error


def view_archive(
    settings: Settings, name: str, objects: ObjectStore, observe: Callable[[Index], Index] = lambda found: found
) -> Archive:
    """What a view shows: its own rows, and objects that are put together of the archive's."""
    folder = records.view_folder(ids.Tenant(settings.views[name].tenant), name)
    rows = observe(index(settings, view=name))
    return Archive(SplicedObjectStore(objects, f"{folder}objects/"), rows, limits(settings))


def view_follower(settings: Settings, name: str, source: Archive, shown: Archive, pool: ImagingPool) -> Follower:
    """What keeps a view up with its archive. Raises InvalidSettings."""
    definition = view_settings.definition(settings, name)
    assert isinstance(shown.objects, SplicedObjectStore)
    pixels = PixelWriter(source, pool, settings.storage.directory / "spool")
    notes = view_notes(definition, source.objects)
    writer = InstanceWriter(source, definition, pixels)
    deriver = Deriver(writer, shown.index, shown.objects, definition, notes)
    return Follower(source, Contents(shown, definition), definition, notes, deriver)


def view_notes(definition: Definition, objects: ObjectStore) -> Notes:
    """What a view notes for itself, beside its objects."""
    return Notes(objects, f"{records.view_folder(definition.tenant, definition.name)}notes/")


def view_erasers(settings: Settings, tenant: ids.Tenant, objects: ObjectStore) -> Iterator[ViewEraser]:
    """What erases from each view of a tenant. Raises InvalidSettings."""
    for name, given in settings.views.items():
        if given.tenant == tenant:
            definition = view_settings.definition(settings, name)
            shown = view_archive(settings, name, objects)
            yield ViewEraser(shown, definition, view_notes(definition, objects))


def gentle_pool(core: Core) -> ImagingPool:
    """A pool of its own for work that nobody waits for: one worker, which gives way to everything else on the host."""
    imaging = core.settings.imaging
    return ImagingPool(
        1, imaging.memory_bytes, _GENTLE_TIMES * imaging.timeout_s, nice=_GENTLE_NICE, working=core.metrics.working
    )


def recompression(core: Core, pool: ImagingPool) -> RecompressionService:
    """What makes HTJ2K of what was sent, as the rules want it."""
    settings = core.settings
    return RecompressionService(
        core.archive,
        pool,
        core.spool,
        core.room,
        settings.recompression,
        condenser=condenser(core, pool),
        moving=bool(settings.transition),
        after_s=settings.lifecycle.recompress_after_hours * 3600,
        # The same after a restart, which need not wait then for its own turn to be over.
        holder=f"{socket.gethostname()} {settings.storage.directory.resolve()}",
    )


def condenser(core: Core, pool: ImagingPool) -> Condenser:
    """What keeps originals as HTJ2K."""
    objects = core.archive.objects
    assert isinstance(objects, CondensedObjectStore)
    return Condenser(core.archive, objects, pool)


def index_path(settings: Settings) -> Path:
    """The file of an SQLite index."""
    return settings.storage.directory / "index.sqlite"


def control(settings: Settings) -> RelationalControl:
    """The engine of the control state: beside the index, but not in it, since that can be made anew."""
    if settings.index.engine == "postgres":
        where = postgres_settings(settings)
        from storage.control.postgres import PostgresControl  # noqa: PLC0415 - psycopg is an extra

        return PostgresControl(replace(where, schema=f"{where.schema}_control"), timeout_s=settings.index.timeout_s)
    return SqliteControl(control_path(settings), fsync=settings.storage.fsync, timeout_s=settings.index.timeout_s)


def control_path(settings: Settings) -> Path:
    """The file of a control state in SQLite."""
    return settings.storage.directory / "control.sqlite"


def check_tls(settings: Settings) -> None:
    """Read what TLS of the faces needs, and of the peers that instances go to. Raises InvalidSettings."""
    certificates.of(settings.http, "http")
    certificates.of(settings.dimse, "dimse")
    for peer in settings.dimse.destinations.values():
        certificates.to_peer(settings.dimse, peer)


def check_index(settings: Settings) -> None:
    """Refuse to start on objects without an index: they would seem lost. Raises InvalidSettings, StorageUnavailable."""
    check_places(settings)
    if settings.storage.read_only or _has_index(settings):
        return  # an index that follows comes by itself
    objects = object_store(settings)
    try:
        if any(not records.is_beside(info.key) for info in objects.list("")):
            raise InvalidSettings(["storage: there are objects but no index; run `gateway reindex` first"])
    finally:
        objects.close()


def _has_index(settings: Settings) -> bool:
    if settings.index.engine == "sqlite":
        return index_path(settings).exists()
    where = postgres_settings(settings)
    from storage.index.postgres_schemas import Schemas  # noqa: PLC0415 - psycopg is an extra

    try:
        with Schemas(where) as schemas:
            return schemas.exists(where.schema)
    except StorageUnavailable:
        return True  # what starts while the database is down becomes ready when it is there


def index_version(settings: Settings) -> int:
    """The schema of the index, 0 where there is none; to open it would make it, or bring it up to this release's.

    Raises InvalidSettings, StorageUnavailable.
    """
    if settings.index.engine == "sqlite":
        return schema_version(index_path(settings))
    where = postgres_settings(settings)
    from storage.index.postgres_schemas import Schemas  # noqa: PLC0415 - psycopg is an extra

    with Schemas(where) as schemas:
        return schemas.version(where.schema)


def release() -> str:
    """The version of this program."""
    return version("dicomweb-gateway")


def metrics_directory(settings: Settings) -> Path:
    """Where the workers' metrics are while they run."""
    return settings.storage.directory / "metrics"


def limits_directory(settings: Settings) -> Path:
    """Where the processes count what callers do how often, while they run."""
    return settings.storage.directory / "limits"


def attempts(core: Core) -> Attempts:
    """Attempts to prove who somebody is, over any face. Raises StorageFull, StorageUnavailable."""
    http, tables = core.settings.http, core.tables
    locks = Locks(http.failed_attempts, http.lockout_s, http.max_lockout_s)
    return Attempts(core.door, Throttle(locks, core.control, tables.of("locked"), tables.of("known")))


def audit_directory(settings: Settings) -> Path:
    """Where the audit files go."""
    return settings.audit.directory or settings.storage.directory / "audit"


def audit_directories(settings: Settings) -> list[Path]:
    """Where audit files are read: ours, and those of others as far as they are there now, with all below."""
    found = [audit_directory(settings)]
    for each in settings.audit.other_directories:
        found += with_those_below(each)
    return list(dict.fromkeys(found))


def with_those_below(directory: Path) -> list[Path]:
    """A directory and all below it."""
    return [directory, *sorted(path for path in directory.rglob("*") if path.is_dir())]


def audit_key_file(settings: Settings) -> Path | None:
    """The file of the trail's key; None where the environment has it."""
    if settings.audit.key.get_secret_value():
        return None
    return settings.audit.key_file or settings.storage.directory / "audit.key"


def audit_key(settings: Settings) -> AuditKey:
    """The key that the trail is signed with; made at the first start when none is given.

    Raises InvalidSettings, AuditUnavailable.
    """
    given = settings.audit
    if given.key_file is not None:
        return AuditKey(key_in_file(given.key_file, "audit.key_file"))
    if written := given.key.get_secret_value():
        return AuditKey(key_of(written.encode(), "audit.key"))
    return audit_key_files.kept(settings.storage.directory / "audit.key")


def audit_keys(settings: Settings) -> dict[str, AuditKey]:
    """Every key of the trail that there is, by its id. Raises InvalidSettings, AuditUnavailable."""
    found = [audit_key(settings), *_old_audit_keys(settings)]
    return {each.id: each for each in found}


def audit_verification(settings: Settings, objects: ObjectStore, since: str) -> verifying.Verification:
    """Check the files of the trail from a day on (YYYYMMDD), with the checkpoints in the object store.

    Raises InvalidSettings, AuditUnavailable, StorageUnavailable, OSError.
    """
    where = audit_directories(settings)
    claims = verifying.checkpoints_of(objects, verifying.trails(where), since)
    return verifying.verify(where, audit_keys(settings), claims, since)


def _old_audit_keys(settings: Settings) -> list[AuditKey]:
    return [AuditKey(key_in_file(path, "audit.old_key_files")) for path in settings.audit.old_key_files]


def check_audit(settings: Settings) -> None:
    """Read what the settings of the audit trail name, making nothing. Raises InvalidSettings."""
    if settings.audit.key_file is not None or settings.audit.key.get_secret_value():
        audit_key(settings)
    _old_audit_keys(settings)
    if settings.syslog.host:
        syslog_server(settings)


def syslog_server(settings: Settings) -> syslog.Server:
    """Where audit messages go. Raises InvalidSettings."""
    given = settings.syslog
    try:
        context = syslog.tls(given.ca_bundle, given.client_certificate, given.client_key)
    except OSError as error:  # ssl.SSLError too
        raise InvalidSettings([f"syslog.ca_bundle, syslog.client_certificate: {error.strerror or error}"]) from error
    return syslog.Server(given.host, given.port, context, given.timeout_s)


def reporter(settings: Settings) -> Reporter:
    """Who this gateway is in audit messages."""
    host = socket.gethostname()
    return Reporter(host, settings.audit.source_id or host, settings.audit.site_id)


def forwarder(settings: Settings, patients: IndexPatients) -> syslog.Forwarder:
    """What sends the trail on. Raises InvalidSettings, OSError."""
    directory = audit_directory(settings)
    directory.mkdir(parents=True, exist_ok=True, mode=0o750)
    return syslog.Forwarder(directory, syslog_server(settings), reporter(settings), patients)


def patients(settings: Settings) -> IndexPatients:
    """Whose studies are."""
    return IndexPatients(lambda: index(settings))


def audit_trail(settings: Settings, worker: str, observe: Callable[[str, str], None] = unobserved) -> AuditTrail:
    """The trail of one process, by its name; ``observe`` hears action and outcome of each record.

    Raises InvalidSettings, AuditUnavailable.
    """
    given, directory = settings.audit, audit_directory(settings)
    full = never
    if settings.syslog.host:
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        full = syslog.full(directory, settings.syslog.max_pending_bytes)
    return AuditTrail(
        directory,
        worker,
        audit_key(settings),
        window_s=given.window_s,
        sync_interval_s=given.sync_interval_s,
        fsync=settings.storage.fsync,
        full=full,
        observe=observe,
    )


def checkpointer(settings: Settings) -> Checkpointer:
    """What puts the heads of all chains into the object store. Raises InvalidSettings, AuditUnavailable."""

    def objects() -> ObjectStore:
        return object_store(settings, reading_cache=False)

    interval_s = settings.audit.checkpoint_interval_s
    return Checkpointer(audit_directory(settings), audit_key(settings), objects, interval_s)


def certificates_directory(settings: Settings) -> Path:
    """Where certificates of erasure go."""
    return settings.storage.directory / "certificates"


def build(settings: Settings, worker: str, *, any_age: bool = False) -> Core:
    """Everything below the faces, for one process.

    Parameters
    ----------
    worker
        The process's name, such as "http-1"; no two processes share one.
    any_age
        As for ``index``; for the process that gives old objects their rows.
    """
    bounds = limits(settings)
    metrics, tracer = Metrics(), tracing.tracer(settings.traces, worker, release())
    archive = Archive(
        object_store(settings, observe=lambda store, name: ObservedObjects(store, name, metrics, tracer)),
        observed_index(index(settings, any_age=any_age), metrics, tracer),
        bounds,
    )
    trail = audit_trail(settings, worker, metrics.recorded)
    door = Door(settings.access.policy_file, trail, metrics.glass_broken.inc)
    kept = control(settings)
    steps = RelationalSteps(kept)
    shares, tokens = Shares(kept), Tokens(settings.access.issuers)
    imaging = settings.imaging
    pool = ImagingPool(
        imaging.workers,
        imaging.memory_bytes,
        imaging.timeout_s,
        animation_timeout_s=imaging.animation_timeout_s,
        working=metrics.working,
    )
    storage = settings.storage
    near = storage.objects != "s3"

    def projection(view: View, shown: Archive, takes: Callable[[Door], Ingest]) -> Projection:
        behind = door.onto(view)
        ahead = ReadAhead(settings.s3.read_ahead) if not near and settings.s3.read_ahead else None
        retrieve = RetrieveService(shown, behind, pool, bounds, ahead, near=near)
        return Projection(
            view,
            QueryService(shown.index, behind, settings.search, record_values=settings.audit.query_values),
            retrieve,
            RenderService(retrieve, pool, imaging.animation_frames),
            FeedService(shown.index, behind),
            takes(behind),
        )

    views = {
        name: view_archive(settings, name, archive.objects, lambda found: observed_view(found, metrics, tracer))
        for name in settings.views
    }
    spool = Spool(storage.directory / "spool", storage.spool_memory_bytes, storage.max_instance_bytes)
    room = Room(archive.index, quotas(settings), places(settings), storage.min_free_bytes)
    probe = EngineProbe(archive.ping)
    delete = DeleteService(archive, door, storage.undo_s)
    as_it_comes = IngestService(archive, door, bounds, conflicts(settings), room, read_only=storage.read_only)
    ingest = IngestService(
        archive,
        door,
        bounds,
        conflicts(settings),
        room,
        read_only=storage.read_only,
        arriving=Deidentification(
            {name: view_settings.arriving(settings, name) for name in settings.deidentification},
            settings.dimse.deidentify,
            {tenant: given.deidentify for tenant, given in settings.tenants.items()},
            pool,
            spool,
            bounds,
        ),
    )

    definitions = {name: view_settings.definition(settings, name) for name in settings.views}

    def view(name: str, shown: Archive) -> Projection:
        definition = definitions[name]
        return projection(
            View(name, definition.version),
            shown,
            lambda behind: ViewIngest(archive, shown, definition, behind, as_it_comes, spool),
        )

    audit = AuditService(
        partial(audit_directories, settings),
        archive.index,
        door,
        LiveCoverage(archive.objects, partial(audit_directories, settings)),
        partial(audit_verification, settings, archive.objects),
    )
    pseudonymisation = Pseudonymisation(archive.index, views, definitions, door)

    return Core(
        settings=settings,
        metrics=metrics,
        tracer=tracer,
        limits=bounds,
        archive=archive,
        trail=trail,
        door=door,
        control=kept,
        tables=Tables(limits_directory(settings)),
        authenticator=Authenticator(door, kept, tokens, shares),
        providers=list(tokens.providers.values()),
        logins=Logins(tokens, kept),
        sealing=Sealing(kept),
        sharing=SharingService(
            shares, door, {"": archive.index, **{name: shown.index for name, shown in views.items()}}
        ),
        accounts=AccountService(kept, door, archive.index),
        spool=spool,
        composer=Composer(spool, bounds),
        pool=pool,
        ingest=ingest,
        projections=Projections(
            door,
            projection(AS_STORED, archive, lambda _: ingest),
            {name: view(name, shown) for name, shown in views.items()},
        ),
        views=views,
        reidentification=Reidentification(archive.index, views, door),
        pseudonymisation=pseudonymisation,
        delete=delete,
        retention=RetentionService(archive, delete, trail, settings.retention, settings.lifecycle),
        audit=audit,
        history=HistoryService(archive.index, door, audit, pseudonymisation.names),
        peers=PeerService(settings.dimse, [*settings.tenants], partial(audit_directories, settings), door),
        activity=ActivityService(
            archive.index,
            places(settings),
            {name: given.tenant for name, given in settings.views.items()},
            door,
            probe.fault,
            partial(counted.ask, settings.metrics.host, settings.metrics.port),
        ),
        associations=AssociationService(kept, [*settings.tenants], door),
        quarantine=QuarantineService(
            archive,
            spool,
            room,
            conflicts(settings),
            door,
            partial(audit_directories, settings),
            read_only=storage.read_only,
        ),
        commitment=CommitmentService(archive, door),
        worklist=WorklistService(steps, door, record_values=settings.audit.query_values),
        performed=PerformedService(steps, door, room),
        room=room,
        probe=probe,
    )


def check(settings: Settings) -> None:
    """Validate what the settings point to, without starting anything. Raises InvalidSettings."""
    view_settings.check(settings, policy.load(settings.access.policy_file).views)
    check_keys(settings)
    check_audit(settings)
    check_tls(settings)
    tracing.check(settings.traces)
    directory = settings.storage.directory
    existing = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InvalidSettings([f"storage.directory: {existing} is not a directory"])
    archive = archive_directory(settings)
    if settings.storage.read_only and settings.storage.objects == "local" and not (archive / "objects").is_dir():
        raise InvalidSettings([f"storage.archive_directory: {archive} is no archive; is it mounted?"])
    if settings.index.engine == "postgres":
        _postgres(settings, 0.0).close()
