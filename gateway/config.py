"""The settings tree: a TOML file plus ``GATEWAY_...`` environment, validated before a socket is opened."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, ValidationError, field_validator, model_validator
from pydantic.networks import IPvAnyNetwork
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Workers = Annotated[int, Field(ge=1, le=64)]


class HttpSettings(_Section):
    """The DICOMweb face and the pages."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Port = 8080
    """Port to listen on; 0 takes any free one."""
    workers: Workers = 2
    """Processes that serve HTTP."""
    public_url: HttpUrl | None = None
    """Where clients reach the service, for URLs in answers; without it they are made from the request's Host."""
    path_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$", max_length=256)] = ""
    """Put before every path but those of health, such as /imaging, for a proxy that passes paths on as they are."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of proxies whose word on the client's address, scheme and host is taken, such as 10.0.0.0/24."""
    forwarding_header: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    """What those proxies set: X-Forwarded-For, -Proto, -Host, -Port and -Prefix, or Forwarded (RFC 7239)."""
    cors_origins: tuple[str, ...] = ()
    """Exact origins whose pages may call the service, such as https://viewer.example.org."""
    max_request_bytes: int = Field(default=16 << 30, ge=1 << 20)
    """Longest body of one STOW-RS request."""
    max_metadata_part_bytes: int = Field(default=32 << 20, ge=1 << 16)
    """Longest metadata, of all instances together, in a STOW-RS request that sends it apart from bulk data."""
    max_results: int = Field(default=1000, ge=1, le=100_000)
    """Most rows in one QIDO-RS answer."""
    qido_empty: int = Field(default=204, ge=200, le=204)
    """Status of a QIDO-RS answer without results: 204 as PS3.18 has it, or 200 with an empty list."""
    body_timeout_s: float = Field(default=60.0, gt=0)
    """Longest pause between two blocks of a request's body."""
    write_timeout_s: float = Field(default=60.0, gt=0)
    """A client that does not take 256 KiB of an answer in so long is let go."""
    max_followers: int = Field(default=200, ge=0)
    """Requests that may wait for changes at the same time in each process."""
    drain_s: float = Field(default=20.0, ge=0)
    """How long requests under way may take to end after SIGTERM."""

    @field_validator("qido_empty")
    @classmethod
    def _empty(cls, value: int) -> int:
        if value not in (200, 204):
            raise ValueError(f"200 or 204, got {value}")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not origin.startswith(("http://", "https://")) or "/" in origin.partition("://")[2] or "*" in origin:
                raise ValueError(f"an origin is scheme://host[:port], got {origin!r}")
        return value


class DimseSettings(_Section):
    """The DIMSE face."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Port = 11112
    """Port to listen on; 0 takes any free one."""
    workers: Workers = 2
    """Processes that serve associations."""
    ae_title: AeTitle = "GATEWAY"
    """Our AE title; an association that calls another one is rejected."""
    max_associations: int = Field(default=25, ge=1, le=1000)
    """Associations at the same time in each process."""
    max_pdu_bytes: int = Field(default=131_072, ge=4096, le=1 << 20)
    """Longest PDU that we offer to receive."""
    network_timeout_s: float = Field(default=60.0, gt=0)
    """An association without a message for so long is aborted."""
    acse_timeout_s: float = Field(default=15.0, gt=0)
    """Longest wait for association messages."""
    dimse_timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for the rest of a message."""
    max_matches: int = Field(default=10_000, ge=1)
    """Most matches of one C-FIND; more are answered with 0xA700."""
    drain_s: float = Field(default=20.0, ge=0)
    """How long associations may take to end after SIGTERM."""


class SearchSettings(_Section):
    """What one search may cost, over QIDO-RS and C-FIND."""

    max_inspected: int = Field(default=20_000, ge=1)
    """Most instances whose metadata are looked into for attributes without an index; beyond it 413 or 0xA700."""
    max_counted: int = Field(default=2_000, ge=1)
    """X-Total-Count is exact up to so many; ``/count`` always is."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Longest search; beyond it 413 or 0xA700."""
    max_answer_bytes: int = Field(default=64 << 20, ge=1 << 20)
    """Longest answer of one search with attributes from the metadata; the rest is for the next page."""


