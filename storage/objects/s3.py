"""Objects in an S3 bucket: obstore carries the bytes, boto3 the credentials, the lists and the large uploads."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import obstore

from storage.errors import ObjectDamaged, ObjectExists, ObjectNotFound, StorageError, StorageUnavailable
from storage.objects.base import ByteRange, Draft, ObjectInfo, ObjectReader, Piece, Segment, body_blocks, body_length
from storage.objects.keys import check_key, check_prefix, check_start_after
from storage.objects.s3_clients import S3Settings, control_client, data_client, new_session
from storage.objects.s3_draft import S3Draft
from storage.objects.s3_faults import LIBRARY_ERRORS, fault_of, raise_put_fault, raise_unavailable
from storage.objects.s3_listing import Listing
from storage.objects.s3_multipart import CONTENT_TYPE, Uploader

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

_BLOCK_BYTES = 1 << 20
_STREAM_BYTES = 256 << 10
_FIRST_PAUSE_S = 0.1

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
        session = new_session(settings)
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
        """See ObjectStore. StorageUnavailable also when the server kept other bytes; they are removed."""
        check_key(key)
        size = body_length(body)
        put_id = secrets.token_hex(16)
        if size <= self._settings.multipart_threshold_bytes:
            digest = self._put_at_once(key, body, put_id)
        else:
            digest = None
            self._put_in_parts(key, body, size, put_id)
        if digest is not None:
            return ObjectInfo(key, size, digest, time.time())
        return self._kept(key, size)

    def draft(self, key: str, head: bytes, file: Path, start: int) -> Draft | None:
        """See ObjectStore. ``head`` of the object so made tells no digest; what ``complete`` gives has it."""
        check_key(key)

        def completed(put_id: str, size: int, digest: str, error: Exception | None) -> ObjectInfo:
            if error is not None:
                self._settle_failed_put(key, put_id, error)
            return replace(self._kept(key, size), sha256=digest)

        return S3Draft(
            self._uploader,
            key,
            self._prefix + key,
            head,
            file,
            start,
            part_bytes=self._settings.part_bytes,
            begun_from=self._settings.multipart_threshold_bytes,
            completed=completed,
            put=self.put,
        )

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore. ``blocks`` of one reader can be asked for once."""
        check_key(key)
        if byte_range is not None and byte_range.length == 0:
            self._check_end(key, byte_range)
            yield _EmptyReader()
        else:
            result, length = self._started(key, byte_range)
            yield _Reader(key, result, length, result.attributes.get("sha256") if byte_range is None else None)

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore. A whole object is compared with its digest."""
        check_key(key)
        if byte_range is not None and byte_range.length == 0:
            self._check_end(key, byte_range)
            return b""
        result, length = self._started(key, byte_range)
        data = _all_of(result, length)
        digest = result.attributes.get("sha256") if byte_range is None else None
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise ObjectDamaged(f"{key}: the bytes that arrived do not have its digest")
        return data

    def read_at(self, key: str, start: int, length: int) -> Piece:
        """See ObjectStore."""
        check_key(key)
        try:
            result = self._get(key, {"range": (start, start + length)})
        except ObjectDamaged:
            # No byte of the object is in the range: there is none from its end on.
            size = self.head(key).size
            if start <= size:
                return Piece(b"", size)
            raise
        begin, end = result.range
        size = result.meta["size"]
        if (begin, end) != (start, min(start + length, size)):
            raise ObjectDamaged(f"{key}: bytes {begin} to {end} arrived instead of those from {start} on")
        return Piece(_all_of(result, end - begin), size)

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
        self._uploader.close()
        self._client.close()

    # Writing

    def _put_at_once(self, key: str, body: Sequence[Segment], put_id: str) -> str | None:
        """The digest when the server's ETag has proven what it kept: a HEAD would double the time of a small put."""
        data = b"".join(_lasting(body, self._settings.part_bytes))
        digest = hashlib.sha256(data).hexdigest()
        attributes = {"Content-Type": CONTENT_TYPE, "sha256": digest, "put-id": put_id}
        if self._settings.storage_class:
            attributes["Storage-Class"] = self._settings.storage_class
        etag = self._send(key, data, attributes, put_id)
        if not self._settings.checks_etag:
            return None
        if (etag or "").strip('"') != hashlib.md5(data, usedforsecurity=False).hexdigest():
            self._remove_damaged(key, "the ETag is not the MD5 of what was sent")
        return digest

    def _send(self, key: str, data: bytes, attributes: dict[str, str], put_id: str) -> str | None:
        """Put an object in one request, again when its connection broke; what the server says is its ETag.

        obstore repeats what the server refused, but no PUT whose outcome it does not know. We can: an object that is
        there already says by its put-id whether it is ours.
        """
        until = time.monotonic() + self._settings.retry_timeout_s
        attempt = 1
        while True:
            try:
                return obstore.put(
                    self._store,
                    self._prefix + key,
                    data,
                    attributes=attributes,
                    tags=self._settings.tags_of(key),
                    mode="create",
                    use_multipart=False,
                )["e_tag"]
            except LIBRARY_ERRORS as error:
                again = attempt < self._settings.max_attempts and time.monotonic() < until
                if not (again and fault_of(error).is_broken_connection):
                    return self._settle_failed_put(key, put_id, error)
            time.sleep(_FIRST_PAUSE_S * attempt)
            attempt += 1

    def _kept(self, key: str, size: int) -> ObjectInfo:
        """What the server has, where nothing said so far what it kept."""
        info = self.head(key)
        if info.size != size:
            self._remove_damaged(key, f"{info.size} bytes instead of {size}")
        return info

    def _put_in_parts(self, key: str, body: Sequence[Segment], size: int, put_id: str) -> None:
        try:
            self._uploader.put(key, self._prefix + key, body, size, put_id)
        except LIBRARY_ERRORS as error:
            self._settle_failed_put(key, put_id, error)

    def _settle_failed_put(self, key: str, put_id: str, error: Exception) -> str | None:
        """The ETag of the object when it is ours after all, else raise.

        A repeated request finds the key taken, or the upload gone, when the first one succeeded and only its
        answer was lost.
        """
        fault = fault_of(error)
        if fault.status == 412 or fault.code in ("NoSuchUpload", "AlreadyExists"):
            with suppress(ObjectNotFound):
                found = self._get(key, {"head": True})
                if found.attributes.get("put-id") != put_id:
                    raise ObjectExists(key) from error
                return found.meta["e_tag"]
        return raise_put_fault(key, error)

    def _remove_damaged(self, key: str, what: str) -> NoReturn:
        with suppress(StorageError):
            self.delete(key)
        # Nobody has been told of it: the next try may arrive whole.
        raise StorageUnavailable(f"the object store kept something else than it was sent: {what}")

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


