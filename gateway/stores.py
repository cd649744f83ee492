"""The object store that the settings describe, with its keys from where they say."""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config import InvalidSettings, Settings, variable
from gateway.config.serving import ImagingSettings
from gateway.config.storing import EncryptionSettings, S3Section, TenantSettings
from gateway.imaging.errors import ImagingBusy, ImagingError, ImagingTimeout
from storage.errors import ObjectDamaged, StorageUnavailable
from storage.objects.base import ObjectStore
from storage.objects.cached import CachedObjectStore
from storage.objects.condensed import CondensedObjectStore
from storage.objects.encrypted import EncryptedObjectStore, MasterKeys
from storage.objects.local import LocalObjectStore
from storage.objects.read_cache import ReadCache
from storage.objects.read_only import ReadOnlyObjectStore
from storage.objects.routed import RoutedObjectStore
from storage.objects.s3 import S3ObjectStore, S3Settings
from storage.objects.s3_classes import S3StorageClasses
from storage.objects.s3_clients import ServerSideEncryption

if TYPE_CHECKING:
    from gateway.imaging.pool import ImagingPool

KEY_BYTES = 32


Observe = Callable[[ObjectStore, str], ObjectStore]
"""Puts an observer around a store that has a name: "objects", the engine, or "cache", what is read through."""


def object_store(
    settings: Settings,
    *,
    reading_cache: bool = True,
    read_only: bool = False,
    observe: Observe = lambda store, _: store,
) -> CondensedObjectStore:
    """The store of the objects: the engine, a cache where it is far, encryption, and originals kept as HTJ2K on top.

    Parameters
    ----------
    reading_cache
        False asks the engine itself for every byte: for who reads everything, or checks what the engine has.
    read_only
        Nothing can be written to it; so with ``storage.read_only`` in any case.
    observe
        Called with each layer that is of interest by itself.

    Raises
    ------
    InvalidSettings
        A key cannot be had.
    StorageUnavailable
    """
    store = _engine(settings, reading_cache, read_only or settings.storage.read_only, observe)
    master_keys = _master_keys(settings.encryption)
    if master_keys is not None:
        store = EncryptedObjectStore(store, master_keys, mixed=settings.encryption.mixed)
    decoding = _Decoding(settings.imaging)
    return CondensedObjectStore(store, decoding.frame, decoding.close)


class _Decoding:
    """Frames of originals kept as HTJ2K, decoded in processes that start when the first one is read.

    They are no others' processes: one that decodes may be what waits for these bytes.
    """

    def __init__(self, imaging: ImagingSettings) -> None:
        self._imaging = imaging
        self._lock = threading.Lock()
        self._pool: ImagingPool | None = None

    def frame(self, codestream: bytes, text: str) -> bytes:
        """A native frame. Raises ObjectDamaged, StorageUnavailable."""
        from gateway.imaging import form  # noqa: PLC0415 - decoders, for those that read such originals only

        try:
            return form.loads(text).restored(self._begun(), codestream)
        except (ImagingBusy, ImagingTimeout) as error:
            raise StorageUnavailable(f"an original kept as HTJ2K is not decoded now: {error}") from error
        except ImagingError as error:
            raise ObjectDamaged(f"an original kept as HTJ2K cannot be decoded: {error}") from error

    def _begun(self) -> ImagingPool:
        from gateway.imaging.pool import ImagingPool  # noqa: PLC0415 - as above

        imaging = self._imaging
        with self._lock:
            if self._pool is None:
                self._pool = ImagingPool(imaging.workers, imaging.memory_bytes, imaging.timeout_s)
            return self._pool

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


def archive_directory(settings: Settings) -> Path:
    """Where the objects are, with the local engine."""
    return settings.storage.archive_directory or settings.storage.directory / "archive"


def check_places(settings: Settings) -> None:
    """Refuse to work where the common place has objects of a tenant with a place of its own: nobody would see them.

    Raises InvalidSettings, StorageUnavailable.
    """
    names = tenants_with_own(settings)
    if not names:
        return
    common = _place(settings, None, read_only=settings.storage.read_only)
    try:
        for name in names:
            if next(iter(common.list(f"{name}/")), None) is not None:
                raise InvalidSettings(
                    [f"tenants.{name}: the common place still has objects below {name}/; move them to the tenant's own"]
                )
    finally:
        common.close()