class StorageSettings(_Section):
    """Where objects and rows are kept."""

    objects: Literal["local", "s3"] = "local"
    """Engine of the objects: a local directory or an S3-compatible store."""
    directory: Path = Path("data")
    """Directory of the local engines and the spool."""
    archive_directory: Path | None = None
    """Directory of the objects, with the local engine; ``archive`` in the storage directory when absent."""
    read_only: bool = False
    """Nothing is written to the objects, which another gateway writes; the index here follows them."""
    follow_interval_s: float = Field(default=60.0, ge=0.1)
    """With ``read_only``: pause between two looks at what is new; each lists all objects."""
    conflict: Literal["version", "reject"] = "version"
    """What to do with a known SOP Instance UID and other content: keep both, the newer current; or refuse."""
    grace_s: float = Field(default=86_400.0, ge=60)
    """An object that has no row after so long is given one, or removed when its content is there already."""
    reap_interval_s: float = Field(default=3600.0, ge=1)
    """How often the background worker looks for objects without a row."""
    undo_s: float = Field(default=604_800.0, ge=0)
    """How long a deletion can be undone; afterwards its objects are removed for good."""
    study_quiet_s: float = Field(default=300.0, gt=0)
    """A study in which nothing happened for so long is complete, and the change feed says so."""
    min_free_bytes: int = Field(default=256 << 20, ge=0)
    """With less free on the disk of the spool, the objects or the audit trail nothing is stored; 0 does not look."""
    spool_memory_bytes: int = Field(default=1 << 20, ge=0)
    """Instances up to this size are held in memory while they arrive, longer ones in the spool."""
    max_instance_bytes: int = Field(default=8 << 30, ge=1 << 20)
    """Longest instance that is taken."""
    fsync: bool = True
    """False gives up the promise that what was acknowledged survives a power cut; for benchmarks only."""


class IndexSettings(_Section):
    """Where rows are kept."""

    engine: Literal["sqlite", "postgres"] = "sqlite"
    """SQLite in the storage directory, for one host; PostgreSQL 15 or newer from the second host on."""
    url: SecretStr = SecretStr("")
    """PostgreSQL: where it is, as libpq has it: postgresql://gateway@db.example.org/gateway?sslmode=verify-full."""
    password_file: Path | None = None
    """PostgreSQL: a file with the password, read at each connection; or give it in GATEWAY_INDEX__URL."""
    db_schema: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=40)] = "gateway"
    """PostgreSQL: schema that holds the tables; made when absent."""
    max_readers: int = Field(default=16, ge=1, le=200)
    """PostgreSQL: most connections of one process, beside its one for writing."""
    timeout_s: float = Field(default=30.0, ge=3)
    """Longest wait for a turn to write, or for a connection; then 503 or 0xA700."""


