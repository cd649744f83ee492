"""Objects move between storage classes: in SeaweedFS, and as requests where it cannot do what AWS does."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Callable
from typing import Any

import pytest

from storage.errors import ObjectNotFound, StorageUnavailable
from storage.objects.s3 import S3ObjectStore, S3Settings
from storage.objects.s3_classes import S3StorageClasses
from storage.objects.s3_clients import ServerSideEncryption
from tests.seaweedfs import KMS_KEY_ID, new_bucket
from tests.storage.objects.test_s3 import Request, ToldServer, raw_client, refusal, server

__all__ = ["server"]

KEY = "tenant/study/series/object"
SMALL = bytes(range(256)) * 40
LARGE = bytes(range(253)) * 50_000
MANAGED = {"server_side_encryption": ServerSideEncryption.KMS, "kms_key_id": KMS_KEY_ID}
PARTS = {"multipart_threshold_bytes": 6 << 20, "part_bytes": 5 << 20}
AT_ONCE_OR_IN_PARTS = pytest.mark.parametrize("at_once_bytes", [1 << 30, 6 << 20], ids=["at-once", "in-parts"])
OURS = {"server_side_encryption": ServerSideEncryption.CUSTOMER, "customer_key": b"0123456789abcdef" * 2}


@pytest.fixture(scope="module")
def shared_bucket(seaweedfs: str) -> S3Settings:
    return new_bucket(seaweedfs)


@pytest.fixture
def bucket(shared_bucket: S3Settings) -> S3Settings:
    """A prefix of this test's own."""
    return dataclasses.replace(shared_bucket, prefix=f"archive/{secrets.token_hex(4)}", **PARTS)


def described(bucket: S3Settings) -> dict[str, Any]:
    """What the server says of the object, by a client of its own."""
    where = {"Bucket": bucket.bucket, "Key": f"{bucket.prefix}/{KEY}"}
    client = raw_client(dataclasses.replace(bucket, prefix=""))
    ours = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bucket.customer_key} if bucket.customer_key else {}
    found = client.get_object(**where, **ours)
    names = ("Metadata", "ContentType", "ServerSideEncryption", "SSECustomerAlgorithm", "SSECustomerKeyMD5")
    return {
        "class": found.get("StorageClass", "STANDARD"),
        "data": found["Body"].read(),
        "tags": client.get_object_tagging(**where)["TagSet"],
        **{name: found.get(name) for name in names},
    }


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("encryption", "at_once_bytes"),
    [
        ({}, 1 << 30),
        ({}, 6 << 20),
        ({"server_side_encryption": ServerSideEncryption.S3}, 1 << 30),
        ({"server_side_encryption": ServerSideEncryption.S3}, 6 << 20),
        # SeaweedFS has no UploadPartCopy with SSE-KMS or SSE-C; the requests are looked at below.
        (MANAGED, 1 << 30),
        (OURS, 1 << 30),
    ],
)
def test_an_object_is_moved_with_everything_that_belongs_to_it(
    bucket: S3Settings, encryption: dict[str, Any], at_once_bytes: int, data: bytes
) -> None:
    bucket = dataclasses.replace(bucket, tags=(("tenant", "{tenant}"), ("system", "imaging gateway")), **encryption)
    store, classes = S3ObjectStore(bucket), S3StorageClasses(bucket, at_once_bytes=at_once_bytes, part_bytes=5 << 20)
    store.put(KEY, [data])
    before = described(bucket)
    assert (before["class"], len(before["tags"]), {*before["Metadata"]}) == ("STANDARD", 2, {"sha256", "put-id"})
    for storage_class in ("STANDARD_IA", "GLACIER_IR", "STANDARD"):
        assert classes.move(KEY, storage_class)
        assert described(bucket) == {**before, "class": storage_class}
        assert not classes.move(KEY, storage_class)
    assert store.get(KEY) == data
    store.close()


