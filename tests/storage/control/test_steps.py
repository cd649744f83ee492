"""The contract of procedure steps, on both engines."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.control import relational_steps
from storage.control.postgres import PostgresControl
from storage.control.relational_steps import RelationalSteps
from storage.control.sqlite import SqliteControl
from storage.control.steps import MAX_SCHEDULED_BYTES, Filed, Kind, Sought, Step, Steps, filed
from storage.dicom.identifiers import Tenant
from storage.dicom.json_model import JsonDataSet
from storage.errors import StepTooLarge

TENANT = Tenant("main")


@pytest.fixture(params=["sqlite", "postgres"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Steps, Steps]]:
    """Two processes' views of the same steps."""
    engines: list[SqliteControl | PostgresControl]
    if request.param == "sqlite":
        engines = [SqliteControl(tmp_path / "control.sqlite") for _ in range(2)]
    else:
        settings = request.getfixturevalue("postgres_schema")
        engines = [PostgresControl(settings) for _ in range(2)]
    yield RelationalSteps(engines[0]), RelationalSteps(engines[1])
    for each in engines:
        each.close()


def scheduled(uid: str, day: str = "20261201", time: str = "0900", **attributes: str) -> Step:
    """An item of the worklist; attributes by their tags, ``t00100020="P-1"``."""
    body: JsonDataSet = {tag[1:]: {"vr": "LO", "Value": [text]} for tag, text in attributes.items()}
    item = {"00400002": {"vr": "DA", "Value": [day]}, "00400003": {"vr": "TM", "Value": [time]}}
    body["00400100"] = {"vr": "SQ", "Value": [item]}
    return Step(TENANT, Kind.SCHEDULED, uid, "SCHEDULED", body)


def uids(found: Steps, **sought: object) -> list[str]:
    given = Sought(TENANT, Kind.SCHEDULED)
    return [each.kept.step.uid for each in found.find(dataclasses.replace(given, **sought))]  # type: ignore[arg-type]


def test_what_one_writes_the_other_reads(two: tuple[Steps, Steps]) -> None:
    one, other = two
    step = scheduled("1", t00100010="Müller^Jörg=山田")
    assert one.put((step, None))
    kept = other.get(TENANT, Kind.SCHEDULED, "1")
    assert kept is not None
    assert kept.step == step
    assert other.get(TENANT, Kind.PERFORMED, "1") is None
    assert other.get(Tenant("other"), Kind.SCHEDULED, "1") is None


def test_only_who_saw_the_last_revision_changes_it_and_all_or_none(two: tuple[Steps, Steps]) -> None:
    one, other = two
    assert one.put((scheduled("1"), None), (scheduled("2"), None))
    assert not other.put((scheduled("1"), None))
    first = one.get(TENANT, Kind.SCHEDULED, "1")
    assert first is not None
    begun = dataclasses.replace(first.step, state="STARTED")
    assert other.put((begun, first.revision))
    assert not one.put((scheduled("3"), None), (begun, first.revision))
    assert one.get(TENANT, Kind.SCHEDULED, "3") is None
    assert not one.put((scheduled("4"), 1))
    now = one.get(TENANT, Kind.SCHEDULED, "1")
    assert now is not None
    assert (now.step.state, now.revision > first.revision) == ("STARTED", True)


def test_of_many_who_change_a_step_at_once_each_is_counted(two: tuple[Steps, Steps]) -> None:
    two[0].put((scheduled("1", t00101010="0"), None), (scheduled("2", t00101010="0"), None))

    def count(which: int) -> None:
        # Both in either order: whoever locks them one after the other may wait for the other for ever.
        order = ("1", "2") if which % 2 else ("2", "1")
        while True:
            found = [two[which % 2].get(TENANT, Kind.SCHEDULED, uid) for uid in order]
            changes = []
            for each in found:
                assert each is not None
                number = int(each.step.body["00101010"]["Value"][0])
                changes.append((scheduled(each.step.uid, t00101010=str(number + 1)), each.revision))
            if two[which % 2].put(*changes):
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(20)))
    for uid in ("1", "2"):
        found = two[0].get(TENANT, Kind.SCHEDULED, uid)
        assert found is not None
        assert found.step.body["00101010"]["Value"] == ["20"]