class S3Section(_Section):
    """The S3-compatible store, for ``storage.objects = "s3"``."""

    endpoint_url: str = ""
    """URL of the store; empty for AWS."""
    bucket: str = ""
    """Name of the bucket."""
    prefix: str = ""
    """Put before every key."""
    region: str = "us-east-1"
    """Region, as the store wants it in signatures."""
    access_key_id: str = ""
    """Empty: boto3's own chain (environment, profile, role)."""
    secret_access_key: SecretStr = SecretStr("")
    """Give it by GATEWAY_S3__SECRET_ACCESS_KEY rather than in the file."""
    role_arn: str = ""
    """Role to assume, by the keys above or by boto3's own chain."""
    external_id: str = ""
    """What the role's owner wants to hear with it."""
    web_identity_token_file: Path | None = None
    """Token to assume the role with, in place of keys; on EKS the environment says all this and nothing is set here."""
    sts_endpoint_url: str = ""
    """Service that gives the role's keys; empty for AWS."""
    path_style: bool = True
    """Bucket in the path rather than in the host name."""
    ca_bundle: Path | None = None
    """Certificates to trust in place of the system's."""
    server_side_encryption: Literal["", "sse-s3", "sse-kms", "sse-c"] = ""
    """Ask the store to encrypt every object: with its own keys, a key management service's, or ours."""
    kms_key_id: str = ""
    """Key for sse-kms; empty for the bucket's or account's own."""
    customer_key_file: Path | None = None
    """File with the key for sse-c: 32 bytes, or their base64 or hexadecimal form."""
    customer_key: SecretStr = SecretStr("")
    """The key itself in place of the file: give it by GATEWAY_S3__CUSTOMER_KEY."""
    tags: dict[str, Annotated[str, Field(max_length=256)]] = {}
    """Put on every object; {tenant} in a value is the object's tenant. The keys need s3:PutObjectTagging."""
    storage_class: str = ""
    """Storage class of new objects; empty for the store's default. One that is read with delay cannot be served."""
    max_connections: int = Field(default=64, ge=1, le=4096)
    """Connections that each process keeps open."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """Longest wait for a connection."""
    read_timeout_s: float = Field(default=30.0, gt=0)
    """Longest silence of the store within a request."""
    max_attempts: int = Field(default=4, ge=1, le=20)
    """How often a request is made before the store is unavailable."""
    multipart_threshold_bytes: int = Field(default=16 << 20, ge=5 << 20, le=1 << 30)
    """Longer objects go up in parts; shorter ones are held in memory while they do."""
    part_bytes: int = Field(default=8 << 20, ge=5 << 20, le=1 << 30)
    """Size of a part."""
    cache_bytes: int = Field(default=4 << 30, ge=0)
    """Room for what was read, in ``cache`` in the storage directory, shared by all processes; 0 keeps nothing."""
    read_ahead: int = Field(default=8, ge=0, le=64)
    """Reads of up to 1 MiB that an answer of many has under way at the same time; 0 makes one after the other."""
    create_bucket: bool = False
    """Make the bucket at start when it is not there."""


KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")]


class EncryptionSettings(_Section):
    """Encryption of objects before they leave the gateway, in a directory and in S3 alike."""

    active_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,32}$")] = ""
    """Id of the master key for new objects; empty leaves them as they are."""
    keys_directory: Path | None = None
    """Directory of master keys, each in a file ID.key: 32 bytes, or their base64 or hexadecimal form."""
    key_variables: dict[KeyId, str] = {}
    """Environment variables that hold further master keys, by their id."""
    mixed: bool = True
    """Take objects without encryption too: those from before it was switched on."""


class LimitSettings(_Section):
    """Bounds on one arriving instance."""

    max_depth: int = Field(default=64, ge=1, le=200)
    """Sequences in sequences."""
    max_elements: int = Field(default=4_000_000, ge=1000)
    """Elements and items in all."""
    max_metadata_bytes: int = Field(default=256 << 20, ge=1 << 20)
    """Metadata of one instance."""
    max_inflate_ratio: int = Field(default=100, ge=1)
    """Ratio at which a deflated data set may inflate beyond the first 32 MiB."""


class ImagingSettings(_Section):
    """Decoding and rendering, in their own processes."""

    workers: Workers = 1
    """Decoding processes of each HTTP worker, and one more once an animation is asked for."""
    memory_bytes: int = Field(default=2 << 30, ge=256 << 20)
    """Memory of one decoding process."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Longest decoding of one frame."""
    animation_timeout_s: float = Field(default=60.0, gt=0)
    """Longest making of an animated GIF or MP4 video, in a process of its own; one is made at a time."""
    animation_frames: int = Field(default=500, ge=1, le=10_000)
    """Most frames of one animated GIF or MP4 video."""


class AccessSettings(_Section):
    """Who may do what."""

    policy_file: Path | None = None
    """The policy; without one, callers on this machine may do everything and nobody else anything."""


TenantName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]


