"""Retention: what the rules let go is deleted as by DELETE, and nothing else is."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.access.door import Door
from gateway.audit.trail import AuditTrail
from gateway.config.keeping import LifecycleSettings, RetentionRule
from gateway.context import Caller, Source, of_the_gateway
from gateway.services.delete import DeleteService
from gateway.services.hold import HoldService
from gateway.services.retention import Due, Look, RetentionService, Step
from storage import reconcile
from storage.archive import Archive, Sender
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import StorageUnavailable
from storage.index.arrivals import Conflict, Outcome
from storage.index.changes import Action
from storage.index.postgres import PostgresIndex
from storage.index.questions import Target
from storage.index.relational import RelationalIndex
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Existence, Held
from storage.objects.memory import MemoryObjectStore
from tests.callers import THIS_MACHINE
from tests.instances import data_set, encode, extract, version_of

MAIN, OTHER = ids.tenant("main"), ids.tenant("other")
SOMEBODY = Caller(THIS_MACHINE, Source("DICOMweb", "127.0.0.1"))
ITSELF = of_the_gateway("retention")
ANY_AGE = float("inf")


class Site:
    """An archive, and the services over it."""

    def __init__(self, index: RelationalIndex, folder: Path) -> None:
        self.archive = Archive(MemoryObjectStore(), index, Limits())
        self.folder = folder
        self.trail = AuditTrail(folder / "audit", "test")
        self.delete = DeleteService(self.archive, Door(None, self.trail), 604_800.0)

    def retention(self, *rules: dict[str, Any], **bounds: Any) -> RetentionService:
        made = [RetentionRule.model_validate({"name": f"rule {n}", **each}) for n, each in enumerate(rules, 1)]
        return RetentionService(
            self.archive,
            self.delete,
            self.trail,
            made,
            LifecycleSettings.model_validate({"max_percent": 100, **bounds}),
        )

    def store(self, days_ago: float, tenant: ids.Tenant = MAIN, **values: Any) -> ids.StudyUid:
        body = encode(data_set(**values))
        extracted = extract(body)
        version = version_of(days_ago)
        commit = self.archive.store(tenant, version, extracted, [body], Sender("A", "B"), Conflict.VERSION)
        assert commit.outcome is Outcome.STORED
        return extracted.study_uid

    def is_live(self, study_uid: ids.StudyUid, tenant: ids.Tenant = MAIN) -> bool:
        return self.archive.index.existence(Target(tenant, study_uid), EVERYTHING) is Existence.LIVE

    def audit(self) -> list[dict[str, Any]]:
        lines = [
            line for path in sorted((self.folder / "audit").glob("*.jsonl")) for line in path.read_text().splitlines()
        ]
        return [each for each in map(json.loads, lines) if each["action"] not in ("start", "stop")]


@pytest.fixture(params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "sqlite":
        index: RelationalIndex = SqliteIndex(tmp_path / "index.sqlite", max_age_s=ANY_AGE, fsync=False)
    else:
        index = PostgresIndex(request.getfixturevalue("postgres_schema"), max_age_s=ANY_AGE)
    found = Site(index, tmp_path)
    yield found
    found.trail.close()
    index.close()


def removed(service: RetentionService) -> list[tuple[str, str, str]]:
    """Tenant, study and rule of what a round removes."""
    steps = list(service.round(ITSELF))
    return [(due.tenant, due.study.study_uid, due.kept.rule) for step in steps for due in step.removed]


def due(service: RetentionService, tenant: ids.Tenant = MAIN) -> tuple[list[Due], Look]:
    look = Look()
    return [each for page in service.look(tenant, look) for each in page], look


def test_what_a_rule_let_go_is_deleted_like_anything_else_and_can_be_undone(site: Site, tmp_path: Path) -> None:
    old, young = site.store(400), site.store(300)
    service = site.retention({"keep_days": 365})
    assert removed(service) == [(MAIN, old, "rule 1")]
    assert [site.is_live(study) for study in (old, young)] == [False, True]
    assert removed(service) == []

    (deletion,) = site.delete.deletions(SOMEBODY)
    assert (deletion.study_uid, deletion.reason, deletion.undoable) == (old, "retention: rule 1", True)
    last = site.archive.index.changes(MAIN, EVERYTHING, 0, 100).rows[-1]
    assert (last.action, last.study_uid) == (Action.DELETED, old)
    lines = [line for line in site.audit() if line["action"] == "delete" and line["subject"] == [old]]
    assert [(line["outcome"], line["kind"]) for line in lines] == [("allowed", "gateway"), ("deleted", "gateway")]
    assert all("retention: rule 1" in line["detail"] for line in lines)

    # The record tells it, so an index made anew does.
    with closing(SqliteIndex(tmp_path / "fresh.sqlite", max_age_s=ANY_AGE, fsync=False)) as fresh:
        reconcile.reindex(Archive(site.archive.objects, fresh, Limits()))
        again = DeleteService(Archive(site.archive.objects, fresh, Limits()), site.delete._door, 604_800.0)
        assert [each.reason for each in again.deletions(SOMEBODY)] == ["retention: rule 1"]

    assert site.delete.undo(SOMEBODY, deletion.record) == 1
    assert site.is_live(old)
    removed(service)
    assert reconcile.purge(site.archive, -60.0) == 1
    assert list(site.archive.objects.list(f"main/{old}/")) == []


def test_rules_are_for_tenants_and_modalities_and_the_longest_wins(site: Site) -> None:
    ct, us = site.store(100, Modality="CT"), site.store(100, Modality="US")
    report = site.store(100, Modality="SR")
    mixed = site.store(100, Modality="US", StudyInstanceUID="5.5")
    site.store(99, Modality="CT", StudyInstanceUID="5.5")
    elsewhere = site.store(100, OTHER, Modality="CT")
    service = site.retention(
        {"keep_days": 60, "modalities": ["US", "CT"]},
        {"keep_days": 365, "modalities": ["CT"], "tenants": ["main"]},
    )
    assert sorted(removed(service)) == [("main", us, "rule 1"), ("other", elsewhere, "rule 1")]
    assert [site.is_live(study) for study in (ct, report, mixed)] == [True] * 3
    assert due(service)[1].uncovered == {"SR": 1}
    assert site.retention({"keep_days": 60, "tenants": ["nobody"]}).tenants() == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
def test_days_are_counted_from_the_last_arrival_or_from_a_date_that_can_be_right(site: Site) -> None:
    grown = site.store(400, StudyInstanceUID="6.6", StudyDate="20100101")
    site.store(200, StudyInstanceUID="6.6", StudyDate="20100101")
    undated, future, broken = (site.store(200, StudyDate=text) for text in (None, "20991231", "20103399"))
    dated, settling = site.store(200, StudyDate="20100101"), site.store(20, StudyDate="20100101")
    everything = {grown, undated, future, broken, dated, settling}
    assert removed(site.retention({"keep_days": 365})) == []
    by_date = {"keep_days": 365, "count_from": "study_date"}
    assert {study for _, study, _ in removed(site.retention(by_date))} == {grown, dated}
    assert {study for study in everything if site.is_live(study)} == {undated, future, broken, settling}
    assert {study for _, study, _ in removed(site.retention({**by_date, "keep_days": 190}))} == {
        undated, future, broken,
    }  # fmt: skip
    assert site.is_live(settling)


def test_minors_are_kept_until_they_are_of_an_age(site: Site) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    studied = f"{today.year - 12}0601"
    child = site.store(500, StudyDate=studied, PatientBirthDate=f"{today.year - 20}0101", PatientID="C")
    grown = site.store(500, StudyDate=studied, PatientBirthDate=f"{today.year - 60}0101", PatientID="G")
    unknown = site.store(500, StudyDate=studied, PatientID="U")
    law = {"keep_days": 3653, "count_from": "study_date", "keep_until_age": 28}
    assert [study for _, study, _ in removed(site.retention(law))] == [grown]
    assert [site.is_live(study) for study in (child, unknown)] == [True, True]


def test_what_is_held_stays_and_is_counted(site: Site) -> None:
    held, other = site.store(400), site.store(400, PatientID="T-2")
    HoldService(site.archive, site.trail).add(SOMEBODY, MAIN, Held(held, "", "", "case 7"))
    service = site.retention({"keep_days": 365})
    found, look = due(service)
    assert ([each.study.study_uid for each in found], look.held) == ([other], 1)
    # And one that comes between the look and the deletion.
    HoldService(site.archive, site.trail).add(SOMEBODY, MAIN, Held("", "", "T-2", "case 8"))
    assert not service.remove(ITSELF, found[0])
    assert [site.is_live(study) for study in (held, other)] == [True, True]


def test_what_comes_while_a_study_is_deleted_keeps_all_of_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each moment of the deletion: before its versions are read, before its record, before its rows."""
    for number, moment in enumerate(("everything_of", "versions", "put", "delete")):
        uid = f"7.{number}"
        study = site.store(400, StudyInstanceUID=uid)
        service = site.retention({"keep_days": 365})
        (found,) = due(service)[0]
        owner: Any = site.archive.objects if moment == "put" else site.archive.index
        original: Callable[..., Any] = getattr(owner, moment)

        def interrupted(*args: Any, call: Any = original, on: Any = owner, name: str = moment, **more: Any) -> Any:
            monkeypatch.setattr(on, name, call)
            site.store(0, StudyInstanceUID=uid)  # noqa: B023
            return call(*args, **more)

        monkeypatch.setattr(owner, moment, interrupted)
        if moment == "everything_of":
            assert due(service)[0] == []
        else:
            assert not service.remove(ITSELF, found)
        assert len(site.archive.index.versions(Target(MAIN, study), EVERYTHING)) == 2
    assert site.delete.deletions(SOMEBODY) == []


