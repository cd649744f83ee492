"""The Modality Worklist: matching, what comes back, and what becomes of what was performed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from gateway import assembly
from gateway.access.door import Door
from gateway.assembly import Core
from gateway.commands.administration import administrator
from gateway.context import Caller, Source
from gateway.dimse.server import DimseServer
from gateway.errors import InvalidRequest
from gateway.services import scheduled_step
from gateway.services.worklist import WorklistService
from storage.control.relational_steps import RelationalSteps
from storage.dicom.identifiers import SopUid, Tenant
from tests import steps
from tests.callers import THIS_MACHINE
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import Serve

WORKLIST = "1.2.840.10008.5.1.4.31"
MAIN = Tenant("main")

Schedule = Callable[..., Dataset]


@pytest.fixture
def schedule(core: Core) -> Schedule:
    """Schedules a step."""

    def scheduled(**attributes: Any) -> Dataset:
        found = steps.scheduled(**attributes)
        core.worklist.schedule(administrator(), MAIN, steps.body(found))
        return found

    return scheduled


def ask(
    server: DimseServer, keys: Dataset | None = None, *, calling: str = "CT1", **step: str
) -> tuple[int, list[Dataset]]:
    """Ask for the worklist by keys, and keys of the step; the last status, and what came."""
    asked = keys or Dataset()
    item = Dataset()
    for keyword in ("ScheduledProcedureStepID", "ScheduledProcedureStepStatus", *step):
        setattr(item, keyword, step.get(keyword, ""))
    asked.ScheduledProcedureStepSequence = [item]
    for keyword in ("PatientName", "PatientID", "AccessionNumber"):
        if keyword not in asked:
            setattr(asked, keyword, "")
    scu = AE(ae_title=calling)
    scu.add_requested_context(WORKLIST)
    association = scu.associate(*server.address, ae_title="GATEWAY")
    assert association.is_established
    found = list(association.send_c_find(asked, WORKLIST))
    association.release()
    assert all(status.Status == 0xFF00 for status, _ in found[:-1])
    return found[-1][0].Status, [identifier for _, identifier in found if identifier is not None]


def patients(answer: tuple[int, list[Dataset]]) -> list[str]:
    assert answer[0] == 0x0000
    return [each.PatientID for each in answer[1]]


def keys(**attributes: Any) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


@claim("I4")
def test_a_station_is_told_of_its_day_with_all_that_it_asks_for(server: DimseServer, schedule: Schedule) -> None:
    code = keys(CodeValue="CT-H", CodingSchemeDesignator="L", CodeMeaning="Head")
    order = schedule(
        PatientName="Müller^Jörg=山田^太郎", RequestedProcedureCodeSequence=[code], ScheduledProtocolCodeSequence=[code]
    )
    schedule(PatientID="W-2", AccessionNumber="A-2", ScheduledStationAETitle="MR1", Modality="MR")
    schedule(PatientID="W-3", AccessionNumber="A-3", ScheduledProcedureStepStartDate="20261202")
    asked = keys(
        SpecificCharacterSet="ISO_IR 192", StudyInstanceUID="", PatientBirthDate="", RequestedProcedureID="",
        RequestedProcedureCodeSequence=[], PregnancyStatus=None,
    )  # fmt: skip
    status, [found] = ask(
        server,
        asked,
        ScheduledStationAETitle="CT1",
        ScheduledProcedureStepStartDate="20261201",
        ScheduledProcedureStepStartTime="",
        Modality="CT",
        ScheduledProcedureStepDescription="",
    )
    assert status == 0x0000
    assert found.PatientName == "Müller^Jörg=山田^太郎"
    assert (found.StudyInstanceUID, found.PatientBirthDate) == (order.StudyInstanceUID, "19700102")
    assert found.RequestedProcedureCodeSequence[0].CodeMeaning == "Head"
    assert found.PregnancyStatus is None
    [item] = found.ScheduledProcedureStepSequence
    assert (item.ScheduledStationAETitle, item.Modality) == ("CT1", "CT")
    assert (item.ScheduledProcedureStepID, item.ScheduledProcedureStepStatus) == ("SPS-1", "SCHEDULED")
    assert "ScheduledProtocolCodeSequence" not in item
    assert "QueryRetrieveLevel" not in found
    assert "RetrieveAETitle" not in found


@claim("I4")
def test_a_sequence_without_keys_comes_back_whole(server: DimseServer, schedule: Schedule) -> None:
    schedule()
    asked = keys(PatientID="", ScheduledProcedureStepSequence=[])
    scu = AE(ae_title="CT1")
    scu.add_requested_context(WORKLIST)
    association = scu.associate(*server.address, ae_title="GATEWAY")
    (_, found), _ = list(association.send_c_find(asked, WORKLIST))
    association.release()
    assert found is not None
    [item] = found.ScheduledProcedureStepSequence
    assert (item.Modality, item.ScheduledProcedureStepDescription) == ("CT", "Head")


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize(
    ("asked", "step", "expected"),
    [
        ({"PatientName": "gray*"}, {}, ["W-1"]),
        ({"PatientName": "GRAY^DORIAN"}, {}, ["W-1"]),
        ({"PatientID": "W-2"}, {}, ["W-2"]),
        ({"PatientID": "W-?"}, {}, ["W-1", "W-2", "W-3"]),
        ({"AccessionNumber": "A-3"}, {}, ["W-3"]),
        ({"RequestedProcedureID": "RP-2"}, {}, ["W-2"]),
        ({}, {"ScheduledStationAETitle": "CT2"}, ["W-2"]),
        ({}, {"ScheduledStationAETitle": "CT*"}, ["W-1", "W-2", "W-3"]),
        ({}, {"Modality": "CT"}, ["W-1", "W-3"]),
        ({}, {"ScheduledProcedureStepStartDate": "20261201"}, ["W-1"]),
        ({}, {"ScheduledProcedureStepStartDate": "20261202-"}, ["W-2", "W-3"]),
        ({}, {"ScheduledProcedureStepStartDate": "-20261202"}, ["W-1", "W-2"]),
        ({}, {"ScheduledProcedureStepStartDate": "*"}, ["W-1", "W-2", "W-3"]),
        # Not from seven to ten on each of the days (PS3.4 Table K.6-1).
        (
            {},
            {"ScheduledProcedureStepStartDate": "20261201-20261203", "ScheduledProcedureStepStartTime": "0900-1000"},
            ["W-1", "W-2", "W-3"],
        ),
        (
            {},
            {"ScheduledProcedureStepStartDate": "20261201-20261203", "ScheduledProcedureStepStartTime": "1000-0659"},
            ["W-2"],
        ),
        ({}, {"ScheduledProcedureStepStartTime": "0600-0859"}, ["W-3"]),
        ({}, {"ScheduledProcedureStepStartDate": "20261202", "ScheduledProcedureStepStartTime": "1200-"}, ["W-2"]),
        ({}, {"ScheduledPerformingPhysicianName": "house*"}, ["W-2"]),
        ({}, {"ScheduledProcedureStepStatus": "READY"}, ["W-2"]),
        ({"PatientID": "nobody"}, {}, []),
    ],
)
@claim("I2", "I3")
def test_every_key_matches_as_the_standard_says(
    server: DimseServer, schedule: Schedule, asked: dict[str, str], step: dict[str, str], expected: list[str]
) -> None:
    schedule()
    schedule(
        PatientID="W-2", PatientName="Shepherd^Jack", AccessionNumber="A-2", RequestedProcedureID="RP-2",
        Modality="MR", ScheduledStationAETitle=["MR1", "CT2"], ScheduledPerformingPhysicianName="House^Gregory",
        ScheduledProcedureStepStartDate="20261202", ScheduledProcedureStepStartTime="1300",
        ScheduledProcedureStepStatus="READY",
    )  # fmt: skip
    schedule(
        PatientID="W-3", PatientName="Grey^Meredith", AccessionNumber="A-3", RequestedProcedureID="RP-3",
        ScheduledProcedureStepStartDate="20261203", ScheduledProcedureStepStartTime="0700",
    )  # fmt: skip
    assert patients(ask(server, keys(**asked), **step)) == expected


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_key_that_is_no_value_is_an_error_that_names_it(server: DimseServer, schedule: Schedule) -> None:
    schedule()
    status, found = ask(server, ScheduledProcedureStepStartDate="tomorrow")
    assert (status, found) == (0xA900, [])


def test_an_order_that_comes_again_changes_its_step_and_no_other(server: DimseServer, schedule: Schedule) -> None:
    first = schedule()
    schedule(ScheduledProcedureStepID="SPS-2", ScheduledProcedureStepStartTime="1100")
    schedule(StudyInstanceUID=first.StudyInstanceUID, ScheduledProcedureStepStartTime="1000")
    _, found = ask(server, keys(StudyInstanceUID=""), ScheduledProcedureStepStartTime="")
    told = [each.ScheduledProcedureStepSequence[0] for each in found]
    assert [(each.ScheduledProcedureStepID, each.ScheduledProcedureStepStartTime) for each in told] == [
        ("SPS-1", "1000"),
        ("SPS-2", "1100"),
    ]


@claim("I1")
def test_what_is_cancelled_is_not_told_any_more(core: Core, server: DimseServer, schedule: Schedule) -> None:
    order = schedule()
    core.worklist.cancel(administrator(), MAIN, f"{order.StudyInstanceUID} SPS-1")
    assert patients(ask(server)) == []
    schedule(StudyInstanceUID=order.StudyInstanceUID)
    assert patients(ask(server)) == ["W-1"]


def test_two_patients_with_one_accession_number_have_a_step_each(server: DimseServer, schedule: Schedule) -> None:
    first = schedule()
    second = schedule(PatientID="W-2", PatientName="Other^One")
    assert sorted(patients(ask(server))) == ["W-1", "W-2"]
    assert first.StudyInstanceUID != second.StudyInstanceUID


def test_a_corrected_accession_number_changes_the_step_of_its_study(server: DimseServer, schedule: Schedule) -> None:
    order = schedule()
    schedule(StudyInstanceUID=order.StudyInstanceUID, AccessionNumber="A-9")
    _, [found] = ask(server)
    assert found.AccessionNumber == "A-9"


def test_an_order_that_may_mean_several_steps_has_to_name_one(core: Core, schedule: Schedule) -> None:
    order = schedule()
    schedule(StudyInstanceUID=order.StudyInstanceUID, ScheduledProcedureStepID="SPS-2")
    again = steps.scheduled(StudyInstanceUID=order.StudyInstanceUID, ScheduledProcedureStepID="")
    with pytest.raises(InvalidRequest, match="several steps"):
        core.worklist.schedule(administrator(), MAIN, steps.body(again))


def test_what_was_discontinued_is_ordered_again_and_what_hangs_is_cancelled(
    core: Core, server: DimseServer, schedule: Schedule
) -> None:
    order = schedule()
    uid = f"{order.StudyInstanceUID} SPS-1"
    decision = core.performed.enter(Caller(THIS_MACHINE, Source("dimse", "127.0.0.1")), SopUid("1.2.3"))
    core.performed.create(decision, SopUid("1.2.3"), steps.body(steps.performed(order)))
    core.worklist.cancel(administrator(), MAIN, uid)
    assert patients(ask(server)) == []
    core.performed.change(decision, SopUid("1.2.3"), steps.body(steps.ended("DISCONTINUED")))
    schedule(StudyInstanceUID=order.StudyInstanceUID)
    assert patients(ask(server)) == ["W-1"]


@claim("I17")
def test_what_a_request_says_of_itself_is_not_matched(server: DimseServer, schedule: Schedule) -> None:
    schedule()
    asked = keys(TimezoneOffsetFromUTC="+0100", QueryRetrieveLevel="STUDY", SpecificCharacterSet="ISO_IR 100")
    assert patients(ask(server, asked)) == ["W-1"]


def test_many_steps_are_told_page_after_page(
    core: Core, server: DimseServer, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduled_step, "_PAGE", 3)
    for number in range(8):
        schedule(
            AccessionNumber=f"A-{number}", PatientID=f"W-{number}", ScheduledProcedureStepStartTime=f"0{number // 2}00"
        )
    assert sorted(patients(ask(server))) == [f"W-{number}" for number in range(8)]


def test_another_tenant_has_a_worklist_of_its_own(core: Core, server: DimseServer) -> None:
    core.worklist.schedule(administrator(), Tenant("other"), steps.body(steps.scheduled()))
    assert patients(ask(server)) == []


@claim("I5")
def test_more_matches_than_are_given_are_refused_after_those(core: Core, serve: Serve, schedule: Schedule) -> None:
    settings = core.settings.model_copy(update={"dimse": core.settings.dimse.model_copy(update={"max_matches": 2})})
    for number in range(3):
        schedule(AccessionNumber=f"A-{number}", PatientID=f"W-{number}")
    with serve(dataclasses.replace(core, settings=settings)) as server:
        status, found = ask(server)
    assert (status, len(found)) == (0xA700, 2)


_POLICY = """
[[principal]]
name = "ct"
kind = "ae"
ae_title = "CT1"
actions = ["worklist"]
scope = { Modality = ["CT"], PatientID = ["W-*"] }