def test_an_object_stays_in_a_class_that_it_may_stay_in(bucket: S3Settings) -> None:
    S3ObjectStore(dataclasses.replace(bucket, storage_class="GLACIER_IR")).put(KEY, [SMALL])
    assert not S3StorageClasses(bucket).move(KEY, "STANDARD_IA", ("GLACIER", "GLACIER_IR"))
    assert described(bucket)["class"] == "GLACIER_IR"


@AT_ONCE_OR_IN_PARTS
def test_whoever_reads_meanwhile_has_the_whole_object(bucket: S3Settings, at_once_bytes: int) -> None:
    store, classes = S3ObjectStore(bucket), S3StorageClasses(bucket, at_once_bytes=at_once_bytes, part_bytes=5 << 20)
    store.put(KEY, [LARGE])
    moving, reads = threading.Event(), []
    moving.set()

    def read() -> None:
        while moving.is_set():
            reads.append(store.get(KEY) == LARGE and store.head(KEY).size == len(LARGE))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(6):
            assert classes.move(KEY, ("STANDARD_IA", "STANDARD")[number % 2])
    finally:
        moving.clear()
        reader.join()
    assert reads
    assert all(reads)
    store.close()


def test_what_is_not_there_is_not_made(bucket: S3Settings) -> None:
    with pytest.raises(ObjectNotFound):
        S3StorageClasses(bucket).move(KEY, "STANDARD_IA")


def stored_and_last_call(bucket: S3Settings, at_once_bytes: int) -> tuple[S3ObjectStore, S3StorageClasses, str]:
    """A stored object, who moves it, and the name of the request that completes the move."""
    store, classes = S3ObjectStore(bucket), S3StorageClasses(bucket, at_once_bytes=at_once_bytes, part_bytes=5 << 20)
    store.put(KEY, [LARGE])
    return store, classes, "copy_object" if at_once_bytes > len(LARGE) else "complete_multipart_upload"