def test_a_deletion_whose_rows_fail_deletes_nothing_and_the_next_round_does_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = site.store(400)
    service = site.retention({"keep_days": 365})

    def fails(*_: object) -> None:
        raise StorageUnavailable("the index does not answer")

    with monkeypatch.context() as context:
        context.setattr(site.archive.index, "delete", fails)
        with pytest.raises(StorageUnavailable):
            removed(service)
    assert site.is_live(study)
    assert [each for _, each, _ in removed(service)] == [study]


def test_more_than_a_part_of_the_archive_waits_for_a_person(site: Site) -> None:
    old = [site.store(400 + number) for number in range(3)]
    for _ in range(7):
        site.store(10)
    elsewhere = site.store(400, OTHER)
    service = site.retention({"keep_days": 365}, max_percent=29)
    steps = list(service.round(ITSELF))
    assert [(step.tenant, step.waiting) for step in steps if step.waiting] == [(MAIN, 3)]
    assert all(site.is_live(study) for study in old)
    # One study always may go, however small the tenant.
    assert not site.is_live(elsewhere, OTHER)
    (line,) = [line for line in site.audit() if line["outcome"] == "waiting"]
    assert (line["action"], line["tenant"], line["kind"]) == ("retention", "main", "gateway")
    assert len(removed(site.retention({"keep_days": 365}, max_percent=30))) == 3


def test_a_round_goes_in_batches_up_to_its_bound_and_the_next_goes_on(site: Site) -> None:
    for number in range(7):
        site.store(400 + number)
    service = site.retention({"keep_days": 365}, max_studies_per_round=5, batch_studies=2)
    steps: list[Step] = list(service.round(ITSELF))
    assert [len(step.removed) for step in steps if step.removed] == [2, 2, 1]
    assert len(removed(service)) == 2
    assert removed(service) == []


def test_of_two_that_remove_the_same_study_one_does_it(site: Site) -> None:
    site.store(400)
    service = site.retention({"keep_days": 365})
    (found,) = due(service)[0]
    assert service.remove(ITSELF, found)
    assert not service.remove(ITSELF, found)
    assert len(site.delete.deletions(SOMEBODY)) == 1
