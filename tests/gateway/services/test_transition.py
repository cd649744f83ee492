"""Transitions: what is due moves once, is carried on with after a fault, and nothing else moves."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config.keeping import TransitionRule
from gateway.context import of_the_gateway
from gateway.services import transition
from gateway.services.hold import HoldService
from gateway.services.rules import Look, Uncovered, today
from gateway.services.transition import Due, TransitionService, due_rule
from storage import reconcile
from storage.archive import Archive, Sender
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.dicom.origin import Origin
from storage.errors import ObjectNotFound, StorageUnavailable
from storage.index.arrivals import Conflict, Outcome
from storage.index.questions import Target
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Held
from storage.objects.condensed import condensed_key
from tests.gateway.services.test_retention import ANY_AGE, MAIN, OTHER, SOMEBODY, Site, site
from tests.instances import data_set, encapsulated, encode, extract, text, version_of

__all__ = ["site"]

ITSELF = of_the_gateway("transition")
IA = {"name": "ia", "after_days": 90, "storage_class": "STANDARD_IA"}
COLD = {"name": "cold", "after_days": 365, "storage_class": "GLACIER_IR"}


def rules(*given: dict[str, Any]) -> list[TransitionRule]:
    return [TransitionRule.model_validate(each) for each in given]


@pytest.mark.parametrize(
    ("age_days", "modalities", "expected"),
    [
        (89, ["CT"], None),
        (90, ["CT"], "all"),
        (400, ["CT"], "old"),
        (50, ["US"], "us"),
        (50, ["US", None], None),
        (90, ["US", None], "all"),
        (400, ["US", "MG"], "old"),
    ],
)
def test_the_oldest_rule_that_is_due_wins_once_every_series_is_in_one(
    age_days: int, modalities: list[str | None], expected: str | None
) -> None:
    given = rules(
        {**COLD, "name": "old"},
        {**IA, "name": "us", "modalities": ["US"], "after_days": 30},
        {**IA, "name": "all"},
        {**COLD, "name": "others", "tenants": ["other"], "after_days": 1},
    )
    found = due_rule(given, MAIN, modalities, today() - timedelta(days=age_days), today())
    assert (found.name if isinstance(found, TransitionRule) else found) == expected


def test_a_study_with_a_series_in_no_rule_stays() -> None:
    given = rules({**IA, "modalities": ["CT"]}, {**COLD, "tenants": ["other"]})
    assert due_rule(given, MAIN, ["CT", "SR"], datetime.date(2000, 1, 1), today()) == Uncovered("SR")


class Bucket:
    """Storage classes of the objects of an archive in memory, and what was copied; ``meets`` is called before it is."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.classes: dict[str, str] = {}
        self.asked: list[str] = []
        self.copied: list[str] = []
        self.meets: Callable[[str], None] = lambda _: None

    def move(self, key: str, storage_class: str, stays: Collection[str]) -> bool:
        self.asked.append(key)
        self._archive.objects.head(key)
        if self.classes.get(key, "STANDARD") in (storage_class, *stays):
            return False
        self.meets(key)
        self.classes[key] = storage_class
        self.copied.append(key)
        return True

    def of(self, study: ids.StudyUid) -> list[str]:
        return [self.classes.get(key, "STANDARD") for key in sorted(self.keys(study))]

    def keys(self, study: ids.StudyUid) -> list[str]:
        return [info.key for info in self._archive.objects.list(f"main/{study}/")]


@pytest.fixture
def bucket(site: Site) -> Bucket:
    return Bucket(site.archive)


def service(site: Site, bucket: Bucket, *given: dict[str, Any], later_days: int = 0) -> TransitionService:
    day = today() + timedelta(days=later_days)
    return TransitionService(site.archive, lambda _: bucket, site.trail, rules(*given), day)


def moved(found: TransitionService) -> list[tuple[str, str, str]]:
    """Tenant, study and rule of what a round moves."""
    steps = list(found.round(ITSELF, found.tenants(), Look()))
    return [(s.due.tenant, s.due.study.study_uid, s.due.rule.name) for s in steps if s.due is not None and s.done]


def due(found: TransitionService) -> tuple[list[Due], Look]:
    look = Look()
    return [each for page in found.look(MAIN, look) for each in page], look