def test_steps_are_found_by_what_they_are_filed_under(two: tuple[Steps, Steps]) -> None:
    one, other = two
    one.put(
        (scheduled("late", "20261203", "1200"), None),
        (scheduled("early", "20261201", "0800", t00100020="P-1", t00080050="A-1", t0020000D="1.2"), None),
        (scheduled("same", "20261201", "0800", t00100020="P-1"), None),
        (dataclasses.replace(scheduled("done", "20261202"), state="COMPLETED"), None),
        (dataclasses.replace(scheduled("theirs"), tenant=Tenant("other")), None),
        (scheduled("undated", ""), None),
    )
    assert uids(other) == ["undated", "early", "same", "done", "late"]
    assert uids(other, patient_id="P-1") == ["early", "same"]
    assert uids(other, accession_number="A-1") == ["early"]
    assert uids(other, study_uid="1.2") == ["early"]
    assert uids(other, states=frozenset(("COMPLETED", "STARTED"))) == ["done"]
    assert uids(other, first="20261202000000.000000") == ["done", "late"]
    assert uids(other, first="20261201080000.000000", last="20261202235959.999999") == ["early", "same", "done"]


def test_pages_follow_one_another_without_a_gap(two: tuple[Steps, Steps]) -> None:
    one, _ = two
    one.put(*((scheduled(f"{number:02}", time="0900" if number % 2 else "1000"), None) for number in range(25)))
    found: list[str] = []
    after = ("", "")
    while page := one.find(Sought(TENANT, Kind.SCHEDULED, after=after, limit=4)):
        found += [each.kept.step.uid for each in page]
        after = page[-1].place
    assert found == sorted(found, key=lambda uid: (int(uid) % 2 == 0, uid))
    assert len(set(found)) == 25


def test_every_step_is_told_once_whatever_its_tenant_and_kind(
    two: tuple[Steps, Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relational_steps, "_PAGE", 3)
    one, other = two
    given = [
        dataclasses.replace(scheduled(uid), tenant=Tenant(tenant), kind=kind)
        for tenant in ("a", "b") for kind in Kind for uid in ("1", "2")
    ]  # fmt: skip
    one.put(*((each, None) for each in given))
    found = [(each.tenant, each.kind, each.uid) for each in other.every()]
    assert sorted(found) == sorted((each.tenant, each.kind, each.uid) for each in given)


def test_what_nobody_has_changed_for_long_goes(two: tuple[Steps, Steps]) -> None:
    one, other = two
    one.put((scheduled("1", "20200101"), None))
    kept = one.get(TENANT, Kind.SCHEDULED, "1")
    assert kept is not None
    assert other.sweep(kept.changed_at_s) == 0
    assert other.sweep(kept.changed_at_s + 1) == 1
    assert one.get(TENANT, Kind.SCHEDULED, "1") is None


def test_what_is_to_come_is_not_forgotten(two: tuple[Steps, Steps]) -> None:
    one, other = two
    one.put((scheduled("far", "29991201"), None), (scheduled("near", "20200101"), None))
    assert other.sweep(time.time() + 60) == 1
    assert uids(one) == ["far"]


def test_a_patients_steps_and_those_of_a_study_are_erased_and_no_others(two: tuple[Steps, Steps]) -> None:
    one, other = two
    performed = {"00100020": {"vr": "LO", "Value": ["P-1"]}}
    one.put(
        (scheduled("1", t00100020="P-1"), None),
        (scheduled("2", t00100020="P-1", t00100021="CLINIC"), None),
        (scheduled("3", t00100020="P-2", t0020000D="1.2"), None),
        (scheduled("4", t00100020="P-2"), None),
        (Step(TENANT, Kind.PERFORMED, "5", "COMPLETED", performed), None),
        (dataclasses.replace(scheduled("6", t00100020="P-1"), tenant=Tenant("other")), None),
    )
    assert other.erase(TENANT, ["1.2"], ("P-1", ""), rehearse=True) == 3
    assert other.erase(TENANT, ["1.2"], ("P-1", "")) == 3
    assert sorted(each.uid for each in one.every()) == ["2", "4", "6"]


@pytest.mark.parametrize(
    "step",
    [
        scheduled("1", t00100010="x" * MAX_SCHEDULED_BYTES),
        scheduled("1", t00100020="x" * 65),
        scheduled("1", t00080050="a\0b"),
        scheduled("1" * 200),
    ],
    ids=["body", "patient", "NUL", "uid"],
)
def test_what_is_beyond_the_bounds_is_not_kept(two: tuple[Steps, Steps], step: Step) -> None:
    with pytest.raises(StepTooLarge):
        two[0].put((step, None))
    assert uids(two[1]) == []


def test_a_performed_step_is_filed_by_the_request_that_it_names() -> None:
    body: JsonDataSet = {
        "00100020": {"vr": "LO", "Value": ["P-1"]},
        "00400244": {"vr": "DA", "Value": ["20261201"]},
        "00400270": {
            "vr": "SQ",
            "Value": [{"00080050": {"vr": "SH", "Value": ["A-1"]}, "0020000D": {"vr": "UI", "Value": ["1.2"]}}],
        },
    }
    found = filed(Step(TENANT, Kind.PERFORMED, "1.3", "IN PROGRESS", body))
    assert found == Filed("P-1", "", "A-1", "1.2", "20261201000000.000000")
