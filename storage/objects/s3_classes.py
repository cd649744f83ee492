"""The storage class of objects in S3, and moving them into another: each is copied onto itself within the store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from storage.errors import ObjectNotFound
from storage.objects.keys import check_key
from storage.objects.s3_clients import S3Settings, control_client, new_session, part_arguments
from storage.objects.s3_faults import LIBRARY_ERRORS, fault_of, raise_put_fault, raise_unavailable

_AT_ONCE_BYTES = 1 << 30
"""Longer ones are copied in parts: S3 takes 5 GiB at once at most, and a store may be silent until a copy is done."""
_PART_BYTES = 256 << 20
_MAX_PARTS = 10_000
_KEPT = (
    "Metadata", "ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl",
    "ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled",
)  # fmt: skip
"""What HEAD tells of an object and its copy is given; tags and our own key are seen to beside."""


class S3StorageClasses:
    """The classes of one bucket's objects. Build it after a fork.

    A copy takes the object's place in one step when it is whole, with the same bytes, metadata, tags and encryption:
    whoever reads meanwhile has one or the other. Parts of one that could not be aborted are for a rule of the bucket.
    """

    def __init__(
        self, settings: S3Settings, *, at_once_bytes: int = _AT_ONCE_BYTES, part_bytes: int = _PART_BYTES
    ) -> None:
        self._settings = settings
        self._prefix = f"{settings.prefix}/" if settings.prefix else ""
        self._client = control_client(new_session(settings), settings)
        self._at_once_bytes = at_once_bytes
        self._part_bytes = part_bytes

    def move(self, key: str, storage_class: str, stays: Collection[str] = ()) -> bool:
        """Move an object, unless it is there already or in a class in which it ``stays``; whether it was copied.

        Raises
        ------
        ObjectNotFound
            There is none, or it was deleted meanwhile and stays so.
        StorageUnavailable, StorageFull
            The object is as it was.
        """
        check_key(key)
        found = self._head(key)
        if _class_of(found) in (storage_class, *stays):
            return False
        where = {"Bucket": self._settings.bucket, "Key": self._prefix + key}
        ours = part_arguments(self._settings)
        source = {"CopySource": where, **{f"CopySource{name}": value for name, value in ours.items()}}
        kept = {name: found[name] for name in _KEPT if name in found} | ours | {"StorageClass": storage_class}
        try:
            if found["ContentLength"] <= self._at_once_bytes:
                # SeaweedFS refuses COPY of the metadata as a copy that changes nothing, so they are told again.
                directives = {"MetadataDirective": "REPLACE", "TaggingDirective": "COPY"}
                self._client.copy_object(**where, **source, **kept, **directives, IfMatch=found["ETag"])
            else:
                self._copy_in_parts(where, source, kept | self._tags(where, found), found)
        except LIBRARY_ERRORS as error:
            # Deleted meanwhile; or it was our own try that changed it, whose answer was lost.
            if fault_of(error).status in (404, 409, 412) and _class_of(self._head(key)) == storage_class:
                return True
            raise_put_fault(key, error)
        return True

    def _head(self, key: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = self._client.head_object(
                Bucket=self._settings.bucket, Key=self._prefix + key, **part_arguments(self._settings)
            )
        except LIBRARY_ERRORS as error:
            fault = fault_of(error)
            if fault.status == 404:
                raise ObjectNotFound(key) from error
            raise_unavailable(fault, error)
        return found

    def _tags(self, where: Mapping[str, str], found: Mapping[str, Any]) -> dict[str, str]:
        """An upload does not take them over."""
        if not found.get("TagCount") and not self._settings.tags:
            return {}
        tags = self._client.get_object_tagging(**where)["TagSet"]
        return {"Tagging": urlencode({each["Key"]: each["Value"] for each in tags})}

    def _copy_in_parts(
        self, where: Mapping[str, str], source: Mapping[str, Any], kept: Mapping[str, Any], found: Mapping[str, Any]
    ) -> None:
        upload = {**where, "UploadId": self._client.create_multipart_upload(**where, **kept)["UploadId"]}
        ours = part_arguments(self._settings)
        try:
            parts = []
            for number, span in enumerate(self._spans(found["ContentLength"]), start=1):
                answer = self._client.upload_part_copy(
                    **upload, **source, **ours, PartNumber=number, CopySourceRange=span, CopySourceIfMatch=found["ETag"]
                )
                parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfMatch=found["ETag"])
        except BaseException:
            with suppress(*LIBRARY_ERRORS):
                self._client.abort_multipart_upload(**upload)
            raise

    def _spans(self, size: int) -> Iterator[str]:
        length = max(self._part_bytes, -(-size // _MAX_PARTS))
        for start in range(0, size, length):
            yield f"bytes={start}-{min(start + length, size) - 1}"


def _class_of(found: Mapping[str, Any]) -> str:
    """The class of an object, which HEAD leaves out where it is the standard one."""
    return str(found.get("StorageClass", "STANDARD"))