def test_what_is_due_moves_once_and_on_when_it_is_older(site: Site, bucket: Bucket) -> None:
    old, young = site.store(100), site.store(10)
    site.store(95, StudyInstanceUID=old, Modality="SR")
    elsewhere = site.store(400, OTHER)
    (found,), look = due(service(site, bucket, IA, COLD))
    assert (found.study.study_uid, found.versions, found.rule.name, look.studies) == (old, 2, "ia", 1)
    assert found.size == sum(info.size for info in site.archive.objects.list(f"main/{old}/"))
    assert moved(service(site, bucket, IA, COLD)) == [(MAIN, old, "ia"), (OTHER, elsewhere, "cold")]
    assert (bucket.of(old), bucket.of(young)) == (["STANDARD_IA"] * 2, ["STANDARD"])
    events = [(e["outcome"], e["tenant"], e["subject"], e["detail"]) for e in site.audit()]
    assert events == [
        ("allowed", MAIN, [old], "rule ia: to STANDARD_IA"),
        ("moved", MAIN, [old], "rule ia: 2 objects to STANDARD_IA"),
        ("allowed", OTHER, [elsewhere], "rule cold: to GLACIER_IR"),
        ("moved", OTHER, [elsewhere], "rule cold: 1 objects to GLACIER_IR"),
    ]

    # Not even looked at again until something is due.
    bucket.asked.clear()
    assert moved(service(site, bucket, IA, COLD)) == bucket.asked == []
    assert moved(service(site, bucket, IA, COLD, later_days=269)) == [(MAIN, young, "ia")]
    assert moved(service(site, bucket, IA, COLD, later_days=270)) == [(MAIN, old, "cold")]
    assert bucket.of(old) == ["GLACIER_IR"] * 2


def test_what_arrives_later_moves_when_the_study_is_due_again(site: Site, bucket: Bucket) -> None:
    study = site.store(400)
    assert moved(service(site, bucket, IA, COLD)) == [(MAIN, study, "cold")]
    site.store(0, StudyInstanceUID=study)
    assert moved(service(site, bucket, IA, COLD, later_days=89)) == []
    bucket.copied.clear()
    assert moved(service(site, bucket, IA, COLD, later_days=90)) == [(MAIN, study, "ia")]
    # What is in the class of a later rule is not fetched back from there.
    assert (sorted(bucket.of(study)), len(bucket.copied)) == (["GLACIER_IR", "STANDARD_IA"], 1)
    assert moved(service(site, bucket, IA, COLD, later_days=365)) == [(MAIN, study, "cold")]
    assert bucket.of(study) == ["GLACIER_IR"] * 2


def test_what_is_held_moves_and_what_is_deleted_does_not(site: Site, bucket: Bucket) -> None:
    held, deleted, partly = site.store(100), site.store(100), site.store(100)
    HoldService(site.archive, site.trail).add(SOMEBODY, MAIN, Held(held, "", "", "case 7"))
    site.delete.delete(SOMEBODY, deleted)
    site.store(100, StudyInstanceUID=partly, SeriesInstanceUID="1.2.9")
    restorable = site.delete.delete(SOMEBODY, partly, ids.series_uid("1.2.9"))
    assert {study for _, study, _ in moved(service(site, bucket, IA))} == {held, partly}
    assert (bucket.of(held), bucket.of(deleted)) == (["STANDARD_IA"], ["STANDARD"])
    assert sorted(bucket.of(partly)) == ["STANDARD", "STANDARD_IA"]
    # Brought back it is a part of the study again.
    assert site.delete.undo(SOMEBODY, restorable) == 1
    assert moved(service(site, bucket, IA)) == [(MAIN, partly, "ia")]
    assert bucket.of(partly) == ["STANDARD_IA"] * 2


def test_after_a_fault_between_two_objects_the_next_round_goes_on(
    site: Site, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transition, "_OBJECTS_PER_STEP", 2)
    study = site.store(100)
    for _ in range(4):
        site.store(100, StudyInstanceUID=study)
    last = max(bucket.keys(study), key=lambda key: ids.parse_object_key(key)[1])

    def fail(key: str) -> None:
        if key == last:
            raise StorageUnavailable("the store does not answer")

    bucket.meets = fail
    found = service(site, bucket, IA)
    steps = list(found.round(ITSELF, found.tenants(), Look()))
    assert [(step.objects, step.failed) for step in steps if step.due] == [
        (2, ""), (2, ""), (0, "the store does not answer"),
    ]  # fmt: skip
    assert sorted(bucket.of(study)) == ["STANDARD"] + ["STANDARD_IA"] * 4
    assert [event["outcome"] for event in site.audit()] == ["allowed"]
    bucket.meets = lambda _: None
    assert moved(service(site, bucket, IA)) == [(MAIN, study, "ia")]
    assert sorted(bucket.copied) == sorted(bucket.keys(study))


