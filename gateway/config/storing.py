"""Sections of the settings: where objects and rows are kept, and by which rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from gateway.config.section import KeyId, Section


class StorageSettings(Section):
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


class IndexSettings(Section):
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


class S3Section(Section):
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
    tags: dict[str, Annotated[str, Field(max_length=256)]] = Field(default={})
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
    parallel_parts: int = Field(default=4, ge=0, le=64)
    """Parts that each process has under way beside one of each object; every part under way is held in memory."""
    cache_bytes: int = Field(default=4 << 30, ge=0)
    """Room for what was read, in ``cache`` in the storage directory, shared by all processes; 0 keeps nothing."""
    cache_compare_interval_s: float = Field(default=600.0, gt=0)
    """How often the cache is compared with the index: what other hosts erased, or removed after a deletion, goes."""
    read_ahead: int = Field(default=8, ge=0, le=64)
    """Reads of up to 1 MiB that an answer of many has under way at the same time; 0 makes one after the other."""
    create_bucket: bool = False
    """Make the bucket at start when it is not there."""


class EncryptionSettings(Section):
    """Encryption of objects before they leave the gateway, in a directory and in S3 alike."""

    active_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,32}$")] = ""
    """Id of the master key for new objects; empty leaves them as they are."""
    keys_directory: Path | None = None
    """Directory of master keys, each in a file ID.key: 32 bytes, or their base64 or hexadecimal form."""
    key_variables: dict[KeyId, str] = Field(default={})
    """Environment variables that hold further master keys, by their id."""
    mixed: bool = True
    """Take objects without encryption too: those from before it was switched on."""


class TenantSettings(Section):
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
    deidentify: str = ""
    """What arrives for it is de-identified before it is stored, by this ``[deidentification.NAME]``."""
