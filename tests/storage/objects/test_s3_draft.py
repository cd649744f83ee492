"""Objects that go up to S3 while they still arrive: against SeaweedFS."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.errors import ObjectDamaged, ObjectExists, StorageUnavailable
from storage.objects import s3_draft
from storage.objects.base import Draft
from storage.objects.s3 import S3ObjectStore, S3Settings
from tests.storage.objects.conformance import KEY
from tests.storage.objects.test_s3 import raw_client

PART = 5 << 20
HEAD = b"head" * 100
START = 11
"""Of the file, before what becomes the object."""


@pytest.fixture
def settings(seaweedfs_bucket: S3Settings) -> S3Settings:
    return dataclasses.replace(seaweedfs_bucket, multipart_threshold_bytes=6 << 20, part_bytes=PART)


@pytest.fixture
def store(settings: S3Settings) -> Iterator[S3ObjectStore]:
    store = S3ObjectStore(settings)
    yield store
    store.close()


@pytest.fixture
def arrival(tmp_path: Path) -> Arrival:
    return Arrival(tmp_path / "arrival")


class Arrival:
    """A file that grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_bytes(b"." * START)
        self.length = 0

    def grow(self, draft: Draft, to: int) -> None:
        with self.path.open("ab") as file:
            while self.length < to:
                more = min(1 << 20, to - self.length)
                file.write((hashlib.sha256(b"%d" % self.length).digest() * (1 << 15))[:more])
                self.length += more
        draft.grown(self.length)

    @property
    def expected(self) -> bytes:
        return HEAD + self.path.read_bytes()[START:]


def begun(store: S3ObjectStore, arrival: Arrival) -> Draft:
    draft = store.draft(KEY, HEAD, arrival.path, START)
    assert draft is not None
    return draft


def uploads(settings: S3Settings) -> list[str]:
    found = raw_client(settings).list_multipart_uploads(Bucket=settings.bucket).get("Uploads", ())
    return [each["UploadId"] for each in found]


def parts(settings: S3Settings) -> list[int]:
    """The numbers of the parts that the server has of the one upload."""
    found = uploads(settings)
    if not found:
        return []
    answer = raw_client(settings).list_parts(Bucket=settings.bucket, Key=KEY, UploadId=found[0])
    return sorted(each["PartNumber"] for each in answer.get("Parts", ()))


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_whole_parts_are_there_before_the_rest_has_come_and_nobody_sees_them(
    store: S3ObjectStore, settings: S3Settings, arrival: Arrival
) -> None:
    draft = begun(store, arrival)
    arrival.grow(draft, PART)
    assert uploads(settings) == []  # it might end here, and be put in one request
    arrival.grow(draft, 3 * PART + 5)
    until(lambda: parts(settings) == [1, 2, 3])
    assert list(store.list("")) == []
    arrival.grow(draft, 4 * PART + 17)
    info = draft.complete(arrival.length)
    assert (info.key, info.size) == (KEY, len(arrival.expected))
    assert info.sha256 == hashlib.sha256(arrival.expected).hexdigest()
    assert store.get(KEY) == arrival.expected
    answer = raw_client(settings).head_object(Bucket=settings.bucket, Key=KEY)
    assert answer["ETag"].endswith('-5"')
    assert store.head(KEY).sha256 is None
    assert uploads(settings) == []
    draft.abandon()
    assert store.get(KEY) == arrival.expected


@pytest.mark.parametrize("length", [0, 1, PART, 2 * PART - len(HEAD), 2 * PART - len(HEAD) + 1])
def test_any_length_becomes_the_same_bytes(store: S3ObjectStore, arrival: Arrival, length: int) -> None:
    draft = begun(store, arrival)
    arrival.grow(draft, length)
    assert draft.complete(length).sha256 == hashlib.sha256(arrival.expected).hexdigest()
    assert store.get(KEY) == arrival.expected


def test_what_is_abandoned_is_forgotten_by_the_server(
    store: S3ObjectStore, settings: S3Settings, arrival: Arrival
) -> None:
    draft = begun(store, arrival)
    arrival.grow(draft, 3 * PART)
    until(lambda: len(parts(settings)) == 3)
    draft.abandon()
    draft.abandon()
    until(lambda: uploads(settings) == [])
    assert list(store.list("")) == []