def check_keys(settings: Settings) -> None:
    """Read every key that the settings name. Raises InvalidSettings."""
    if settings.storage.objects == "s3":
        _customer_key(settings.s3)
    _master_keys(settings.encryption)


def tenants_with_own(settings: Settings) -> list[str]:
    """Tenants whose objects are in a place of their own, and not in the common one."""
    return [
        name
        for name, given in settings.tenants.items()
        if given.archive_directory or given.bucket or given.prefix or given.access_key_id or given.role_arn
    ]


def _engine(settings: Settings, reading_cache: bool, read_only: bool, observe: Observe) -> ObjectStore:
    storage, s3 = settings.storage, settings.s3
    own = {name: _place(settings, settings.tenants[name], read_only) for name in tenants_with_own(settings)}
    common = _place(settings, None, read_only)
    routed = RoutedObjectStore(common, own) if own else common
    store = observe(ReadOnlyObjectStore(routed) if read_only else routed, "objects")
    if storage.objects == "local" or not s3.cache_bytes:
        return store
    return observe(CachedObjectStore(store, _cache(settings), reading=reading_cache), "cache")


def read_cache(settings: Settings) -> ReadCache | None:
    """This host's cache of what was read from a store that is far; None where there is none."""
    return _cache(settings) if settings.storage.objects == "s3" and settings.s3.cache_bytes else None


def _cache(settings: Settings) -> ReadCache:
    s3 = settings.s3
    return ReadCache(settings.storage.directory / "cache", s3.cache_bytes, trusted_s=2 * s3.cache_compare_interval_s)


def _place(settings: Settings, tenant: TenantSettings | None, read_only: bool) -> ObjectStore:
    """The engine where a tenant's objects are; the common one without a tenant."""
    if settings.storage.objects == "local":
        directory = (tenant.archive_directory if tenant else None) or archive_directory(settings)
        return LocalObjectStore(directory, fsync=settings.storage.fsync, read_only=read_only)
    bucket = S3ObjectStore(_s3_of(settings, tenant))
    if settings.s3.create_bucket and not read_only:
        bucket.ensure_bucket()
    return bucket


def storage_classes(settings: Settings) -> Callable[[str], S3StorageClasses]:
    """What moves the objects of a tenant into other storage classes, with S3; made when it is first asked for."""
    made = cache(S3StorageClasses)
    own = tenants_with_own(settings)
    return lambda tenant: made(_s3_of(settings, settings.tenants[tenant] if tenant in own else None))


def _s3_of(settings: Settings, tenant: TenantSettings | None) -> S3Settings:
    common = _s3_settings(settings.s3)
    if tenant is None:
        return common
    found = replace(common, bucket=tenant.bucket or common.bucket, prefix=tenant.prefix)
    if tenant.access_key_id:
        keys = tenant.access_key_id, tenant.secret_access_key.get_secret_value()
        found = replace(found, access_key_id=keys[0], secret_access_key=keys[1], role_arn=None)
    return replace(found, role_arn=tenant.role_arn) if tenant.role_arn else found


def _master_keys(given: EncryptionSettings) -> MasterKeys | None:
    """Every master key there is; None where nothing is, or ever was, encrypted."""
    keys: dict[str, bytes] = {}
    folder = given.keys_directory
    if folder is not None:
        if not folder.is_dir():
            raise InvalidSettings([f"encryption.keys_directory: {folder} is not a directory"])
        for path in sorted(folder.glob("*.key")):
            keys[path.stem] = key_in_file(path, "encryption.keys_directory")
    for name, named in given.key_variables.items():
        where = f"encryption.key_variables.{name}"
        written = variable(named)
        if written is None:
            raise InvalidSettings([f"{where}: there is no environment variable {named}"])
        if keys.setdefault(name, key_of(written.encode(), where)) != key_of(written.encode(), where):
            raise InvalidSettings([f"{where}: {folder} has another key of this id"])
    if given.active_key and given.active_key not in keys:
        raise InvalidSettings(
            [
                f"encryption.active_key: there is no master key {given.active_key!r}: put it into "
                f"encryption.keys_directory as {given.active_key}.key, or name its variable in encryption.key_variables"
            ]
        )
    if not keys:
        return None
    try:
        return MasterKeys(given.active_key or None, keys)
    except ValueError as error:
        raise InvalidSettings([f"encryption.keys_directory: {error}"]) from error