[[principal]]
name = "others"
kind = "ae"
ae_title = "*"
actions = ["echo", "store"]
"""


@claim("I6")
def test_who_may_is_told_of_what_is_within_the_scope(
    core: Core, serve: Serve, schedule: Schedule, tmp_path: Path
) -> None:
    schedule()
    schedule(AccessionNumber="A-2", PatientID="W-2", Modality="MR")
    schedule(AccessionNumber="A-3", PatientID="X-3")
    (tmp_path / "policy.toml").write_text(_POLICY)
    door = Door(tmp_path / "policy.toml", core.trail)
    with (
        closing(assembly.control(core.settings)) as kept,
        serve(dataclasses.replace(core, door=door, worklist=WorklistService(RelationalSteps(kept), door))) as server,
    ):
        assert patients(ask(server, keys(PatientName="gray*"))) == ["W-1"]
        assert ask(server, calling="WS")[0] == 0x0124
    core.trail.close()
    written = "".join(path.read_text() for path in assembly.audit_directory(core.settings).glob("*.jsonl"))
    lines = [json.loads(line) for line in written.splitlines() if '"worklist"' in line and '"ct"' in line]
    assert lines[0]["outcome"] == "allowed"
    assert sum(each.get("matches", 0) for each in lines) == 1
    assert "gray" not in written.lower()
