"""Objects in an S3 bucket: obstore carries the bytes, boto3 the credentials, the lists and the large uploads."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

import boto3
import obstore

from storage.errors import ObjectDamaged, ObjectExists, ObjectNotFound, StorageError, StorageUnavailable
from storage.objects.base import ByteRange, ObjectInfo, ObjectReader, Segment, body_blocks, body_length
from storage.objects.keys import check_key, check_prefix, check_start_after
from storage.objects.s3_clients import S3Settings, control_client, data_client
from storage.objects.s3_faults import LIBRARY_ERRORS, fault_of, raise_put_fault, raise_unavailable
from storage.objects.s3_listing import Listing
from storage.objects.s3_multipart import CONTENT_TYPE, Uploader

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

_BLOCK_BYTES = 1 << 20
_STREAM_BYTES = 256 << 10

__all__ = ["S3ObjectStore", "S3Settings"]


class S3ObjectStore:
    """An ObjectStore over one bucket of an S3 service. Build it after a fork, not before: it has threads.

    A put that raises StorageUnavailable has stored the whole object or nothing and cannot tell which. Parts
    of a multipart upload that could not be aborted stay until a lifecycle rule of the bucket removes them.
    """

    def __init__(self, settings: S3Settings) -> None:
        if settings.prefix:
            check_key(settings.prefix)
        self._settings = settings
        self._prefix = f"{settings.prefix}/" if settings.prefix else ""
        session = boto3.Session(
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key,
            region_name=settings.region,
        )
        self._client = control_client(session, settings)
        self._store = data_client(session, settings)
        self._listing = Listing(self._client, settings)
        self._uploader = Uploader(self._client, settings)

    def ensure_bucket(self) -> None:
        """Create the bucket where it does not exist yet."""
        region = self._settings.region
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        if self._bucket_exists():
            return
        try:
            self._client.create_bucket(Bucket=self._settings.bucket, **where)
        except LIBRARY_ERRORS as error:
            fault = fault_of(error)
            if fault.code != "BucketAlreadyOwnedByYou":
                raise_unavailable(fault, error)

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        """See ObjectStore. ObjectDamaged when the server kept other bytes; they are removed."""
        check_key(key)
        size = body_length(body)
        put_id = secrets.token_hex(16)
        if size <= self._settings.multipart_threshold_bytes:
            self._put_at_once(key, body, put_id)
        else:
            try:
                self._uploader.put(key, self._prefix + key, body, size, put_id)
            except LIBRARY_ERRORS as error:
                self._settle_failed_put(key, put_id, error)
        # A PUT is not answered with the server's time; and this is the size that the server keeps.
        info = self.head(key)
        if info.size != size:
            self._remove_damaged(key, f"{info.size} bytes instead of {size}")
        return info

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore. ``blocks`` of one reader can be asked for once."""
        check_key(key)
        if byte_range is not None and byte_range.length == 0:
            self._check_end(key, byte_range)
            yield _EmptyReader()
        else:
            result, length = self._started(key, byte_range)
            yield _Reader(key, result, length)

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        check_key(key)
        if byte_range is not None and byte_range.length == 0:
            self._check_end(key, byte_range)
            return b""
        result, length = self._started(key, byte_range)
        try:
            data = bytes(result.bytes())
        except LIBRARY_ERRORS as error:
            raise_unavailable(fault_of(error), error)
        if len(data) != length:
            raise ObjectDamaged(f"{key}: {len(data)} bytes arrived instead of {length}")
        return data

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        check_key(key)
        result = self._get(key, {"head": True})
        return ObjectInfo(
            key,
            result.meta["size"],
            result.attributes.get("sha256"),
            result.meta["last_modified"].timestamp(),
        )

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        check_key(key)
        try:
            self._client.delete_object(Bucket=self._settings.bucket, Key=self._prefix + key)
        except LIBRARY_ERRORS as error:
            fault = fault_of(error)
            if fault.code != "NoSuchKey":
                raise_unavailable(fault, error)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore. ``sha256`` is None; objects of others whose key is none of ours are left out."""
        check_prefix(prefix)
        check_start_after(start_after)
        return self._listing.objects(prefix, start_after)

    def ping(self) -> None:
        """See ObjectStore: puts, reads and deletes a small object below ``.ping/``."""
        key = f".ping/{secrets.token_hex(16)}"
        try:
            self.put(key, [b"ping"])
            self.get(key)
            self.delete(key)
        except StorageUnavailable:
            raise
        except StorageError as error:
            raise StorageUnavailable(f"the bucket does not take and give objects: {error}") from error

    def close(self) -> None:
        """See ObjectStore."""
        self._client.close()

    # Writing

    def _put_at_once(self, key: str, body: Sequence[Segment], put_id: str) -> None:
        data = b"".join(bytes(block) for block in body_blocks(body, self._settings.part_bytes))
        try:
            result = obstore.put(
                self._store,
                self._prefix + key,
                data,
                attributes={
                    "Content-Type": CONTENT_TYPE,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "put-id": put_id,
                },
                mode="create",
                use_multipart=False,
            )
        except LIBRARY_ERRORS as error:
            self._settle_failed_put(key, put_id, error)
            return
        if self._settings.etag_is_md5:
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if (result["e_tag"] or "").strip('"') != md5:
                self._remove_damaged(key, "the ETag is not the MD5 of what was sent")

    def _settle_failed_put(self, key: str, put_id: str, error: Exception) -> None:
        """Return when the object is ours after all, else raise.

        A repeated request finds the key taken, or the upload gone, when the first one succeeded and only its
        answer was lost.
        """
        fault = fault_of(error)
        if fault.status == 412 or fault.code in ("NoSuchUpload", "AlreadyExists"):
            with suppress(ObjectNotFound):
                if self._get(key, {"head": True}).attributes.get("put-id") == put_id:
                    return
                raise ObjectExists(key) from error
        raise_put_fault(key, error)

    def _remove_damaged(self, key: str, what: str) -> NoReturn:
        with suppress(StorageError):
            self.delete(key)
        raise ObjectDamaged(f"{key}: {what}")

    # Reading

    def _get(self, key: str, options: GetOptions) -> GetResult:
        try:
            return obstore.get(self._store, self._prefix + key, options=options)
        except LIBRARY_ERRORS as error:
            fault = fault_of(error)
            # Misses are rare: the index knows what exists. A bucket that is gone must not look like one.
            if fault.status == 404 and fault.code != "NoSuchBucket" and self._bucket_exists():
                raise ObjectNotFound(key) from error
            if fault.status == 416:
                raise ObjectDamaged(f"{key} is shorter than the range asked for") from error
            raise_unavailable(fault, error)

    def _started(self, key: str, byte_range: ByteRange | None) -> tuple[GetResult, int]:
        result = self._get(key, {} if byte_range is None else {"range": (byte_range.start, byte_range.end)})
        start, end = result.range
        if byte_range is not None and (start, end) != (byte_range.start, byte_range.end):
            raise ObjectDamaged(f"{key} has {result.meta['size']} bytes, asked for up to {byte_range.end}")
        return result, end - start

    def _check_end(self, key: str, byte_range: ByteRange) -> None:
        size = self.head(key).size
        if byte_range.end > size:
            raise ObjectDamaged(f"{key} has {size} bytes, asked for up to {byte_range.end}")

    def _bucket_exists(self) -> bool:
        try:
            self._client.head_bucket(Bucket=self._settings.bucket)
        except LIBRARY_ERRORS as error:
            fault = fault_of(error)
            if fault.status == 404:
                return False
            raise_unavailable(fault, error)
        return True


class _Reader:
    def __init__(self, key: str, result: GetResult, length: int) -> None:
        self._key = key
        self._result = result
        self._length = length

    @property
    def length(self) -> int:
        return self._length

    def blocks(self) -> Iterator[bytes]:
        missing = self._length
        try:
            for block in self._result.stream(min_chunk_size=_STREAM_BYTES):
                missing -= len(block)
                for start in range(0, len(block), _BLOCK_BYTES):
                    yield block[start : start + _BLOCK_BYTES]
        except LIBRARY_ERRORS as error:
            raise_unavailable(fault_of(error), error)
        if missing:
            raise ObjectDamaged(f"{self._key} ends {missing} bytes early")


class _EmptyReader:
    length = 0

    def blocks(self) -> Iterator[bytes]:
        return iter(())