def test_who_receives_waits_for_nobody_and_a_part_under_way_is_forgotten_too(
    store: S3ObjectStore, settings: S3Settings, arrival: Arrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, upload_part = threading.Event(), store._client.upload_part

    def hanging(**arguments: object) -> object:
        assert go_on.wait(60)
        return upload_part(**arguments)

    monkeypatch.setattr(store._client, "upload_part", hanging)
    draft = begun(store, arrival)
    arrival.grow(draft, 3 * PART)
    until(lambda: len(uploads(settings)) == 1)
    arrival.grow(draft, 9 * PART)
    draft.abandon()
    assert len(uploads(settings)) == 1
    go_on.set()
    until(lambda: uploads(settings) == [])


@pytest.mark.parametrize("call", ["create_multipart_upload", "upload_part"])
def test_an_engine_that_is_away_meanwhile_does_no_harm(
    store: S3ObjectStore, settings: S3Settings, arrival: Arrival, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    away, working = [True], getattr(store._client, call)
    failed = threading.Event()

    def sometimes(**arguments: object) -> object:
        if away[0]:
            failed.set()
            raise ConnectionError("away")
        return working(**arguments)

    monkeypatch.setattr(store._client, call, sometimes)
    draft = begun(store, arrival)
    arrival.grow(draft, 3 * PART)
    assert failed.wait(60)
    away[0] = False
    arrival.grow(draft, 4 * PART)
    draft.complete(arrival.length)
    assert store.get(KEY) == arrival.expected
    assert uploads(settings) == []


def test_an_engine_that_stays_away_is_told_and_what_is_there_of_it_goes(
    settings: S3Settings, arrival: Arrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = S3ObjectStore(settings)
    upload_part, sent = store._client.upload_part, threading.Event()

    def once(**arguments: Any) -> object:
        if arguments["PartNumber"] > 1:
            assert sent.wait(60)
            raise StorageUnavailable("the object store kept something else")
        answer = upload_part(**arguments)
        sent.set()
        return answer

    monkeypatch.setattr(store._client, "upload_part", once)
    draft = begun(store, arrival)
    arrival.grow(draft, 3 * PART)
    with pytest.raises(StorageUnavailable):
        draft.complete(arrival.length)
    store.close()
    assert uploads(settings) == []
    assert list(S3ObjectStore(settings).list("")) == []


def test_a_key_that_is_taken_is_refused(store: S3ObjectStore, settings: S3Settings, arrival: Arrival) -> None:
    draft = begun(store, arrival)
    arrival.grow(draft, 3 * PART)
    store.put(KEY, [b"first"])
    with pytest.raises(ObjectExists):
        draft.complete(arrival.length)
    assert store.get(KEY) == b"first"
    until(lambda: uploads(settings) == [])


def test_a_file_that_is_not_what_was_sent_of_it_is_no_object(
    store: S3ObjectStore, settings: S3Settings, arrival: Arrival
) -> None:
    draft = begun(store, arrival)
    arrival.grow(draft, 3 * PART)
    until(lambda: len(parts(settings)) == 3)
    with arrival.path.open("r+b") as file:
        file.seek(PART + 100)
        file.write(b"other")
    with pytest.raises(ObjectDamaged, match="changed"):
        draft.complete(arrival.length)
    assert list(store.list("")) == []
    until(lambda: uploads(settings) == [])


def test_a_lost_answer_to_the_last_request_is_no_failure(
    store: S3ObjectStore, arrival: Arrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = store._client.complete_multipart_upload

    def complete_twice(**arguments: object) -> object:
        complete(**arguments)
        return complete(**arguments)

    monkeypatch.setattr(store._client, "complete_multipart_upload", complete_twice)
    draft = begun(store, arrival)
    arrival.grow(draft, 3 * PART)
    assert draft.complete(arrival.length).sha256 == hashlib.sha256(arrival.expected).hexdigest()


def test_one_of_too_many_parts_is_put_in_longer_ones(
    store: S3ObjectStore, settings: S3Settings, arrival: Arrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_draft, "MAX_PARTS", 3)
    draft = begun(store, arrival)
    for number in range(1, 5):
        arrival.grow(draft, number * PART)
    info = draft.complete(arrival.length)
    assert info.sha256 == store.head(KEY).sha256 == hashlib.sha256(arrival.expected).hexdigest()
    assert store.get(KEY) == arrival.expected
    until(lambda: uploads(settings) == [])


def test_no_more_parts_are_under_way_than_may_be_and_one_of_who_completes(
    settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = S3ObjectStore(dataclasses.replace(settings, parallel_parts=2))
    upload_part = store._client.upload_part
    lock, under_way = threading.Lock(), [0]

    def counted(**arguments: object) -> object:
        with lock:
            under_way.append(under_way[0] + 1)
            under_way[0] += 1
        answer = upload_part(**arguments)
        with lock:
            under_way[0] -= 1
        return answer

    monkeypatch.setattr(store._client, "upload_part", counted)
    arrivals = [Arrival(tmp_path / str(number)) for number in range(3)]
    drafts = [store.draft(f"k{number}", HEAD, each.path, START) for number, each in enumerate(arrivals)]
    for size in (2, 4, 6):
        for draft, each in zip(drafts, arrivals, strict=True):
            assert draft is not None
            each.grow(draft, size * PART)
    for number, (draft, each) in enumerate(zip(drafts, arrivals, strict=True)):
        assert draft is not None
        draft.complete(each.length)
        assert store.get(f"k{number}") == each.expected
    assert max(under_way) <= 3
    store.close()
    assert uploads(settings) == []


def test_after_the_store_was_closed_nothing_raises_while_it_still_arrives(
    settings: S3Settings, arrival: Arrival
) -> None:
    store = S3ObjectStore(settings)
    draft = begun(store, arrival)
    store.close()
    arrival.grow(draft, 3 * PART)
    draft.abandon()
    assert uploads(settings) == []
