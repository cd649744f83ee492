"""What becomes of the S3 store's calls when the way to a real SeaweedFS is slow, cut, refused or altered."""

from __future__ import annotations

import dataclasses
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from storage.errors import ObjectDamaged, StorageUnavailable
from storage.objects.base import ByteRange
from storage.objects.s3 import S3ObjectStore, S3Settings
from tests.faulty_proxy import Fault, FaultyProxy, Passed
from tests.seaweedfs import new_bucket
from tests.storage.objects.conformance import KEY
from tests.storage.objects.test_s3 import raw_client, raw_keys
from tests.storage.objects.test_s3_clients import authority

SMALL = bytes(range(256)) * 4000
LARGE = bytes(range(253)) * 50_000

PASSING = {
    "an error of the server": Fault(status=500, code="InternalError"),
    "slow down": Fault(status=503, code="SlowDown"),
    "a reset within the request": Fault(request_bytes=1000),
    "a reset before the answer": Fault(lose_answer=True),
    "a reset within the answer": Fault(response_bytes=100_000),
}


@pytest.fixture
def proxy(seaweedfs: str) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(seaweedfs)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def bucket(seaweedfs: str) -> S3Settings:
    return new_bucket(seaweedfs)


def near(settings: S3Settings, proxy: FaultyProxy, **changes: object) -> S3Settings:
    """The bucket behind the proxy, below a prefix of the proxy's own, with little patience."""
    return dataclasses.replace(
        settings,
        endpoint_url=proxy.url,
        prefix=proxy.url.rpartition(":")[2],
        multipart_threshold_bytes=6 << 20,
        part_bytes=5 << 20,
        read_timeout_s=2.0,
        max_attempts=3,
        retry_timeout_s=10,
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture
def store(bucket: S3Settings, proxy: FaultyProxy) -> Iterator[S3ObjectStore]:
    store = S3ObjectStore(near(bucket, proxy))
    yield store
    store.close()


def is_put(request: Passed) -> bool:
    return request.method in ("PUT", "POST")


def is_get(request: Passed) -> bool:
    return request.method == "GET"


def kept(store: S3ObjectStore, key: str) -> bytes | None:
    settings = store._settings
    client = raw_client(settings)
    try:
        data: bytes = client.get_object(Bucket=settings.bucket, Key=f"{settings.prefix}/{key}")["Body"].read()
    except client.exceptions.NoSuchKey:
        return None
    return data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", PASSING)
def test_a_put_survives(store: S3ObjectStore, proxy: FaultyProxy, name: str, data: bytes) -> None:
    proxy.fail(PASSING[name], when=is_put)
    info = store.put(KEY, [data])
    assert info.size == len(data)
    proxy.fail()
    assert kept(store, KEY) == data


@pytest.mark.parametrize("name", PASSING)
def test_reads_survive(store: S3ObjectStore, proxy: FaultyProxy, name: str) -> None:
    store.put(KEY, [SMALL])

    def streamed(byte_range: ByteRange | None) -> bytes:
        with store.open(KEY, byte_range) as reader:
            return b"".join(reader.blocks())

    part = ByteRange(1000, 900_000)
    calls: list[tuple[Callable[[], bytes], bytes]] = [
        (lambda: store.get(KEY), SMALL),
        (lambda: store.get(KEY, part), SMALL[1000:900_000]),
        (lambda: streamed(None), SMALL),
        (lambda: streamed(part), SMALL[1000:900_000]),
        (lambda: store.read_at(KEY, 1000, 899_000).data, SMALL[1000:900_000]),
    ]
    for call, expected in calls:
        proxy.fail(PASSING[name], when=is_get)
        assert call() == expected


@pytest.mark.parametrize("name", PASSING)
def test_lists_and_deletions_survive(store: S3ObjectStore, proxy: FaultyProxy, name: str) -> None:
    store.put("a/b", [b"x"])
    fault = dataclasses.replace(PASSING[name], response_bytes=20) if PASSING[name].response_bytes else PASSING[name]
    proxy.fail(fault)
    assert [info.key for info in store.list("")] == ["a/b"]
    proxy.fail(fault)
    store.delete("a/b")
    proxy.fail()
    assert list(store.list("")) == []


def test_a_request_that_hangs_is_given_up_and_made_again(store: S3ObjectStore, proxy: FaultyProxy) -> None:
    ended = threading.Event()
    try:
        proxy.fail(Fault(until=ended), when=is_put)
        store.put(KEY, [SMALL])
        proxy.fail(Fault(until=ended), when=is_get)
        assert store.get(KEY) == SMALL
    finally:
        ended.set()


@pytest.mark.parametrize("name", PASSING)
def test_what_does_not_pass_is_unavailable_and_never_not_found_or_half_there(
    store: S3ObjectStore, proxy: FaultyProxy, name: str
) -> None:
    store.put("there", [SMALL])
    proxy.plan = lambda _: PASSING[name]
    calls: list[Callable[[], object]] = [
        lambda: store.get("there"),
        lambda: store.get("missing"),
        lambda: store.put("small", [SMALL]),
        lambda: store.put("large", [LARGE]),
        store.ping,
    ]
    for call in calls:
        if PASSING[name].response_bytes is not None and call is not calls[0]:
            continue  # short answers pass unharmed
        with pytest.raises(StorageUnavailable):
            call()
    proxy.fail()
    assert kept(store, "there") == SMALL
    for key, data in (("small", SMALL), ("large", LARGE)):
        assert kept(store, key) in (None, data)


def part_number(request: Passed) -> str:
    return parse_qs(urlsplit(request.target).query).get("partNumber", [""])[0]


def test_parts_go_up_beside_each_other(store: S3ObjectStore, proxy: FaultyProxy) -> None:
    second = threading.Event()

    def plan(request: Passed) -> Fault | None:
        if part_number(request) == "2":
            second.set()
        # The first is let through when the second is there: who waited for the first would never send it.
        return Fault(until=second) if part_number(request) == "1" else None

    proxy.plan = plan
    store.put(KEY, [LARGE])
    assert kept(store, KEY) == LARGE


@pytest.mark.parametrize("refused", ["1", "2"])
def test_a_part_that_is_refused_takes_those_beside_it_along(
    store: S3ObjectStore, proxy: FaultyProxy, refused: str
) -> None:
    both = threading.Barrier(2)

    def plan(request: Passed) -> Fault | None:
        if part_number(request) in ("1", "2"):
            both.wait(timeout=30)
        return Fault(status=403, code="AccessDenied") if part_number(request) == refused else None

    proxy.plan = plan
    with pytest.raises(StorageUnavailable):
        store.put(KEY, [LARGE])
    assert kept(store, KEY) is None
    settings = store._settings
    uploads = raw_client(settings).list_multipart_uploads(Bucket=settings.bucket, Prefix=settings.prefix)
    assert uploads.get("Uploads", []) == []
    aborted = [request.method for request in proxy.passed].index("DELETE")
    assert all(part_number(request) == "" for request in proxy.passed[aborted:])


def test_refused_is_unavailable_and_never_not_found(store: S3ObjectStore, proxy: FaultyProxy) -> None:
    store.put(KEY, [SMALL])
    proxy.plan = lambda _: Fault(status=403, code="AccessDenied")
    calls: list[Callable[[], object]] = [
        lambda: store.get(KEY),
        lambda: store.get(KEY, ByteRange(0, 1)),
        lambda: store.head(KEY),
        lambda: store.put("other", [SMALL]),
        lambda: store.put("other", [LARGE]),
        lambda: store.delete(KEY),
        lambda: list(store.list("")),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable, match="refuses our credentials"):
            call()
    proxy.fail()
    assert store.get(KEY) == SMALL


def test_a_whole_read_of_other_bytes_is_damage(store: S3ObjectStore, proxy: FaultyProxy) -> None:
    store.put(KEY, [SMALL])
    for fault in (Fault(alter_response=True), Fault(shorten_response=7)):
        proxy.fail(fault, when=is_get)
        with pytest.raises(ObjectDamaged):
            store.get(KEY)
        proxy.fail(fault, when=is_get)
        with pytest.raises(ObjectDamaged), store.open(KEY) as reader:
            list(reader.blocks())


def test_a_range_of_which_not_all_arrives_may_be_asked_for_again(store: S3ObjectStore, proxy: FaultyProxy) -> None:
    store.put(KEY, [SMALL])
    proxy.plan = lambda request: Fault(shorten_response=7) if is_get(request) else None
    part = ByteRange(1000, 9000)
    for call in (
        lambda: store.get(KEY, part),
        lambda: store.read_at(KEY, 1000, 8000),
    ):
        with pytest.raises(StorageUnavailable):
            call()
    with pytest.raises(StorageUnavailable), store.open(KEY, part) as reader:
        list(reader.blocks())


def test_other_bytes_on_the_way_to_the_server_are_not_kept_and_the_right_ones_may_be_sent_again(
    bucket: S3Settings, seaweedfs: str, tmp_path: Path
) -> None:
    """Over TLS the body is not signed: what comes back as its ETag is all that tells."""
    bundle, context = authority(tmp_path)
    assert isinstance(context, ssl.SSLContext)
    proxy = FaultyProxy(seaweedfs, tls=context)
    store = S3ObjectStore(near(bucket, proxy, ca_bundle=bundle))
    try:
        proxy.fail(Fault(alter_request=True), when=is_put)
        with pytest.raises(StorageUnavailable, match="kept something else"):
            store.put(KEY, [SMALL])
        # A part's Content-MD5 lets the server refuse it.
        proxy.fail(*[Fault(alter_request=True)] * 9, when=lambda request: "partNumber" in request.target)
        with pytest.raises(StorageUnavailable):
            store.put(KEY, [LARGE])
        proxy.fail()
        assert kept(S3ObjectStore(dataclasses.replace(store._settings, endpoint_url=seaweedfs)), KEY) is None
        assert [key for key in raw_keys(bucket) if key.startswith(store._settings.prefix)] == []
    finally:
        store.close()
        proxy.stop()