@AT_ONCE_OR_IN_PARTS
def test_what_is_deleted_while_it_is_copied_stays_so(
    bucket: S3Settings, at_once_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, classes, last = stored_and_last_call(bucket, at_once_bytes)
    call: Callable[..., Any] = getattr(classes._client, last)

    def delete_first(**arguments: Any) -> Any:
        store.delete(KEY)
        return call(**arguments)

    monkeypatch.setattr(classes._client, last, delete_first)
    with pytest.raises(ObjectNotFound):
        classes.move(KEY, "STANDARD_IA")
    assert list(store.list("")) == []
    uploads = raw_client(dataclasses.replace(bucket, prefix="")).list_multipart_uploads(Bucket=bucket.bucket)
    assert not uploads.get("Uploads")
    store.close()


@AT_ONCE_OR_IN_PARTS
def test_a_lost_answer_to_a_copy_that_was_made_is_no_failure(
    bucket: S3Settings, at_once_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, classes, last = stored_and_last_call(bucket, at_once_bytes)
    call: Callable[..., Any] = getattr(classes._client, last)

    def call_twice(**arguments: Any) -> Any:
        call(**arguments)
        return call(**arguments)

    monkeypatch.setattr(classes._client, last, call_twice)
    assert classes.move(KEY, "STANDARD_IA")
    assert (described(bucket)["class"], described(bucket)["data"] == LARGE) == ("STANDARD_IA", True)
    store.close()


# Against the told server: what SeaweedFS cannot do, as requests


@pytest.fixture
def seen(server: ToldServer) -> list[tuple[str, dict[str, str]]]:
    """Requests and their headers; the server has an object of 6 GiB under KMS with a tag."""
    found: list[tuple[str, dict[str, str]]] = []
    headers = {
        "ETag": '"e"', "Content_Type": "application/octet-stream", "x_amz_meta_sha256": "abc",
        "x_amz_tagging_count": "1", "Connection": "close",
        "x_amz_server_side_encryption": "aws:kms", "x_amz_server_side_encryption_aws_kms_key_id": "alias/imaging",
    }  # fmt: skip
    xml = "<?xml version='1.0'?>"
    tags = f"{xml}<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>"

    def answer(request: Request) -> None:
        found.append((f"{request.command} {request.path}", {k.lower(): v for k, v in request.headers.items()}))
        if request.command == "HEAD":
            request.tell(200, length=6 << 30, **headers)
        elif request.path.endswith("?tagging"):
            request.tell(200, tags.encode())
        elif request.path.endswith("?uploads"):
            request.tell(200, f"{xml}<R><UploadId>u</UploadId></R>".encode())
        elif request.command == "POST":
            request.tell(200, f'{xml}<R><ETag>"m"</ETag></R>'.encode())
        else:
            request.tell(200, f'{xml}<R><ETag>"p"</ETag></R>'.encode())

    server.answers = [answer]
    return found


def told(server: ToldServer, **changes: Any) -> S3Settings:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return S3Settings(url, "bucket", access_key_id="KEYID", secret_access_key="SECRET", max_attempts=1, **changes)


@pytest.mark.parametrize("at_once_bytes", [8 << 30, 1 << 30])
def test_the_key_of_a_key_management_service_and_every_byte_range_are_asked_for(
    server: ToldServer, seen: list[tuple[str, dict[str, str]]], at_once_bytes: int
) -> None:
    classes = S3StorageClasses(told(server), at_once_bytes=at_once_bytes, part_bytes=5 << 30)
    assert classes.move(KEY, "GLACIER_IR")
    requests = [request.partition("?")[0] + ("?" if "?" in request else "") for request, _ in seen]
    at = f"/bucket/{KEY}"
    if at_once_bytes > 6 << 30:
        assert requests == [f"HEAD {at}", f"PUT {at}"]
        begun = last = seen[1][1]
        assert (begun["x-amz-metadata-directive"], begun["x-amz-tagging-directive"]) == ("REPLACE", "COPY")
    else:
        assert requests == [f"HEAD {at}", f"GET {at}?", f"POST {at}?", f"PUT {at}?", f"PUT {at}?", f"POST {at}?"]
        begun, first, second, last = (headers for _, headers in seen[2:])
        assert [each["x-amz-copy-source-range"] for each in (first, second)] == [
            f"bytes=0-{(5 << 30) - 1}", f"bytes={5 << 30}-{(6 << 30) - 1}",
        ]  # fmt: skip
        assert first["x-amz-copy-source-if-match"] == '"e"'
        assert begun["x-amz-tagging"] == "a=b+c"
    assert begun["x-amz-storage-class"] == "GLACIER_IR"
    assert (begun["x-amz-meta-sha256"], begun["content-type"]) == ("abc", "application/octet-stream")
    assert begun["x-amz-server-side-encryption"] == "aws:kms"
    assert begun["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/imaging"
    assert last["if-match"] == '"e"'


def test_a_key_of_ours_goes_with_every_part_for_the_source_and_for_the_copy(
    server: ToldServer, seen: list[tuple[str, dict[str, str]]]
) -> None:
    S3StorageClasses(told(server, **OURS), part_bytes=5 << 30).move(KEY, "GLACIER_IR")
    source, copy = "x-amz-copy-source-server-side-encryption-customer-key", "x-amz-server-side-encryption-customer-key"
    parts = [headers for request, headers in seen if "partNumber" in request]
    assert len(parts) == 2
    assert all(headers[source] == headers[copy] != "" for headers in parts)
    assert copy in next(headers for request, headers in seen if request.endswith("?uploads"))


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (503, "SlowDown", "does not serve the request: HTTP 503 SlowDown"),
        (400, "InvalidStorageClass", "HTTP 400 InvalidStorageClass"),
        (403, "AccessDenied", "refuses our credentials"),
        (403, "InvalidObjectState", "is in an archive class"),
    ],
)
def test_a_refusal_is_told(server: ToldServer, status: int, code: str, said: str) -> None:
    server.answers = [
        lambda request: request.tell(200, length=9, ETag='"e"', Connection="close"),
        refusal(status, code),
    ]
    with pytest.raises(StorageUnavailable, match=said):
        S3StorageClasses(told(server)).move(KEY, "STANDARD_IA")
