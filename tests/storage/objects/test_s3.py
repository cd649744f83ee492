"""The object store in an S3 bucket: against SeaweedFS, and against a server that answers what a test tells it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from storage.errors import (
    InvalidIdentifier,
    ObjectDamaged,
    ObjectExists,
    ObjectNotFound,
    StorageFull,
    StorageUnavailable,
)
from storage.objects.base import ByteRange, FileSegment, ObjectStore, Segment
from storage.objects.s3 import S3ObjectStore, S3Settings
from tests.seaweedfs import new_bucket
from tests.storage.objects.conformance import KEY, KEYS_IN_ORDER, ObjectStoreContract


@pytest.fixture(scope="module")
def shared_bucket(seaweedfs: str) -> S3Settings:
    return new_bucket(seaweedfs)


@pytest.fixture
def store(seaweedfs_bucket: S3Settings) -> Iterator[S3ObjectStore]:
    store = S3ObjectStore(seaweedfs_bucket)
    yield store
    store.close()


@pytest.fixture
def prefixed(seaweedfs_bucket: S3Settings) -> Iterator[S3ObjectStore]:
    store = S3ObjectStore(dataclasses.replace(seaweedfs_bucket, prefix="archive/one"))
    yield store
    store.close()


@functools.cache
def raw_client(settings: S3Settings) -> Any:
    """A plain client, to look past the store."""
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        region_name=settings.region,
    )


def raw_keys(settings: S3Settings) -> list[str]:
    answer = raw_client(settings).list_objects_v2(Bucket=settings.bucket)
    return [one["Key"] for one in answer.get("Contents", ())]


class TestS3ObjectStore(ObjectStoreContract):
    """Each test has its own prefix: a new bucket costs SeaweedFS 0.2 s at its first object."""

    @pytest.fixture
    def store(self, shared_bucket: S3Settings) -> Iterator[S3ObjectStore]:
        prefix = f"archive/{secrets.token_hex(4)}"
        store = S3ObjectStore(dataclasses.replace(shared_bucket, prefix=prefix))
        yield store
        store.close()

    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        assert isinstance(store, S3ObjectStore)
        settings = store._settings
        client = raw_client(dataclasses.replace(settings, prefix=""))
        try:
            answer = client.get_object(Bucket=settings.bucket, Key=f"{settings.prefix}/{key}")
        except client.exceptions.NoSuchKey:
            return None
        data: bytes = answer["Body"].read()
        return data


def test_the_digest_is_in_the_metadata_of_the_object(store: S3ObjectStore, seaweedfs_bucket: S3Settings) -> None:
    store.put(KEY, [b"data"])
    answer = raw_client(seaweedfs_bucket).head_object(Bucket=seaweedfs_bucket.bucket, Key=KEY)
    assert answer["Metadata"]["sha256"] == hashlib.sha256(b"data").hexdigest()
    assert store.head(KEY).sha256 == hashlib.sha256(b"data").hexdigest()


def test_a_prefix_keeps_two_stores_of_one_bucket_apart(
    store: S3ObjectStore, prefixed: S3ObjectStore, seaweedfs_bucket: S3Settings
) -> None:
    prefixed.put("a/b", [b"data"])
    assert raw_keys(seaweedfs_bucket) == ["archive/one/a/b"]
    assert [info.key for info in prefixed.list("a/")] == ["a/b"]
    with pytest.raises(ObjectNotFound):
        store.get("a/b")
    with pytest.raises(InvalidIdentifier):
        S3ObjectStore(dataclasses.replace(seaweedfs_bucket, prefix="a/../b"))


def test_ensure_bucket_can_be_repeated(store: S3ObjectStore) -> None:
    store.ensure_bucket()
    store.put(KEY, [b"data"])
    store.ensure_bucket()
    assert store.get(KEY) == b"data"


def test_a_missing_bucket_is_unavailable_and_not_a_missing_object(seaweedfs_bucket: S3Settings) -> None:
    store = S3ObjectStore(dataclasses.replace(seaweedfs_bucket, bucket="never-made"))
    for call in (lambda: store.get(KEY), lambda: store.head(KEY), lambda: list(store.list(""))):
        with pytest.raises(StorageUnavailable, match="404"):
            call()
    store.ensure_bucket()
    with pytest.raises(ObjectNotFound):
        store.get(KEY)


def test_refused_credentials_are_named_without_being_shown(seaweedfs_bucket: S3Settings) -> None:
    settings = dataclasses.replace(seaweedfs_bucket, secret_access_key="wrong-secret")
    assert "wrong-secret" not in repr(settings)
    store = S3ObjectStore(settings)
    calls: list[Callable[[], object]] = [
        lambda: store.get(KEY),
        lambda: store.put(KEY, [b"data"]),
        lambda: store.delete(KEY),
        lambda: list(store.list("")),
        store.ping,
        store.ensure_bucket,
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable, match="refuses our credentials: HTTP 403") as raised:
            call()
        assert "wrong-secret" not in str(raised.value)
    store.close()


def test_credentials_may_come_from_the_environment(
    seaweedfs_bucket: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs_bucket.access_key_id or "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs_bucket.secret_access_key or "")
    store = S3ObjectStore(dataclasses.replace(seaweedfs_bucket, access_key_id=None, secret_access_key=None))
    store.put(KEY, [b"data"])
    assert store.get(KEY) == b"data"
    store.close()


def test_a_checksum_header_can_stand_in_for_the_etag(seaweedfs_bucket: S3Settings) -> None:
    store = S3ObjectStore(dataclasses.replace(seaweedfs_bucket, etag_is_md5=False))
    store.put(KEY, [b"data"])
    assert store.get(KEY) == b"data"
    store.close()


def test_a_list_goes_over_pages(seaweedfs_bucket: S3Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = S3ObjectStore(seaweedfs_bucket)
    for key in KEYS_IN_ORDER:
        store.put(key, [b"x"])
    whole_pages = store._client.list_objects_v2
    monkeypatch.setattr(store._client, "list_objects_v2", lambda **query: whole_pages(**{"MaxKeys": 2, **query}))
    assert [info.key for info in store.list("")] == KEYS_IN_ORDER
    assert [info.key for info in store.list("a", "a-c")] == ["a.b/x", "a/x", "a/x.y", "a/y/z", "a0/x", "aa"]
    store.close()


def test_a_server_that_lists_in_another_order_is_noticed(seaweedfs_bucket: S3Settings) -> None:
    store = S3ObjectStore(dataclasses.replace(seaweedfs_bucket, lists_by_directory=False))
    for key in ("a/x", "a-b"):
        store.put(key, [b"x"])
    with pytest.raises(StorageUnavailable, match="lists_by_directory"):
        list(store.list(""))
    store.close()


class TestMultipart:
    @pytest.fixture
    def settings(self, seaweedfs_bucket: S3Settings) -> S3Settings:
        return dataclasses.replace(seaweedfs_bucket, multipart_threshold_bytes=6 << 20, part_bytes=5 << 20)

    @pytest.fixture
    def store(self, settings: S3Settings) -> Iterator[S3ObjectStore]:
        store = S3ObjectStore(settings)
        yield store
        store.close()

    @pytest.fixture
    def spool(self, tmp_path: Path) -> Path:
        path = tmp_path / "spool"
        path.write_bytes(bytes(range(251)) * 50_000)
        return path

    def uploads(self, settings: S3Settings) -> list[object]:
        return list(raw_client(settings).list_multipart_uploads(Bucket=settings.bucket).get("Uploads", ()))

    def test_a_large_body_goes_up_in_parts(self, store: S3ObjectStore, settings: S3Settings, spool: Path) -> None:
        body: list[Segment] = [b"head", FileSegment(spool, 1, 12_000_000), b"tail"]
        expected = b"head" + spool.read_bytes()[1:12_000_001] + b"tail"
        info = store.put(KEY, body)
        assert info.size == len(expected)
        assert info.sha256 == hashlib.sha256(expected).hexdigest()
        answer = raw_client(settings).get_object(Bucket=settings.bucket, Key=KEY)
        assert answer["ETag"].endswith('-3"')
        assert answer["Body"].read() == expected
        assert store.get(KEY, ByteRange(5_242_870, 5_242_890)) == expected[5_242_870:5_242_890]

    def test_a_key_that_is_taken_is_refused_and_the_upload_aborted(
        self, store: S3ObjectStore, settings: S3Settings, spool: Path
    ) -> None:
        store.put(KEY, [b"first"])
        with pytest.raises(ObjectExists):
            store.put(KEY, [FileSegment(spool, 0, 12_000_000)])
        assert store.get(KEY) == b"first"
        assert self.uploads(settings) == []

    def test_a_file_that_is_too_short_is_refused_before_anything_is_sent(
        self, store: S3ObjectStore, settings: S3Settings, spool: Path
    ) -> None:
        with pytest.raises(ObjectDamaged):
            store.put(KEY, [FileSegment(spool, 0, 20_000_000)])
        assert raw_keys(settings) == []
        assert self.uploads(settings) == []

    def test_a_file_that_changes_while_it_is_sent_is_not_kept(
        self, store: S3ObjectStore, settings: S3Settings, spool: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = store._client.create_multipart_upload

        def change_then_begin(**arguments: object) -> object:
            with spool.open("r+b") as file:
                file.seek(11_000_000)
                file.write(b"other")
            return create(**arguments)

        monkeypatch.setattr(store._client, "create_multipart_upload", change_then_begin)
        with pytest.raises(ObjectDamaged, match="changed"):
            store.put(KEY, [FileSegment(spool, 0, 12_000_000)])
        assert raw_keys(settings) == []
        assert self.uploads(settings) == []

    def test_no_more_parts_are_under_way_than_one_of_each_object_and_those_that_are_allowed_beside(
        self, settings: S3Settings, spool: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = S3ObjectStore(dataclasses.replace(settings, parallel_parts=1))
        upload_part = store._client.upload_part
        lock, three = threading.Lock(), threading.Event()
        under_way: list[int] = [0]

        def upload_with_others(**arguments: object) -> object:
            with lock:
                under_way[0] += 1
                under_way.append(under_way[0])
                if under_way[0] == 3:
                    three.set()
            assert three.wait(30)  # two objects have three parts under way in the end
            answer = upload_part(**arguments)
            with lock:
                under_way[0] -= 1
            return answer

        monkeypatch.setattr(store._client, "upload_part", upload_with_others)
        with ThreadPoolExecutor(2) as threads:
            for put in [threads.submit(store.put, f"k{n}", [FileSegment(spool, n, 12_000_000)]) for n in range(2)]:
                put.result()
        assert max(under_way) == 3
        for number in range(2):
            assert store.get(f"k{number}") == spool.read_bytes()[number : 12_000_000 + number]
        store.close()

    def test_a_lost_answer_to_the_last_request_is_no_failure(
        self, store: S3ObjectStore, spool: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        complete = store._client.complete_multipart_upload

        def complete_twice(**arguments: object) -> object:
            complete(**arguments)
            return complete(**arguments)

        monkeypatch.setattr(store._client, "complete_multipart_upload", complete_twice)
        assert store.put(KEY, [FileSegment(spool, 0, 12_000_000)]).size == 12_000_000


# A server that answers what it is told

Answer = Callable[["Request"], object]


class Request(BaseHTTPRequestHandler):
    """One request to the told server; ``tell`` sends the whole answer."""

    protocol_version = "HTTP/1.1"
    server: ToldServer

    def handle_one(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.requests.append(f"{self.command} {self.path}")
            answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        answer(self)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one  # noqa: N815

    def tell(self, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 15:56:56 GMT")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body)
        if length is not None and length != len(body):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Silent: the tests look at ``requests``."""