class TenantSettings(_Section):
    """What is different for one tenant; the tenants themselves are named in the policy file.

    Each stands under its name: ``[tenants.radiology]``, or ``GATEWAY_TENANTS__RADIOLOGY__BUCKET``.
    """

    archive_directory: Path | None = None
    """With the local engine: a directory of its own for its objects, which is made when absent."""
    bucket: str = ""
    """With S3: a bucket of its own for its objects, at the store of ``s3.endpoint_url``; empty for the common one."""
    prefix: str = ""
    """With S3: put before every key of the tenant, which begins with the tenant's name in any case."""
    access_key_id: str = ""
    """Keys for its bucket alone; empty for those of ``s3``."""
    secret_access_key: SecretStr = SecretStr("")
    """Give it by the environment rather than in the file."""
    role_arn: str = ""
    """Role to assume for its bucket; empty for that of ``s3``."""
    conflict: Literal["version", "reject"] | None = None
    """As ``storage.conflict``, for this tenant."""
    quota_bytes: int | None = Field(default=None, ge=0)
    """Most bytes of objects; beyond it nothing more is stored. Deleted ones count until they are removed for good."""
    quota_instances: int | None = Field(default=None, ge=0)
    """Most objects, as for ``quota_bytes``: every version of an instance is one."""


class AuditSettings(_Section):
    """The audit trail."""

    directory: Path | None = None
    """Where the audit files go; ``audit`` in the storage directory when absent."""


class LogSettings(_Section):
    """What is logged on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe events to log."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object a line for whatever collects them."""


class MetricsSettings(_Section):
    """Metrics and health of the whole gateway on a port of their own; none of it is on the public face but health."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Port | None = None
    """Port of /metrics, /health/live and /health/ready; without it nothing listens, 0 takes any free one."""


class TracesSettings(_Section):
    """OpenTelemetry traces; they need ``pip install "dicomweb-gateway[otel]"``."""

    endpoint: HttpUrl | None = None
    """Where spans go by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; without it none are made."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """The part of traces that is kept, decided by the trace id alone: a caller cannot ask for more."""


class Settings(BaseSettings):
    """All settings; the file's sections are the fields."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="GATEWAY_", env_nested_delimiter="__", use_attribute_docstrings=True
    )

    http: HttpSettings = HttpSettings()
    dimse: DimseSettings = DimseSettings()
    search: SearchSettings = SearchSettings()
    storage: StorageSettings = StorageSettings()
    index: IndexSettings = IndexSettings()
    s3: S3Section = S3Section()
    encryption: EncryptionSettings = EncryptionSettings()
    limits: LimitSettings = LimitSettings()
    imaging: ImagingSettings = ImagingSettings()
    access: AccessSettings = AccessSettings()
    tenants: dict[TenantName, TenantSettings] = {}
    audit: AuditSettings = AuditSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings names them
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.storage.objects == "s3" and not self.s3.bucket:
            raise ValueError('s3.bucket: needed for storage.objects = "s3"')
        if self.index.engine == "postgres" and not self.index.url.get_secret_value():
            raise ValueError('index.url: needed for index.engine = "postgres"')
        if self.s3.cache_bytes and self.s3.cache_bytes < 16 << 20:
            raise ValueError(f"s3.cache_bytes: 0, or at least {16 << 20}, got {self.s3.cache_bytes}")
        if not self.encryption.active_key and not self.encryption.mixed:
            raise ValueError("encryption.active_key: needed where encryption.mixed is false")
        if self.s3.server_side_encryption == "sse-c" and not (self.s3.customer_key_file or self.s3.customer_key):
            raise ValueError("s3.customer_key_file: needed for sse-c")
        if self.s3.web_identity_token_file and not self.s3.role_arn:
            raise ValueError("s3.role_arn: needed with s3.web_identity_token_file")
        for tenant, given in self.tenants.items():
            self._check_tenant(tenant, given)
        beyond = [face for face in ("http", "dimse") if getattr(self, face).host not in LOOPBACK]
        if beyond and self.access.policy_file is None:
            raise ValueError(
                f"access.policy_file: needed because {beyond[0]}.host listens beyond this machine; "
                "see docs/operations.md"
            )
        return self

    def _check_tenant(self, tenant: str, given: TenantSettings) -> None:
        of_s3 = [name for name in ("bucket", "prefix", "access_key_id", "role_arn") if getattr(given, name)]
        if of_s3 and self.storage.objects != "s3":
            raise ValueError(f'tenants.{tenant}.{of_s3[0]}: only with storage.objects = "s3"')
        if given.archive_directory and self.storage.objects != "local":
            raise ValueError(f'tenants.{tenant}.archive_directory: only with storage.objects = "local"')
        if bool(given.access_key_id) != bool(given.secret_access_key.get_secret_value()):
            raise ValueError(f"tenants.{tenant}.access_key_id: to be given together with secret_access_key")
        if of_s3 and given.bucket in ("", self.s3.bucket) and _nested(given.prefix, self.s3.prefix):
            raise ValueError(
                f"tenants.{tenant}.prefix: a place of its own in the common bucket lies beside s3.prefix, "
                "which must not be empty then"
            )


