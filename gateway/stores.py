"""The object store that the settings describe, with its keys from where they say."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from gateway.config import InvalidSettings, S3Section, Settings
from storage.objects.base import ObjectStore
from storage.objects.local import LocalObjectStore
from storage.objects.s3 import S3ObjectStore, S3Settings
from storage.objects.s3_clients import ServerSideEncryption

KEY_BYTES = 32


def object_store(settings: Settings) -> ObjectStore:
    """The engine of the objects. Raises InvalidSettings when a key cannot be had, StorageUnavailable."""
    storage, s3 = settings.storage, settings.s3
    if storage.objects == "local":
        return LocalObjectStore(storage.directory / "archive", fsync=storage.fsync)
    store = S3ObjectStore(_s3_settings(s3))
    if s3.create_bucket:
        store.ensure_bucket()
    return store


def check_keys(settings: Settings) -> None:
    """Read every key that the settings name. Raises InvalidSettings."""
    if settings.storage.objects == "s3":
        _customer_key(settings.s3)


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
    )


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
