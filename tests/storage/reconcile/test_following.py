"""An index that follows a bucket comes to hold what the index of the archive holds, at whatever moments it looks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage import reconcile
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import ObjectNotFound, ReadOnly, StorageUnavailable
from storage.index.questions import Target
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Existence
from storage.objects.base import ObjectInfo, Segment
from storage.objects.condensed import CondensedObjectStore
from storage.objects.memory import MemoryObjectStore
from storage.objects.read_only import ReadOnlyObjectStore
from tests.storage.reconcile.dump import dump
from tests.storage.test_histories import STEP, STUDIES, TENANT, History, Sent, decoded

CT = "1.2.840.10008.5.1.4.1.1.2"


class Watched(MemoryObjectStore):
    """Objects that somebody looks at between the steps of what the archive does with them."""

    def __init__(self) -> None:
        super().__init__()
        self.look: Callable[[], object] = lambda: None

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        found = super().put(key, body)
        self.look()
        return found

    def delete(self, key: str) -> None:
        super().delete(key)
        self.look()


class Followed:
    """A history and who follows it."""

    def __init__(self, folder: Path) -> None:
        self.history = History(lambda: SqliteIndex(folder / "index.sqlite", max_age_s=float("inf"), fsync=False))
        self.objects = Watched()
        self.history.objects = CondensedObjectStore(self.objects, decoded)
        self.history.archive = Archive(self.history.objects, self.history.index, Limits())
        self.index = SqliteIndex(folder / "following.sqlite", max_age_s=float("inf"), fsync=False)
        objects = CondensedObjectStore(ReadOnlyObjectStore(self.objects), decoded)
        self.archive = Archive(objects, self.index, Limits())
        self.follower = reconcile.Follower(self.archive)

    def do(self, name: str, what: Any) -> None:
        actions: dict[str, Callable[[Any], None]] = {
            "store": lambda what: self.history.store(*what),
            "delete": self.history.delete,
            "delete at once": lambda study: self.history.delete(study, 2),
            "recompress": self.history.recompress,
            "condense": lambda what: self.history.condense(*what),
            "delete while it is recompressed": lambda study: self.history.delete(
                study, meanwhile=self.history.recompress
            ),
            "undo": self.history.undo,
            "purge": self.history.purge,
            "reindex": self.restart,
        }
        actions[name](what)

    def restart(self, _: object) -> None:
        """Follow on with a follower that remembers nothing."""
        self.follower = reconcile.Follower(self.archive)

    def close(self) -> None:
        self.history.index.close()
        self.index.close()


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    found = Followed(tmp_path)
    yield found
    found.close()


def sent(study: str = STUDIES[0], sop: str = "1", patient: str = "A") -> Sent:
    return Sent(study, "1", sop, patient, "one", CT)


@settings(max_examples=120, deadline=None)
@given(st.lists(STEP, min_size=2, max_size=14), st.lists(st.booleans(), max_size=40))
# It hears of the first of two deletions at once, then that the second is undone.
@example(
    [
        ("store", (sent(STUDIES[1]), "CT1")),
        ("store", (sent(STUDIES[0]), "CT1")),
        ("delete at once", STUDIES[1]),
        ("undo", 1),
    ],
    [False, False, False, True],
)
def test_whatever_the_history_and_the_moments_of_looking_the_rows_become_the_same(
    steps: list[tuple[str, Any]], looks: list[bool]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        followed = Followed(Path(folder))
        moments = iter(looks)

        def look() -> None:
            if next(moments, False):
                followed.follower.follow()

        followed.objects.look = look
        for name, what in steps:
            followed.do(name, what)
        for _ in range(2):
            followed.follower.follow()
        assert dump(followed.index) == dump(followed.history.index)
        followed.close()


def existence(index: SqliteIndex, study: str) -> Existence:
    return index.existence(Target(TENANT, ids.study_uid(study)), EVERYTHING)


def test_a_round_without_news_reads_nothing(followed: Followed) -> None:
    followed.history.store(sent())
    followed.history.store(sent(sop="2"))
    followed.history.delete(STUDIES[0])
    first, second = followed.follower.follow(), followed.follower.follow()
    assert (first.indexed, first.records) == (2, 1)
    assert (second.indexed, second.records, second.seen, second.objects) == (0, 0, 0, 3)


def test_an_object_that_the_archive_did_not_keep_is_forgotten(followed: Followed) -> None:
    followed.history.store(sent())
    (info,) = followed.objects.list("")
    followed.follower.follow()
    followed.history.store(sent(STUDIES[1], "2"))
    followed.objects.delete(info.key)
    assert followed.follower.follow().removed == 1
    assert existence(followed.index, STUDIES[0]) is Existence.ABSENT
    assert existence(followed.index, STUDIES[1]) is Existence.LIVE


def test_what_is_beside_the_archive_is_left_alone(followed: Followed) -> None:
    followed.objects.put(".audit/0/1.json", [b"{}"])
    report = followed.follower.follow()
    assert (report.objects, report.damaged) == (0, [])


def test_an_archive_that_is_not_mounted_is_not_taken_for_one_that_was_emptied(followed: Followed) -> None:
    followed.history.store(sent())
    followed.follower.follow()
    followed.archive.objects = ReadOnlyObjectStore(MemoryObjectStore())
    with pytest.raises(StorageUnavailable, match="mounted"):
        followed.follower.follow()
    assert existence(followed.index, STUDIES[0]) is Existence.LIVE


def test_nothing_is_written_by_who_follows(followed: Followed) -> None:
    with pytest.raises(ReadOnly):
        followed.archive.objects.put("main/x", [b""])
    with pytest.raises(ReadOnly):
        followed.archive.objects.delete("main/x")
    followed.archive.objects.ping()
    followed.history.store(sent())
    followed.follower.follow()
    target = Target(TENANT, ids.study_uid(STUDIES[0]))
    with pytest.raises(ReadOnly):
        followed.archive.delete(target, followed.index.versions(target, EVERYTHING))
    assert existence(followed.index, STUDIES[0]) is Existence.LIVE


def test_what_was_purged_before_its_deletion_was_heard_of_is_removed_and_not_missing(followed: Followed) -> None:
    followed.history.store(sent())
    followed.follower.follow()
    followed.history.delete(STUDIES[0])
    reconcile.purge(followed.history.archive, 0.0, time.time() + 60)
    (located,) = followed.index.locate(Target(TENANT, ids.study_uid(STUDIES[0])), EVERYTHING)
    with pytest.raises(ObjectNotFound, match="removed since it was found"):
        followed.archive.read(located, 0, 8)
    followed.follower.follow()
    assert existence(followed.index, STUDIES[0]) is Existence.DELETED
    assert dump(followed.index) == dump(followed.history.index)
