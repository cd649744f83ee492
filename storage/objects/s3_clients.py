"""The two clients of an S3 store: boto3 for control, lists and large uploads, obstore for the bytes.

A boto3 request costs 3.5 to 5.5 ms of processor time, an obstore one 0.2 to 1.0 ms without the GIL.
"""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    AssumeRoleWithWebIdentityCredentialFetcher,
    DeferredRefreshableCredentials,
)
from botocore.utils import FileWebIdentityTokenLoader
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from storage.errors import StorageUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

# botocore renews credentials that have less than ten minutes left, obstore asks again with less than five.
_CREDENTIALS_TTL = timedelta(minutes=10)


class ServerSideEncryption(StrEnum):
    """Who encrypts at the server with which key."""

    NONE = ""
    S3 = "sse-s3"
    KMS = "sse-kms"
    CUSTOMER = "sse-c"


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where the bucket is and how to talk to it.

    ``endpoint_url`` None is AWS in ``region``; keys None is boto3's own search for credentials (environment,
    profile, web identity, instance). With ``role_arn`` those only serve to assume the role, or the token in
    ``web_identity_token_file`` does. ``prefix`` stands before every key, joined by a slash. ``tags`` go onto every
    object; ``{tenant}`` in a value is the key's first segment.

    ``etag_is_md5`` False is for buckets whose ETag is no digest: then a SHA-256 checksum header is sent instead, which
    the server has to check; None is False for SSE-KMS and SSE-C (as AWS has it), else True. ``lists_by_directory`` says
    that the server sorts keys directory by directory (SeaweedFS) and not by code point; None looks at the server's
    name. ``parallel_parts`` of all large objects go up beside one of each; each of them is in memory.
    """

    endpoint_url: str | None
    bucket: str
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    role_arn: str | None = None
    role_session_name: str = "imaging-gateway"
    external_id: str | None = field(default=None, repr=False)
    web_identity_token_file: Path | None = None
    sts_endpoint_url: str | None = None
    prefix: str = ""
    path_style: bool = True
    verify_tls: bool = True
    ca_bundle: Path | None = None
    server_side_encryption: ServerSideEncryption = ServerSideEncryption.NONE
    kms_key_id: str | None = None
    customer_key: bytes | None = field(default=None, repr=False)
    tags: tuple[tuple[str, str], ...] = ()
    storage_class: str | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    max_attempts: int = 4
    retry_timeout_s: float = 20.0
    max_connections: int = 64
    multipart_threshold_bytes: int = 16 << 20
    part_bytes: int = 8 << 20
    parallel_parts: int = 4
    etag_is_md5: bool | None = None
    lists_by_directory: bool | None = None

    @property
    def checks_etag(self) -> bool:
        """Whether the ETag of a PUT has to be the MD5 of what was sent."""
        if self.etag_is_md5 is None:
            return self.server_side_encryption in (ServerSideEncryption.NONE, ServerSideEncryption.S3)
        return self.etag_is_md5

    def tags_of(self, key: str) -> dict[str, str]:
        """Tags for the object under a key."""
        tenant = key.partition("/")[0]
        return {name: value.replace("{tenant}", tenant) for name, value in self.tags}

    @property
    def verify(self) -> str | bool:
        """What boto3 calls ``verify``."""
        return str(self.ca_bundle) if self.verify_tls and self.ca_bundle else self.verify_tls


def new_session(settings: S3Settings) -> Any:
    """A boto3 session with the credentials that the settings name. Raises StorageUnavailable when there are none."""
    session = _session(
        botocore.session.Session(),
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        region_name=settings.region,
    )
    if settings.role_arn:
        return _with_role(session, settings, settings.role_arn)
    if session.get_credentials() is None:
        raise StorageUnavailable("there are no credentials for the object store: set s3.access_key_id, or see boto3's")
    return session


def _with_role(session: Any, settings: S3Settings, role_arn: str) -> Any:
    new_client = functools.partial(
        session._session.create_client,
        region_name=settings.region,
        endpoint_url=settings.sts_endpoint_url,
        verify=settings.verify,
    )
    extra = {"RoleSessionName": settings.role_session_name}
    if settings.web_identity_token_file:
        fetcher: Any = AssumeRoleWithWebIdentityCredentialFetcher(
            client_creator=new_client,
            web_identity_token_loader=FileWebIdentityTokenLoader(str(settings.web_identity_token_file)),
            role_arn=role_arn,
            extra_args=extra,
        )
    else:
        source = session.get_credentials()
        if source is None:
            raise StorageUnavailable("there are no credentials to assume s3.role_arn with")
        if settings.external_id:
            extra["ExternalId"] = settings.external_id
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=new_client, source_credentials=source, role_arn=role_arn, extra_args=extra
        )
    below = botocore.session.Session()
    # There is no public way to hand a session credentials that renew themselves.
    below._credentials = DeferredRefreshableCredentials(method="assume-role", refresh_using=fetcher.fetch_credentials)
    return _session(below, region_name=settings.region)


def _session(below: Any, **named: Any) -> Any:
    """A boto3 session that knows of the services what any other of this process does."""
    descriptions = _descriptions(below.get_config_variable("data_path"))
    below.register_component("data_loader", descriptions)
    session = boto3.Session(botocore_session=below, **named)
    # Each session adds the same folder to where it looks.
    descriptions.search_paths[:] = dict.fromkeys(descriptions.search_paths)
    return session


@functools.cache
def _descriptions(path: str | None) -> Any:
    """What botocore has to read of the services: two thirds of the time in which a client is made."""
    return botocore.loaders.create_loader(path)


def upload_arguments(settings: S3Settings, key: str) -> dict[str, str]:
    """What boto3 has to be told when it begins the upload of the object under a key, as the obstore client is."""
    arguments = part_arguments(settings)
    if settings.server_side_encryption is ServerSideEncryption.S3:
        arguments["ServerSideEncryption"] = "AES256"
    elif settings.server_side_encryption is ServerSideEncryption.KMS:
        arguments["ServerSideEncryption"] = "aws:kms"
        if settings.kms_key_id:
            arguments["SSEKMSKeyId"] = settings.kms_key_id
    if settings.tags:
        arguments["Tagging"] = urlencode(settings.tags_of(key))
    if settings.storage_class:
        arguments["StorageClass"] = settings.storage_class
    return arguments


def part_arguments(settings: S3Settings) -> dict[str, Any]:
    """What boto3 has to be told with each part."""
    if settings.server_side_encryption is ServerSideEncryption.CUSTOMER:
        return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": settings.customer_key}
    return {}


def _encryption(settings: S3Settings) -> S3Config:
    kind = settings.server_side_encryption
    if kind is ServerSideEncryption.S3:
        return {"server_side_encryption": "AES256"}
    if kind is ServerSideEncryption.KMS:
        key: S3Config = {"sse_kms_key_id": settings.kms_key_id} if settings.kms_key_id else {}
        return {"server_side_encryption": "aws:kms", **key}
    if kind is ServerSideEncryption.CUSTOMER:
        if settings.customer_key is None or len(settings.customer_key) != 32:
            raise ValueError("SSE-C needs a customer key of 32 bytes")
        customer_key = base64.b64encode(settings.customer_key).decode()
        return {"server_side_encryption": "sse-c", "sse_customer_key_base64": customer_key}
    return {}


def control_client(session: Any, settings: S3Settings) -> Any:
    """A boto3 client."""
    return session.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        verify=settings.verify,
        config=Config(
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
            max_pool_connections=settings.max_connections,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if settings.path_style else "virtual"},
        ),
    )


def data_client(session: Any, settings: S3Settings) -> S3Store:
    """An obstore client with the same credentials."""
    config: S3Config = {
        "bucket": settings.bucket,
        "region": settings.region,
        "virtual_hosted_style_request": not settings.path_style,
        # Over TLS the payload needs no second digest in the signature.
        "unsigned_payload": not (settings.endpoint_url or "https:").startswith("http:"),
        **_encryption(settings),
    }
    if settings.endpoint_url:
        config["endpoint"] = (
            settings.endpoint_url if settings.path_style else _bucket_url(settings.endpoint_url, settings.bucket)
        )
    if not settings.checks_etag:
        config["checksum_algorithm"] = "SHA256"
    client: ClientConfig = {
        "allow_http": (settings.endpoint_url or "").startswith("http:"),
        "allow_invalid_certificates": not settings.verify_tls,
        "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
        "read_timeout": timedelta(seconds=settings.read_timeout_s),
        # Of the whole request: a viewer may take its time over a large object, the read timeout is the guard.
        "timeout": timedelta(days=1),
        "pool_max_idle_per_host": str(settings.max_connections),
    }
    if settings.verify_tls and settings.ca_bundle:
        client["root_certificate"] = settings.ca_bundle.read_bytes()
    credentials = None
    if settings.access_key_id and settings.secret_access_key and not settings.role_arn:
        config["access_key_id"] = settings.access_key_id
        config["secret_access_key"] = settings.secret_access_key
    else:
        credentials = Boto3CredentialProvider(session, ttl=_CREDENTIALS_TTL)
    return S3Store(
        config=config,
        client_options=client,
        retry_config={
            "max_retries": settings.max_attempts - 1,
            "retry_timeout": timedelta(seconds=settings.retry_timeout_s),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2)},
        },
        credential_provider=credentials,
    )


def _bucket_url(endpoint_url: str, bucket: str) -> str:
    parts = urlsplit(endpoint_url)
    return parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()