def _s3_settings(s3: S3Section) -> S3Settings:
    return S3Settings(
        endpoint_url=s3.endpoint_url or None,
        bucket=s3.bucket,
        prefix=s3.prefix,
        region=s3.region,
        access_key_id=s3.access_key_id or None,
        secret_access_key=s3.secret_access_key.get_secret_value() or None,
        role_arn=s3.role_arn or None,
        external_id=s3.external_id or None,
        web_identity_token_file=s3.web_identity_token_file,
        sts_endpoint_url=s3.sts_endpoint_url or None,
        path_style=s3.path_style,
        ca_bundle=s3.ca_bundle,
        server_side_encryption=ServerSideEncryption(s3.server_side_encryption),
        kms_key_id=s3.kms_key_id or None,
        customer_key=_customer_key(s3),
        tags=tuple(sorted(s3.tags.items())),
        storage_class=s3.storage_class or None,
        connect_timeout_s=s3.connect_timeout_s,
        read_timeout_s=s3.read_timeout_s,
        max_attempts=s3.max_attempts,
        max_connections=s3.max_connections,
        multipart_threshold_bytes=s3.multipart_threshold_bytes,
        part_bytes=s3.part_bytes,
        parallel_parts=s3.parallel_parts,
    )


def foreign_bucket(
    settings: Settings, bucket: str, prefix: str, endpoint_url: str | None, *, own_keys: bool
) -> S3Settings:
    """Another system's bucket, to read from or to export to: where the settings' own is unless told otherwise.

    ``own_keys`` False leaves the settings' keys and role out, and boto3 looks for credentials by its own chain.
    """
    found = replace(
        _s3_settings(settings.s3),
        bucket=bucket,
        prefix=prefix,
        server_side_encryption=ServerSideEncryption.NONE,
        tags=(),
        storage_class=None,
        # By whatever it encrypts: its ETags may be no digests.
        etag_is_md5=False,
    )
    if endpoint_url is not None:
        found = replace(found, endpoint_url=endpoint_url)
    if own_keys:
        return found
    return replace(found, access_key_id=None, secret_access_key=None, role_arn=None, web_identity_token_file=None)


def is_own_bucket(settings: Settings, found: S3Settings) -> bool:
    """Whether a bucket is one in which the archive is."""
    own = {settings.s3.bucket, *(tenant.bucket for tenant in settings.tenants.values() if tenant.bucket)}
    same = (settings.s3.endpoint_url or None) == found.endpoint_url
    return settings.storage.objects == "s3" and same and found.bucket in own


def _customer_key(s3: S3Section) -> bytes | None:
    if s3.server_side_encryption != "sse-c":
        return None
    if s3.customer_key_file is not None:
        return key_in_file(s3.customer_key_file, "s3.customer_key_file")
    return key_of(s3.customer_key.get_secret_value().encode(), "s3.customer_key")


def key_in_file(path: Path, where: str) -> bytes:
    """A key from a file; ``where`` names the setting. Raises InvalidSettings."""
    try:
        return key_of(path.read_bytes(), f"{where}: {path}")
    except OSError as error:
        raise InvalidSettings([f"{where}: {path}: {error.strerror or error}"]) from error


def key_of(written: bytes, where: str) -> bytes:
    """A key of 32 bytes as such, in hexadecimal or in base64; the error names no byte of it."""
    if len(written) == KEY_BYTES:
        return written
    text = written.strip()
    for decode in (binascii.unhexlify, lambda value: base64.b64decode(value, validate=True)):
        try:
            key = decode(text)
        except ValueError:
            continue
        if len(key) == KEY_BYTES:
            return key
    raise InvalidSettings([f"{where}: not a key of 32 bytes, nor their hexadecimal or base64 form"])
