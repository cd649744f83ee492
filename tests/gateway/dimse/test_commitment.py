"""Storage commitment, push model: what is asked, what is promised, and how its result comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.serving import DestinationSettings
from gateway.dimse import commitment
from gateway.dimse.requesting import Address
from gateway.dimse.server import DimseServer
from storage.dicom import identifiers as ids
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import Serve, eventually
from tests.gateway.dimse.test_retrieval import put

PUSH, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"


@dataclass
class Modality:
    """A peer that hears reports, on its own association or on one that the gateway asks it for."""

    answer: int = 0
    port: int = 0
    heard: list[tuple[int, Dataset]] = field(default_factory=list)

    def report(self, event: evt.Event) -> tuple[int, None]:
        self.heard.append((event.request.EventTypeID, event.event_information))
        return self.answer, None


@pytest.fixture
def modality() -> Iterator[Modality]:
    heard = Modality()
    application_entity = AE(ae_title="CT1")
    application_entity.add_supported_context(PUSH, scu_role=False, scp_role=True)
    server = application_entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, heard.report)]
    )
    heard.port = server.server_address[1]
    yield heard
    server.shutdown()


@pytest.fixture
def settings(settings: Settings, modality: Modality) -> Settings:
    destinations = {
        "CT1": DestinationSettings(host="127.0.0.1", port=modality.port),
        "GONE": DestinationSettings(host="127.0.0.1", port=1),
    }
    return settings.model_copy(update={"dimse": settings.dimse.model_copy(update={"destinations": destinations})})


def information(*references: tuple[str, str], transaction: str | None = None) -> Dataset:
    found = Dataset()
    found.TransactionUID = transaction or instances.uid()
    items = []
    for sop_class_uid, sop_uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_uid
        items.append(item)
    found.ReferencedSOPSequence = items
    return found


def ask(
    server: DimseServer, wanted: Dataset, modality: Modality, *, calling: str = "CT1", stays: bool = True, **about: Any
) -> Dataset:
    """Ask; whoever stays hears of it on the same association."""
    application_entity = AE(ae_title=calling)
    application_entity.add_requested_context(PUSH)
    answered: list[bytes] = []
    association = application_entity.associate(
        *server.address,
        ae_title="GATEWAY",
        evt_handlers=[
            (evt.EVT_N_EVENT_REPORT, modality.report),
            (evt.EVT_PDU_SENT, lambda event: answered.extend(_reports_answered(event.pdu))),
        ],
    )
    assert association.is_established
    action, instance = about.get("action", 1), about.get("instance", WELL_KNOWN)
    status, _ = association.send_n_action(wanted, action, PUSH, instance)
    if stays and status.Status == 0:
        # pynetdicom serves the report on a thread of its own, whose response a release must not overtake.
        eventually(lambda: bool(answered))
    association.release()
    return status


def _reports_answered(sent: Any) -> list[bytes]:
    """The fragments of a PDU in which an N-EVENT-REPORT-RSP begins, by its Command Field (0000,0100)."""
    fragments = [each.presentation_data_value for each in getattr(sent, "presentation_data_value_items", ())]
    return [each for each in fragments if b"\0\0\0\1\2\0\0\0\0\x81" in each]


def stored(core: Core, count: int = 2) -> list[tuple[str, str]]:
    found = [put(core, instances.data_set()) for _ in range(count)]
    return [(each.SOPClassUID, each.SOPInstanceUID) for each in found]


def uids(sequence: Any) -> set[str]:
    return {item.ReferencedSOPInstanceUID for item in sequence}


@claim("Z1", "Z5")
def test_what_is_kept_is_committed_on_the_same_association(server: DimseServer, core: Core, modality: Modality) -> None:
    wanted = information(*(kept := stored(core)))
    assert ask(server, wanted, modality).Status == 0x0000
    ((event_type, report),) = modality.heard
    assert event_type == 1
    assert report.TransactionUID == wanted.TransactionUID
    assert report.RetrieveAETitle == "GATEWAY"
    assert uids(report.ReferencedSOPSequence) == {uid for _, uid in kept}
    assert "FailedSOPSequence" not in report
    eventually(lambda: server.active == 0)
    commitment.tell_all(core)
    assert len(modality.heard) == 1, "told once"


@claim("Z2")
def test_what_is_not_there_is_of_another_class_or_damaged_is_not(
    server: DimseServer, core: Core, modality: Modality
) -> None:
    (kept, of_class, damaged) = stored(core, 3)
    key = next(info.key for info in core.archive.objects.list("") if damaged[1] in info.key)
    path = next(core.settings.storage.directory.rglob(key.rpartition("/")[2]))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    absent = (instances.CT, instances.uid())
    wanted = information(kept, ("1.2.840.10008.5.1.4.1.1.4", of_class[1]), damaged, absent)
    assert ask(server, wanted, modality).Status == 0x0000
    ((event_type, report),) = modality.heard
    assert event_type == 2
    assert uids(report.ReferencedSOPSequence) == {kept[1]}
    reasons = {item.ReferencedSOPInstanceUID: item.FailureReason for item in report.FailedSOPSequence}
    assert reasons == {of_class[1]: 0x0119, damaged[1]: 0x0110, absent[1]: 0x0112}


def left(core: Core, uid: str) -> bool:
    """Whether the peer still has to be told of a transaction."""
    ((_, _, found),) = [each for each in core.archive.index.commitments() if each[1] == uid]
    return bool(found.tell)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background work tells of a result as soon as it is there."""
    monkeypatch.setattr("gateway.services.commitment._TELL_FIRST_S", 0.0)
    monkeypatch.setattr("gateway.services.commitment._TELL_AGAIN_S", 0.0)


