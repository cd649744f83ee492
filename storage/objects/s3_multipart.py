"""Large objects go up to S3 in parts, each checked against what the server says it kept."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

from storage.errors import ObjectDamaged, StorageUnavailable
from storage.objects.base import Segment, body_blocks
from storage.objects.s3_clients import S3Settings, part_arguments, upload_arguments
from storage.objects.s3_faults import LIBRARY_ERRORS, raise_put_fault

CONTENT_TYPE = "application/octet-stream"
MAX_PARTS = 10_000
_BLOCK_BYTES = 1 << 20

Part = Mapping[str, object]
"""What the server said of a part, as it wants to hear it again in the end."""


class Upload:
    """One multipart upload. Errors of the libraries are left to the caller."""

    def __init__(self, client: Any, settings: S3Settings, key: str, full_key: str, metadata: Mapping[str, str]) -> None:
        self._client = client
        self._settings = settings
        self._where = {"Bucket": settings.bucket, "Key": full_key}
        answer = client.create_multipart_upload(
            **self._where, **upload_arguments(settings, key), ContentType=CONTENT_TYPE, Metadata=metadata
        )
        self._where["UploadId"] = answer["UploadId"]

    def send(self, number: int, part: bytes | bytearray) -> Part:
        """One part, counted from 1. Raises StorageUnavailable when the server kept something else."""
        md5 = hashlib.md5(part, usedforsecurity=False)
        answer = self._client.upload_part(
            **self._where,
            PartNumber=number,
            Body=part,
            ContentMD5=base64.b64encode(md5.digest()).decode(),
            **part_arguments(self._settings),
        )
        if self._settings.checks_etag and answer["ETag"].strip('"') != md5.hexdigest():
            raise StorageUnavailable(f"the object store kept something else than it was sent: ETag of part {number}")
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def complete(self, parts: Sequence[Part]) -> None:
        """Make the object of its parts, unless the key is taken."""
        in_order = sorted(parts, key=lambda part: int(str(part["PartNumber"])))
        self._client.complete_multipart_upload(**self._where, MultipartUpload={"Parts": in_order}, IfNoneMatch="*")

    def abort(self) -> None:
        """Let the server forget the parts; where it cannot be told, a lifecycle rule of the bucket does."""
        with suppress(*LIBRARY_ERRORS):
            self._client.abort_multipart_upload(**self._where)


class Uploader:
    """Puts objects in parts by a boto3 client.

    Who puts an object sends its parts; threads beside send others of them, while one of ``parallel_parts`` is free.
    So each object moves on whatever the others do, and no more parts are in memory than there are objects and threads.
    """

    def __init__(self, client: Any, settings: S3Settings) -> None:
        self._client = client
        self._settings = settings
        self.free = threading.Semaphore(settings.parallel_parts)
        """Taken for each part that one of the threads sends."""
        self.threads = ThreadPoolExecutor(max(1, settings.parallel_parts), thread_name_prefix="s3-part")

    def close(self) -> None:
        """End the threads."""
        self.threads.shutdown()

    def begin(self, key: str, full_key: str, metadata: Mapping[str, str]) -> Upload:
        """Begin an upload."""
        return Upload(self._client, self._settings, key, full_key, metadata)

    def put(self, key: str, full_key: str, body: Sequence[Segment], size: int, put_id: str) -> None:
        """Upload and complete, or abort and raise; errors of the libraries are left to the caller once parts went up.

        Raises
        ------
        ObjectDamaged
            A file segment is too short or changed meanwhile.
        StorageUnavailable, StorageFull
            Nothing was begun, or the server kept other bytes.
        """
        # The digest is metadata, so it has to be known before the first part is sent: the body is read twice.
        digest = hashlib.sha256()
        for block in body_blocks(body, _BLOCK_BYTES):
            digest.update(block)
        try:
            upload = self.begin(key, full_key, {"sha256": digest.hexdigest(), "put-id": put_id})
        except LIBRARY_ERRORS as error:
            raise_put_fault(key, error)
        try:
            upload.complete(self._send_parts(key, upload, body, size, digest.digest()))
        except BaseException:
            upload.abort()
            raise

    def _send_parts(self, key: str, upload: Upload, body: Sequence[Segment], size: int, digest: bytes) -> list[Part]:
        part_bytes = max(self._settings.part_bytes, -(-size // MAX_PARTS))
        sent = hashlib.sha256()
        parts: list[Part] = []
        beside: list[Future[Part]] = []
        try:
            for number, part in enumerate(_parts(body, part_bytes), start=1):
                sent.update(part)
                if self.free.acquire(blocking=False):
                    beside.append(self.threads.submit(self._send_beside, upload, number, part))
                else:
                    parts.append(upload.send(number, part))
                for done in [future for future in beside if future.done()]:
                    beside.remove(done)
                    parts.append(done.result())
            parts += [future.result() for future in beside]
        finally:
            # A part that arrives after the upload was aborted would stay.
            wait(beside)
        if sent.digest() != digest:
            raise ObjectDamaged(f"{key}: a file segment changed while it was sent")
        return parts

    def _send_beside(self, upload: Upload, number: int, part: bytearray) -> Part:
        try:
            return upload.send(number, part)
        finally:
            self.free.release()


def _parts(body: Sequence[Segment], part_bytes: int) -> Iterator[bytearray]:
    """The body cut into parts of exactly ``part_bytes``, the last one shorter."""
    part = bytearray()
    for block in body_blocks(body, min(part_bytes, _BLOCK_BYTES)):
        room = part_bytes - len(part)
        part += block[:room]
        if len(part) == part_bytes:
            yield part
            part = bytearray(block[room:])
    if part:
        yield part