class ToldServer(ThreadingHTTPServer):
    """Gives its answers in turn, the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.lock = threading.Lock()
        self.requests: list[str] = []
        self.answers: list[Answer] = []

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""


@pytest.fixture
def server() -> Iterator[ToldServer]:
    server = ToldServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def told(server: ToldServer) -> Iterator[S3ObjectStore]:
    """A store that talks to the told server."""
    store = S3ObjectStore(
        S3Settings(
            endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
            bucket="bucket",
            access_key_id="KEYID",
            secret_access_key="SECRET",
            read_timeout_s=20,
            max_attempts=2,
            retry_timeout_s=20,
        )
    )
    yield store
    store.close()


def refusal(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return lambda request: request.tell(status, body, Content_Type="application/xml")


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (502, "BadGateway"), (400, "BadRequest")]
)
def test_a_server_that_does_not_serve_is_unavailable(
    server: ToldServer, told: S3ObjectStore, status: int, code: str
) -> None:
    server.answers = [refusal(status, code)]
    calls: list[Callable[[], object]] = [
        lambda: told.get(KEY),
        lambda: told.head(KEY),
        lambda: told.put(KEY, [b"x"]),
        lambda: told.put(KEY, [bytes(17 << 20)]),
        lambda: told.delete(KEY),
        lambda: list(told.list("")),
        told.ping,
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable, match=str(status)):
            call()
    assert len(server.requests) <= 2 * len(calls)


def test_a_passing_fault_is_tried_again(server: ToldServer, told: S3ObjectStore) -> None:
    server.answers = [refusal(503, "SlowDown"), lambda request: request.tell(200, b"data", ETag='"e"')]
    assert told.get(KEY) == b"data"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "code"),
    [(507, "InsufficientStorage"), (403, "QuotaExceeded"), (507, "XMinioStorageFull")],
)
@pytest.mark.parametrize("size", [1, 17 << 20])
def test_a_server_without_room_is_full(
    server: ToldServer, told: S3ObjectStore, status: int, code: str, size: int
) -> None:
    server.answers = [refusal(status, code)]
    with pytest.raises(StorageFull):
        told.put(KEY, [bytes(size)])


def test_a_server_that_is_not_there_is_unavailable(server: ToldServer, told: S3ObjectStore) -> None:
    server.server_close()
    for call in (lambda: told.get(KEY), lambda: told.put(KEY, [b"x"]), lambda: told.delete(KEY)):
        with pytest.raises(StorageUnavailable):
            call()


def test_a_server_that_never_answers_is_unavailable(server: ToldServer, told: S3ObjectStore) -> None:
    ended = threading.Event()
    server.answers = [lambda _: ended.wait(timeout=30)]
    store = S3ObjectStore(dataclasses.replace(told._settings, read_timeout_s=0.3))
    try:
        for call in (lambda: store.get(KEY), lambda: store.put(KEY, [b"x"])):
            with pytest.raises(StorageUnavailable):
                call()
    finally:
        ended.set()
        store.close()


def test_an_object_whose_etag_is_not_the_digest_is_removed_and_may_be_sent_again(
    server: ToldServer, told: S3ObjectStore
) -> None:
    server.answers = [
        lambda request: request.tell(200, ETag='"00000000000000000000000000000000"'),
        lambda request: request.tell(204),
    ]
    with pytest.raises(StorageUnavailable, match="kept something else"):
        told.put(KEY, [b"data"])
    assert server.requests == [f"PUT /bucket/{KEY}", f"DELETE /bucket/{KEY}"]


def test_without_an_etag_to_trust_an_object_of_another_size_is_removed_and_may_be_sent_again(
    server: ToldServer, told: S3ObjectStore
) -> None:
    store = S3ObjectStore(dataclasses.replace(told._settings, etag_is_md5=False))
    server.answers = [
        lambda request: request.tell(200, ETag='"e"'),
        lambda request: request.tell(200, length=3, ETag='"e"'),
        lambda request: request.tell(204),
    ]
    with pytest.raises(StorageUnavailable, match="kept something else"):
        store.put(KEY, [b"data"])
    assert server.requests[-1] == f"DELETE /bucket/{KEY}"
    store.close()


def test_a_small_put_is_one_request(server: ToldServer, told: S3ObjectStore) -> None:
    etag = hashlib.md5(b"data", usedforsecurity=False).hexdigest()
    server.answers = [lambda request: request.tell(200, ETag=f'"{etag}"')]
    told.put(KEY, [b"data"])
    assert server.requests == [f"PUT /bucket/{KEY}"]


def test_a_put_whose_answer_was_lost_finds_its_own_object(server: ToldServer, told: S3ObjectStore) -> None:
    put_ids: list[str] = []

    def fail_after_keeping(request: Request) -> None:
        put_ids.append(request.headers["x-amz-meta-put-id"])
        refusal(500, "InternalError")(request)

    def head(request: Request) -> None:
        request.tell(200, length=4, ETag=f'"{etag}"', x_amz_meta_put_id=put_ids[-1])

    etag = hashlib.md5(b"data", usedforsecurity=False).hexdigest()
    server.answers = [fail_after_keeping, refusal(412, "PreconditionFailed"), head]
    assert told.put(KEY, [b"data"]).size == 4

    # What the first attempt left is ours, but is it what was sent?
    etag = "0" * 32
    server.answers = [fail_after_keeping, refusal(412, "PreconditionFailed"), head, lambda request: request.tell(204)]
    with pytest.raises(StorageUnavailable, match="kept something else"):
        told.put(KEY, [b"data"])


def test_a_connection_that_breaks_off_in_the_body_is_unavailable(server: ToldServer, told: S3ObjectStore) -> None:
    server.answers = [lambda request: request.tell(200, b"x" * 1000, length=5000, ETag='"e"')]
    with pytest.raises(StorageUnavailable):
        told.get(KEY)
    with told.open(KEY) as reader, pytest.raises(StorageUnavailable):
        list(reader.blocks())


def test_a_shorter_range_than_asked_for_is_damage(server: ToldServer, told: S3ObjectStore) -> None:
    server.answers = [lambda request: request.tell(206, b"x" * 5, ETag='"e"', Content_Range="bytes 10-14/15")]
    with pytest.raises(ObjectDamaged):
        told.get(KEY, ByteRange(10, 20))