@claim("Z6")
@pytest.mark.usefixtures("at_once")
def test_a_peer_that_left_is_told_over_another_association(
    server: DimseServer, core: Core, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, fulfil = threading.Event(), core.commitment.fulfil

    def late(*arguments: Any) -> Any:
        assert released.wait(30)
        return fulfil(*arguments)

    monkeypatch.setattr(core.commitment, "fulfil", late)
    wanted = information(*stored(core))
    application_entity = AE(ae_title="CT1")
    application_entity.add_requested_context(PUSH)
    association = application_entity.associate(*server.address, ae_title="GATEWAY")
    status, _ = association.send_n_action(wanted, 1, PUSH, WELL_KNOWN)
    assert status.Status == 0x0000
    association.abort()
    released.set()
    eventually(lambda: any(found.result for _, _, found in core.archive.index.commitments()))
    modality.answer = 0x0110
    commitment.tell_all(core)
    assert left(core, wanted.TransactionUID), "it did not take the report"
    modality.answer = 0
    commitment.tell_all(core)
    assert not left(core, wanted.TransactionUID)
    assert [event_type for event_type, _ in modality.heard] == [1, 1]
    assert modality.heard[1][1].TransactionUID == wanted.TransactionUID
    commitment.tell_all(core)
    assert len(modality.heard) == 2


@claim("Z7", "Z10")
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("title", "tries"), [("GONE", True), ("UNKNOWN", False)])
def test_a_peer_that_cannot_be_reached_is_tried_again_and_one_that_nobody_knows_is_not(
    server: DimseServer, core: Core, modality: Modality, title: str, tries: bool
) -> None:
    modality.answer = 0x0110
    wanted = information(*stored(core, 1))
    assert ask(server, wanted, modality, calling=title).Status == 0x0000
    commitment.tell_all(core)
    assert left(core, wanted.TransactionUID) is tries


@claim("Z8")
def test_a_request_outlives_its_worker(core: Core, serve: Serve, modality: Modality) -> None:
    wanted = information(*stored(core, 1))
    with serve(core) as server:
        assert ask(server, wanted, modality).Status == 0x0000
    again = assembly.build(core.settings, "again")
    try:
        assert again.archive.index.commitment(ids.Tenant("main"), wanted.TransactionUID) is not None
    finally:
        again.close()


@claim("Z4")
@pytest.mark.parametrize(
    ("references", "about", "status"),
    [
        ([(instances.CT, "1.2.3")], {"instance": "1.2.3"}, 0x0112),
        ([(instances.CT, "1.2.3")], {"action": 2}, 0x0123),
        ([], {}, 0x0115),
        ([(instances.CT, "not a uid")], {}, 0x0115),
        ([(instances.CT, "1.2.3")], {"transaction": "1.2.x"}, 0x0115),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_requests_that_make_no_sense_are_refused(
    server: DimseServer, modality: Modality, references: list[tuple[str, str]], about: dict[str, Any], status: int
) -> None:
    wanted = information(*references, transaction=about.pop("transaction", None))
    assert ask(server, wanted, modality, **about).Status == status
    assert modality.heard == []


@claim("Z3")
def test_a_transaction_uid_serves_once(server: DimseServer, core: Core, modality: Modality) -> None:
    wanted = information(*stored(core, 1))
    assert ask(server, wanted, modality).Status == 0x0000
    again = ask(server, wanted, modality)
    assert again.Status == 0x0115
    assert "in use" in again.ErrorComment


def test_it_may_come_with_roles_negotiated(server: DimseServer, core: Core, modality: Modality) -> None:
    wanted = information(*stored(core, 1))
    application_entity = AE(ae_title="CT1")
    application_entity.add_requested_context(PUSH)
    association = application_entity.associate(
        *server.address, ae_title="GATEWAY", ext_neg=[build_role(PUSH, scu_role=True)],
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, modality.report)],
    )  # fmt: skip
    status, _ = association.send_n_action(wanted, 1, PUSH, WELL_KNOWN)
    assert status.Status == 0x0000
    eventually(lambda: bool(modality.heard))
    association.release()


@pytest.mark.usefixtures("at_once")
def test_a_peer_that_is_gone_is_asked_once_a_round(
    server: DimseServer, core: Core, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    modality.answer = 0x0110
    for _ in range(3):
        assert ask(server, information(*stored(core, 1)), modality, calling="GONE").Status == 0x0000
    asked: list[str] = []
    associate = commitment.requesting.associate

    def counted(address: Address, *more: Any) -> Any:
        asked.append(address.ae_title)
        return associate(address, *more)

    monkeypatch.setattr(commitment.requesting, "associate", counted)
    commitment.tell_all(core)
    assert asked == ["GONE"]
