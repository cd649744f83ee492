"""Modality Performed Procedure Steps: their rules, and what becomes of what was scheduled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association

from gateway import assembly
from gateway.access.door import Door
from gateway.assembly import Core
from gateway.commands.administration import administrator
from gateway.dimse.server import DimseServer
from gateway.services.performed import PerformedService
from storage.control.relational_steps import RelationalSteps
from storage.dicom.identifiers import Tenant
from tests import instances, steps
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import Serve
from tests.gateway.dimse.test_worklist import MAIN, ask, patients

STEP, RETRIEVE = "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.3.1.2.3.4"


@pytest.fixture
def modality(server: DimseServer) -> Iterator[Association]:
    """An association of a modality."""
    scu = AE(ae_title="CT1")
    for each in (STEP, RETRIEVE):
        scu.add_requested_context(each)
    listening = [(evt.EVT_DIMSE_RECV, lambda event: _answers.append(event.message.command_set))]
    association = scu.associate(*server.address, ae_title="GATEWAY", evt_handlers=listening)
    assert association.is_established
    yield association
    association.release()
    _answers.clear()


_MR_ONLY = """
[[principal]]
name = "mr"
kind = "ae"
ae_title = "*"
actions = ["perform"]
scope = { Modality = ["MR"] }
"""
_answers: list[Dataset] = []
"""Command sets as they came: pynetdicom does not give all of them to who asks."""


@pytest.fixture
def order(core: Core) -> Dataset:
    """What is scheduled."""
    found = steps.scheduled()
    core.worklist.schedule(administrator(), MAIN, steps.body(found))
    return found


def create(modality: Association, found: Dataset, uid: str | None = None) -> Dataset:
    modality.send_n_create(found, STEP, uid or instances.uid())
    return _answers[-1]


def change(modality: Association, found: Dataset, uid: str) -> Dataset:
    return modality.send_n_set(found, STEP, uid)[0]


def read(modality: Association, uid: str, *tags: int) -> Dataset:
    status, found = modality.send_n_get(list(tags), RETRIEVE, uid)
    assert status.Status == 0x0000
    assert found is not None
    return found


def request(**attributes: str) -> Dataset:
    """An item of the Scheduled Step Attributes Sequence."""
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def states(core: Core) -> list[str]:
    decision = core.worklist.enter(administrator(), MAIN, ())
    return [each.state for each in core.worklist.find(decision, (), states=frozenset())]


@pytest.mark.parametrize(("end", "over"), [("COMPLETED", "COMPLETED"), ("DISCONTINUED", "DISCONTINUED")])
@claim("I1", "I12", "I13")
def test_what_is_performed_takes_what_was_scheduled_with_it(
    core: Core, server: DimseServer, modality: Association, order: Dataset, end: str, over: str
) -> None:
    uid = instances.uid()
    assert create(modality, steps.performed(order), uid).Status == 0x0000
    _, [told] = ask(server)
    assert told.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus == "STARTED"
    changed = Dataset()
    changed.PerformedProcedureStepDescription = "Kopf, nativ"
    assert change(modality, changed, uid).Status == 0x0000
    assert states(core) == ["STARTED"]
    assert change(modality, steps.ended(end), uid).Status == 0x0000
    assert patients(ask(server)) == []
    assert states(core) == [over]
    found = read(modality, uid)
    assert (found.PerformedProcedureStepStatus, found.PerformedProcedureStepDescription) == (end, "Kopf, nativ")
    assert found.PatientID == "W-1"
    assert len(found.PerformedSeriesSequence) == 1
    assert set(read(modality, uid, 0x00400252, 0x00100020).keys()) == {0x00400252, 0x00100020}


def test_only_the_step_that_is_named_follows(core: Core, modality: Association, order: Dataset) -> None:
    second = steps.scheduled(StudyInstanceUID=order.StudyInstanceUID, ScheduledProcedureStepID="SPS-2")
    core.worklist.schedule(administrator(), MAIN, steps.body(second))
    assert create(modality, steps.performed(order)).Status == 0x0000
    assert states(core) == ["STARTED", "SCHEDULED"]


@claim("I14")
def test_what_was_not_scheduled_is_performed_too(modality: Association) -> None:
    uid = instances.uid()
    assert create(modality, steps.performed(steps.scheduled()), uid).Status == 0x0000
    assert change(modality, steps.ended(), uid).Status == 0x0000


@claim("I8")
def test_who_names_no_uid_is_given_one(modality: Association, order: Dataset) -> None:
    modality.send_n_create(steps.performed(order), STEP, None)
    assert _answers[-1].Status == 0x0000
    assert read(modality, _answers[-1].AffectedSOPInstanceUID).PatientID == "W-1"


@claim("I11")
def test_a_step_that_is_over_is_not_changed(modality: Association, order: Dataset) -> None:
    uid = instances.uid()
    create(modality, steps.performed(order), uid)
    change(modality, steps.ended(), uid)
    refused = change(modality, steps.ended("DISCONTINUED"), uid)
    assert (refused.Status, refused.ErrorID) == (0x0110, 0xA710)
    assert read(modality, uid).PerformedProcedureStepStatus == "COMPLETED"


def test_a_uid_is_used_once(modality: Association, order: Dataset) -> None:
    uid = instances.uid()
    create(modality, steps.performed(order), uid)
    assert create(modality, steps.performed(order), uid).Status == 0x0111
    assert change(modality, steps.ended(), instances.uid()).Status == 0x0112


@pytest.mark.parametrize(
    ("attributes", "status", "at_fault"),
    [
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106, 0x00400252),
        ({"PerformedProcedureStepStatus": ""}, 0x0121, 0x00400252),
        ({"ScheduledStepAttributesSequence": []}, 0x0121, 0x00400270),
        ({"ScheduledStepAttributesSequence": [Dataset()]}, 0x0121, 0x00400270),
        ({"ScheduledStepAttributesSequence": [request(StudyInstanceUID="1.2.3")] * 101}, 0x0106, 0x00400270),
        ({"Modality": ""}, 0x0121, 0x00080060),
        ({"Modality": None}, 0x0120, 0x00080060),
        ({"PerformedStationAETitle": ""}, 0x0121, 0x00400241),
    ],
)
@claim("I7")
def test_what_a_step_cannot_begin_without(
    core: Core, modality: Association, order: Dataset, attributes: dict[str, Any], status: int, at_fault: int
) -> None:
    given = {keyword: value for keyword, value in attributes.items() if value is not None}
    found = steps.performed(order, **given)
    for keyword in attributes.keys() - given.keys():
        delattr(found, keyword)
    answer = create(modality, found)
    assert (answer.Status, answer.AttributeIdentifierList) == (status, at_fault)
    assert states(core) == ["SCHEDULED"]


@pytest.mark.parametrize(
    ("attributes", "status", "at_fault"),
    [
        ({"PatientID": "W-9"}, 0x0106, 0x00100020),
        ({"PerformedProcedureStepStatus": "SCHEDULED"}, 0x0106, 0x00400252),
        ({"PerformedProcedureStepEndDate": ""}, 0x0121, 0x00400250),
        ({"PerformedSeriesSequence": []}, 0x0121, 0x00400340),
    ],
)
@claim("I9", "I10")
def test_what_a_step_cannot_be_made_of(
    core: Core, modality: Association, order: Dataset, attributes: dict[str, Any], status: int, at_fault: int
) -> None:
    uid = instances.uid()
    create(modality, steps.performed(order), uid)
    changed = steps.ended()
    for keyword, value in attributes.items():
        setattr(changed, keyword, value)
    answer = change(modality, changed, uid)
    assert (answer.Status, answer.AttributeIdentifierList) == (status, at_fault)
    assert read(modality, uid).PerformedProcedureStepStatus == "IN PROGRESS"
    assert states(core) == ["STARTED"]


@claim("I10")
def test_who_repeats_what_may_not_change_is_not_refused(modality: Association, order: Dataset) -> None:
    uid = instances.uid()
    create(modality, steps.performed(order), uid)
    changed = steps.ended()
    changed.PatientID, changed.Modality = order.PatientID, "CT"
    assert change(modality, changed, uid).Status == 0x0000


@claim("I9")
def test_a_discontinued_step_needs_no_series(modality: Association, order: Dataset) -> None:
    uid = instances.uid()
    create(modality, steps.performed(order), uid)
    changed = steps.ended("DISCONTINUED")
    changed.PerformedSeriesSequence = []
    assert change(modality, changed, uid).Status == 0x0000


@claim("I15")
def test_who_chose_a_wrong_entry_has_not_begun_it(core: Core, modality: Association, order: Dataset) -> None:
    uid, reason = instances.uid(), Dataset()
    create(modality, steps.performed(order), uid)
    reason.CodeValue, reason.CodingSchemeDesignator = "110514", "DCM"
    reason.CodeMeaning = "Incorrect worklist entry selected"
    changed = steps.ended("DISCONTINUED")
    changed.PerformedProcedureStepDiscontinuationReasonCodeSequence = [reason]
    assert change(modality, changed, uid).Status == 0x0000
    assert states(core) == ["SCHEDULED"]


def test_what_one_report_completed_another_does_not_take_back(
    core: Core, modality: Association, order: Dataset
) -> None:
    first, second = instances.uid(), instances.uid()
    for uid in (first, second):
        assert create(modality, steps.performed(order), uid).Status == 0x0000
    assert change(modality, steps.ended(), first).Status == 0x0000
    assert change(modality, steps.ended("DISCONTINUED"), second).Status == 0x0000
    assert states(core) == ["COMPLETED"]


def test_of_a_group_of_procedures_those_that_are_referenced_follow(
    core: Core, modality: Association, order: Dataset
) -> None:
    found = steps.performed(order)
    [item] = found.ScheduledStepAttributesSequence
    referenced = request(ReferencedSOPInstanceUID=item.StudyInstanceUID)
    item.StudyInstanceUID, item.ReferencedStudySequence = instances.uid(), [referenced]
    assert create(modality, found).Status == 0x0000
    assert states(core) == ["STARTED"]


@claim("I16")
def test_who_may_report_of_some_changes_only_these(core: Core, serve: Serve, order: Dataset, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(_MR_ONLY)
    door = Door(tmp_path / "policy.toml", core.trail)
    with closing(assembly.control(core.settings)) as kept:
        performed = PerformedService(RelationalSteps(kept), door, core.room)
        with serve(dataclasses.replace(core, door=door, performed=performed)) as server:
            scu = AE(ae_title="MR1")
            scu.add_requested_context(STEP)
            association = scu.associate(*server.address, ae_title="GATEWAY")
            assert association.send_n_create(steps.performed(order), STEP, instances.uid())[0].Status == 0x0124
            # It says that it is an MR, of the study of a CT.
            lying = steps.performed(order, Modality="MR")
            assert association.send_n_create(lying, STEP, instances.uid())[0].Status == 0x0000
            association.release()
    assert states(core) == ["SCHEDULED"]


def test_another_tenants_steps_are_not_there(core: Core, modality: Association) -> None:
    theirs = steps.scheduled()
    core.worklist.schedule(administrator(), Tenant("other"), steps.body(theirs))
    assert create(modality, steps.performed(theirs)).Status == 0x0000
    decision = core.worklist.enter(administrator(), Tenant("other"), ())
    assert [each.state for each in core.worklist.find(decision, ())] == ["SCHEDULED"]