def _lasting(body: Sequence[Segment], block_bytes: int) -> Iterator[bytes | memoryview]:
    """A body in pieces that stay valid; what is in memory is not copied."""
    for segment in body:
        if isinstance(segment, bytes | memoryview):
            yield segment
        else:
            yield from map(bytes, body_blocks([segment], block_bytes))


def _all_of(result: GetResult, length: int) -> bytes:
    try:
        data = bytes(result.bytes())
    except LIBRARY_ERRORS as error:
        raise_unavailable(fault_of(error), error)
    if len(data) != length:
        # The server said how long the object is: it is whole, and only this answer is not.
        raise StorageUnavailable(f"{len(data)} of {length} bytes of an object arrived")
    return data


class _Reader:
    """``digest`` is what the bytes are compared with at their end, unless None."""

    def __init__(self, key: str, result: GetResult, length: int, digest: str | None) -> None:
        self._key = key
        self._result = result
        self._length = length
        self._digest = digest

    @property
    def length(self) -> int:
        return self._length

    def blocks(self) -> Iterator[bytes]:
        missing = self._length
        found = hashlib.sha256()
        try:
            for block in self._result.stream(min_chunk_size=_STREAM_BYTES):
                missing -= len(block)
                if self._digest is not None:
                    found.update(block)
                for start in range(0, len(block), _BLOCK_BYTES):
                    yield block[start : start + _BLOCK_BYTES]
        except LIBRARY_ERRORS as error:
            raise_unavailable(fault_of(error), error)
        if missing:
            raise StorageUnavailable(f"an answer of the object store ended {missing} bytes early")
        if self._digest is not None and found.hexdigest() != self._digest:
            raise ObjectDamaged(f"{self._key}: the bytes that arrived do not have its digest")


class _EmptyReader:
    length = 0

    def blocks(self) -> Iterator[bytes]:
        return iter(())