def _nested(one: str, other: str) -> bool:
    """Whether one of two prefixes is that of a part of what the other is that of."""
    first, second = (f"{prefix}/" if prefix else "" for prefix in (one, other))
    return first.startswith(second) or second.startswith(first)


class InvalidSettings(Exception):
    """The settings cannot be used; ``faults`` has one line for each fault: where it is and what would be right."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def variable(name: str) -> str | None:
    """What an environment variable that a setting names holds."""
    return os.environ.get(name)


def variables_set() -> list[str]:
    """Names of the environment variables that are settings, and set."""
    return sorted(name for name in os.environ if name.upper().startswith("GATEWAY_"))


def load(path: Path | None) -> Settings:
    """Settings from a file, if any, and the environment.

    Relative paths in a file are relative to the file.

    Raises
    ------
    InvalidSettings
        With every fault at once.
    """
    found: dict[str, Any] = {}
    if path is not None:
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidSettings([f"{path}: {error.strerror or error}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidSettings([f"{path}: not TOML: {error}"]) from error
        _resolve(found, path.parent)
    try:
        return Settings(**found)
    except ValidationError as error:
        raise InvalidSettings([_fault(each) for each in error.errors()]) from error


def _resolve(found: dict[str, Any], folder: Path) -> None:
    for section, name in (
        ("storage", "directory"),
        ("storage", "archive_directory"),
        ("access", "policy_file"),
        ("audit", "directory"),
        ("s3", "ca_bundle"),
        ("index", "password_file"),
        ("s3", "customer_key_file"),
        ("encryption", "keys_directory"),
        ("s3", "web_identity_token_file"),
    ):
        values = found.get(section)
        _resolve_in(values, name, folder)
    tenants = found.get("tenants")
    for values in tenants.values() if isinstance(tenants, dict) else ():
        _resolve_in(values, "archive_directory", folder)


def _resolve_in(values: object, name: str, folder: Path) -> None:
    if isinstance(values, dict) and isinstance(values.get(name), str):
        values[name] = str(folder / values[name])


_FORMS = {
    "[key]": "up to 32 letters, digits and ._-",
    "active_key": "up to 32 letters, digits and ._-",
    "ae_title": "printable ASCII without a backslash",
    "path_prefix": "segments of letters, digits and ._~-, each after a slash",
    "db_schema": "lower-case letters, digits and underscores, no digit first",
}
"""What would be right where a pattern is asked for."""
_SECRET = frozenset(("url", "customer_key", "secret_access_key"))


def _fault(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "extra_forbidden":
        return f"{where}: there is no such setting"
    if kind == "value_error":
        text = str(context["error"])
        return f"{where}: {text}" if where else text
    if kind == "string_too_long":
        return f"{where}: at most {context['max_length']} characters, got {len(str(given))}"
    if kind == "string_pattern_mismatch":
        return f"{where}: {_FORMS[where.rpartition('.')[2]]}, got {given!r}"
    shown = "" if isinstance(given, dict) or where.rpartition(".")[2] in _SECRET else f", got {given!r}"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}{shown}"
