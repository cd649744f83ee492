"""Another system's bucket, only read: keys of any form, objects that know no digest of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from storage.errors import ObjectNotFound
from storage.objects.s3_clients import S3Settings, control_client, new_session
from storage.objects.s3_faults import LIBRARY_ERRORS, fault_of, raise_unavailable


@dataclass(frozen=True, slots=True)
class ForeignObject:
    """An object of the bucket; ``etag`` differs when it was written again."""

    key: str
    size: int
    etag: str


class ForeignBucket:
    """Lists and reads by boto3 alone, whose keys may be any text."""

    def __init__(self, settings: S3Settings) -> None:
        self._bucket = settings.bucket
        self._client = control_client(new_session(settings), settings)

    def list(self, prefix: str) -> Iterator[ForeignObject]:
        """Objects whose key begins with ``prefix``, in the server's order. Raises StorageUnavailable."""
        more: dict[str, str] = {}
        while True:
            try:
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more)
            except LIBRARY_ERRORS as error:
                fault = fault_of(error)
                if fault.code == "NoSuchBucket":
                    raise ObjectNotFound(f"there is no bucket {self._bucket}") from error
                raise_unavailable(fault, error)
            for one in page.get("Contents", ()):
                yield ForeignObject(one["Key"], one["Size"], one["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    @contextmanager
    def open(self, key: str) -> Iterator[ForeignReader]:
        """Start a read. Raises ObjectNotFound, StorageUnavailable."""
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
        except LIBRARY_ERRORS as error:
            _raise(error)
        body = answer["Body"]
        try:
            yield ForeignReader(body)
        finally:
            body.close()

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()


class ForeignReader:
    """An object's bytes as they come."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end. Raises StorageUnavailable, also when fewer came than announced."""
        try:
            data: bytes = self._body.read(size)
        except LIBRARY_ERRORS as error:
            _raise(error)
        return data


def _raise(error: Exception) -> NoReturn:
    fault = fault_of(error)
    if fault.code == "NoSuchKey":
        raise ObjectNotFound("the object is not there any more") from error
    if fault.code == "InvalidObjectState":
        raise ObjectNotFound("the object is in cold storage: restore it in its bucket first") from error
    raise_unavailable(fault, error)