def test_one_study_that_fails_keeps_no_other_but_a_store_that_is_down_ends_the_round(
    site: Site, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, *good = [site.store(110 - number) for number in range(4)]

    def fail(key: str) -> None:
        if f"/{bad}/" in key:
            raise StorageUnavailable("no")

    def down() -> None:
        raise StorageUnavailable("down")

    bucket.meets = fail
    assert [study for _, study, _ in moved(service(site, bucket, IA))] == good
    monkeypatch.setattr(site.archive.objects, "ping", down)
    with pytest.raises(StorageUnavailable, match="down"):
        moved(service(site, bucket, COLD | {"after_days": 91}))
    assert [bucket.of(study) for study in good] == [["STANDARD_IA"]] * 3


def test_an_object_that_is_missing_is_told_in_each_round(site: Site, bucket: Bucket) -> None:
    study = site.store(100)
    site.archive.objects.delete(bucket.keys(study)[0])
    for _ in range(2):
        found = service(site, bucket, IA)
        steps = list(found.round(ITSELF, found.tenants(), Look()))
        assert [step.failed for step in steps if step.due] == ["1 objects of a study are not in the bucket"]


def test_what_is_erased_while_it_is_copied_stays_erased(site: Site, bucket: Bucket) -> None:
    """A store that does not look at If-Match makes the object anew."""
    study = site.store(100)
    (key,) = bucket.keys(study)

    def erase(_: str) -> None:
        body = site.archive.objects.get(key)
        reconcile.erase(site.archive, reconcile.find(site.archive, MAIN, study))
        with pytest.raises(ObjectNotFound):
            site.archive.objects.head(key)
        site.archive.objects.put(key, [body])

    bucket.meets = erase
    moved(service(site, bucket, IA))
    assert bucket.copied == [key]
    assert bucket.keys(study) == []


def test_an_index_made_anew_finds_out_without_copying(site: Site, bucket: Bucket, tmp_path: Path) -> None:
    study = site.store(100)
    moved(service(site, bucket, IA))
    with closing(SqliteIndex(tmp_path / "fresh.sqlite", max_age_s=ANY_AGE, fsync=False)) as fresh:
        archive = Archive(site.archive.objects, fresh, Limits())
        reconcile.reindex(archive)
        again = TransitionService(archive, lambda _: bucket, site.trail, rules(IA))
        assert [each.study.study_uid for each in due(again)[0]] == [study]
        assert moved(again) == []
        assert due(again)[0] == []
    assert len(bucket.copied) == 1
    assert [event["outcome"] for event in site.audit()] == ["allowed", "moved", "allowed"]


def test_what_is_in_an_archive_class_by_another_hand_is_left_there(site: Site, bucket: Bucket) -> None:
    study = site.store(100)
    bucket.classes[bucket.keys(study)[0]] = "DEEP_ARCHIVE"
    assert moved(service(site, bucket, IA)) == []
    assert bucket.of(study) == ["DEEP_ARCHIVE"]


def test_what_comes_while_a_study_moves_is_seen_in_the_next_round(site: Site, bucket: Bucket) -> None:
    study = site.store(100)
    bucket.meets = lambda _: (site.store(0, StudyInstanceUID=study), None)[1]
    assert moved(service(site, bucket, IA)) == [(MAIN, study, "ia")]
    bucket.meets = lambda _: None
    assert len(site.archive.index.versions(Target(MAIN, study), EVERYTHING)) == 2
    assert due(service(site, bucket, IA))[0] == []
    assert moved(service(site, bucket, IA, later_days=90)) == [(MAIN, study, "ia")]
    assert bucket.of(study) == ["STANDARD_IA"] * 2


RPCL = "1.2.840.10008.1.2.4.202"


@pytest.mark.parametrize("meanwhile", ["after it moved", "while it moves", "after it was found"])
def test_what_is_recompressed_once_a_study_is_due_follows_it(site: Site, bucket: Bucket, meanwhile: str) -> None:
    """It is of the age of its source, and no change of the study."""
    base = encode(data_set(PixelData=None))
    sent, made = base + text(0x7FE00010, "OB", "aa"), base + encapsulated(b"\xff\x4f\xff\x51")
    source, extracted = version_of(100), extract(sent)
    site.archive.store(MAIN, source, extracted, [sent], Sender("A", "B"), Conflict.VERSION)
    study = extracted.study_uid

    def recompress(_: str = "") -> None:
        bucket.meets = lambda _: None
        origin = Origin(source, "ab" * 32, extracted.transfer_syntax_uid, "cd" * 32)
        commit = site.archive.store(
            MAIN, ids.version_beside(source), extract(made, RPCL), [made], Sender("A", "B"), Conflict.VERSION,
            made_of=origin,
        )  # fmt: skip
        assert commit.outcome is Outcome.ALTERNATIVE

    found = service(site, bucket, IA)
    if meanwhile == "after it was found":
        (known,), _ = due(found)
        recompress()
        list(found.move(ITSELF, known))
    else:
        if meanwhile == "while it moves":
            bucket.meets = recompress
        assert moved(found) == [(MAIN, study, "ia")]
        if meanwhile == "after it moved":
            recompress()
    assert sorted(bucket.of(study)) == ["STANDARD", "STANDARD_IA"]
    assert moved(found) == [(MAIN, study, "ia")]
    assert bucket.of(study) == ["STANDARD_IA"] * 2
    bucket.asked.clear()
    assert moved(found) == bucket.asked == []


def test_what_is_kept_condensed_moves_under_its_own_key(site: Site, bucket: Bucket) -> None:
    study = site.store(100)
    site.store(100, StudyInstanceUID=study)
    plain, condensed = bucket.keys(study)
    as_it_was = bucket.move

    def move(key: str, storage_class: str, stays: Collection[str] = ()) -> bool:
        if key == condensed:
            raise ObjectNotFound(key)
        return as_it_was(condensed if key == condensed_key(condensed) else key, storage_class, stays)

    bucket.move = move  # type: ignore[method-assign]
    assert moved(service(site, bucket, IA)) == [(MAIN, study, "ia")]
    assert sorted(bucket.copied) == [plain, condensed]
