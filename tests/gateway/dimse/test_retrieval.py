"""C-MOVE and C-GET: what goes to whom, in which transfer syntax, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, build_role, evt

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.keeping import RecompressionRule
from gateway.config.serving import DestinationSettings
from gateway.context import command_line
from gateway.dimse.server import DimseServer
from gateway.services.recompress import RecompressionService
from gateway.services.retrieve import RetrieveService
from storage.dicom import identifiers as ids
from storage.errors import StorageUnavailable
from tests import instances
from tests.conformance.claims import claim
from tests.conformance.network import counts, identifier
from tests.gateway.dimse.conftest import Serve

MAIN = ids.Tenant("main")
STUDY_MOVE, PATIENT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.1.2"
STUDY_GET, PATIENT_GET = "1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.5.1.4.1.2.1.3"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
Responses = list[tuple[Dataset, Dataset | None]]


@dataclass
class Destination:
    """A peer that stores what it is sent."""

    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    answer: Callable[[evt.Event], int] = lambda _event: 0
    received: list[Dataset] = field(default_factory=list)
    events: list[evt.Event] = field(default_factory=list)
    port: int = 0

    def stored(self, event: evt.Event) -> int:
        status = self.answer(event)
        if status == 0 or status & 0xF000 == 0xB000:
            found = event.dataset
            found.file_meta = event.file_meta
            self.received.append(found)
            self.events.append(event)
        return status


@pytest.fixture
def destination() -> Destination:
    return Destination()


@pytest.fixture
def listening(destination: Destination) -> Iterator[Destination]:
    application_entity = AE(ae_title="DEST")
    for sop_class_uid in (instances.CT, SECONDARY_CAPTURE):
        application_entity.add_supported_context(sop_class_uid, list(destination.syntaxes))
    server = application_entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, destination.stored)]
    )
    destination.port = server.server_address[1]
    yield destination
    server.shutdown()


@pytest.fixture
def settings(settings: Settings, listening: Destination) -> Settings:
    destinations = {
        "DEST": DestinationSettings(host="127.0.0.1", port=listening.port),
        "NOBODY": DestinationSettings(host="127.0.0.1", port=1),
        "READING": DestinationSettings(host="127.0.0.1", port=listening.port, callers=frozenset(("WORKSTATION",))),
    }
    dimse = settings.dimse.model_copy(update={"destinations": destinations})
    return settings.model_copy(update={"dimse": dimse})


def put(core: Core, data_set: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    spooling = core.spool.begin()
    spooling.write(instances.part10_file(data_set, syntax))
    with spooling.finish() as spooled:
        core.ingest.store(core.ingest.enter_by_command(command_line("test"), MAIN), spooled)
    return data_set


def study_of(core: Core, count: int = 3, **attributes: Any) -> list[Dataset]:
    first = instances.data_set(**attributes)
    shared = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    return [put(core, first), *(put(core, instances.data_set(**shared, **attributes)) for _ in range(count - 1))]


def move(
    server: DimseServer, wanted: Dataset, *, to: str = "DEST", model: str = STUDY_MOVE, calling: str = "MOVESCU"
) -> Responses:
    application_entity = AE(ae_title=calling)
    application_entity.add_requested_context(model)
    association = application_entity.associate(*server.address, ae_title="GATEWAY")
    assert association.is_established
    found = list(association.send_c_move(wanted, to, model, msg_id=77))
    association.release()
    return found


def get(
    server: DimseServer,
    wanted: Dataset,
    *,
    model: str = STUDY_GET,
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,),
    answer: Callable[[evt.Event], int] = lambda _event: 0,
    calling: str = "GETSCU",
    extended: Sequence[Any] = (),
) -> tuple[Responses, list[Dataset]]:
    received: list[Dataset] = []

    def stored(event: evt.Event) -> int:
        found = event.dataset
        found.file_meta = event.file_meta
        received.append(found)
        return answer(event)

    application_entity = AE(ae_title=calling)
    application_entity.add_requested_context(model)
    application_entity.add_requested_context(instances.CT, list(syntaxes))
    association = application_entity.associate(
        *server.address,
        ae_title="GATEWAY",
        ext_neg=[build_role(instances.CT, scp_role=True), *extended],
        evt_handlers=[(evt.EVT_C_STORE, stored)],
    )
    assert association.is_established
    found = list(association.send_c_get(wanted, model))
    association.release()
    return found, received


def uids(found: list[Dataset]) -> set[str]:
    return {each.SOPInstanceUID for each in found}


# C-MOVE


@claim("M10")
def test_a_study_goes_to_its_destination(server: DimseServer, core: Core, listening: Destination) -> None:
    stored = study_of(core)
    study_of(core)
    responses = move(server, identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID))
    (first, _), (last, failed) = responses[0], responses[-1]
    assert (first.Status, first.NumberOfRemainingSuboperations, *counts(first)) == (0xFF00, 3, 0, 0, 0)
    assert (last.Status, *counts(last), failed) == (0x0000, 3, 0, 0, None)
    assert uids(listening.received) == uids(stored)
    assert listening.received[0].PixelData == stored[0].PixelData
    event = listening.events[0]
    assert event.request.MoveOriginatorApplicationEntityTitle == "MOVESCU"
    assert event.request.MoveOriginatorMessageID == 77
    assert event.assoc.requestor.ae_title == "GATEWAY"


@claim("M1")
@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_every_level_of_the_patient_root(server: DimseServer, core: Core, listening: Destination, level: str) -> None:
    one, other = study_of(core, 2, PatientID="A"), study_of(core, 1, PatientID="A")
    study_of(core, 1, PatientID="B")
    keys = {
        "PATIENT": {"PatientID": "A"},
        "STUDY": {"PatientID": "A", "StudyInstanceUID": one[0].StudyInstanceUID},
        "SERIES": {
            "PatientID": "A", "StudyInstanceUID": one[0].StudyInstanceUID,
            "SeriesInstanceUID": one[0].SeriesInstanceUID,
        },
        "IMAGE": {
            "PatientID": "A", "StudyInstanceUID": one[0].StudyInstanceUID,
            "SeriesInstanceUID": one[0].SeriesInstanceUID,
            "SOPInstanceUID": one[1].SOPInstanceUID,
        },
    }[level]  # fmt: skip
    (last, _) = move(server, identifier(level, **keys), model=PATIENT_MOVE)[-1]
    assert last.Status == 0x0000
    expected = {"PATIENT": [*one, *other], "STUDY": one, "SERIES": one, "IMAGE": one[1:]}[level]
    assert uids(listening.received) == uids(expected)


@claim("M3")
def test_lists_of_uids_are_taken_at_every_level(server: DimseServer, core: Core, listening: Destination) -> None:
    one, other = study_of(core, 3), study_of(core, 1)
    wanted = identifier("STUDY", StudyInstanceUID=[one[0].StudyInstanceUID, other[0].StudyInstanceUID, "1.2.3"])
    assert counts(move(server, wanted)[-1][0]) == (4, 0, 0)
    listening.received.clear()
    wanted = identifier(
        "IMAGE",
        StudyInstanceUID=one[0].StudyInstanceUID,
        SeriesInstanceUID=one[0].SeriesInstanceUID,
        SOPInstanceUID=[one[0].SOPInstanceUID, one[2].SOPInstanceUID],
    )
    assert counts(move(server, wanted)[-1][0]) == (2, 0, 0)
    assert uids(listening.received) == uids([one[0], one[2]])


def test_another_patients_study_is_not_found_in_the_patient_root(
    server: DimseServer, core: Core, listening: Destination
) -> None:
    (stored,) = study_of(core, 1, PatientID="A")
    wanted = identifier("STUDY", PatientID="B", StudyInstanceUID=stored.StudyInstanceUID)
    (last, _) = move(server, wanted, model=PATIENT_MOVE)[-1]
    assert (last.Status, *counts(last)) == (0x0000, 0, 0, 0)
    assert listening.received == []


@claim("M2")
@pytest.mark.parametrize(
    ("keys", "model"),
    [
        (("STUDY", {}), STUDY_MOVE),
        (("STUDY", {"StudyInstanceUID": ""}), STUDY_MOVE),
        (("PATIENT", {"PatientID": "A"}), STUDY_MOVE),
        (("PATIENT", {"PatientID": "A*"}), PATIENT_MOVE),
        (("PATIENT", {"PatientID": ""}), PATIENT_MOVE),
        (("SERIES", {"SeriesInstanceUID": "1.2"}), STUDY_MOVE),
        (("IMAGE", {"StudyInstanceUID": "1.2", "SOPInstanceUID": "1.2"}), STUDY_MOVE),
        (("NONE", {}), STUDY_MOVE),
    ],
)
def test_identifiers_that_do_not_fit_are_refused(server: DimseServer, keys: Any, model: str) -> None:
    level, given = keys
    ((last, _),) = move(server, identifier(level, **given), model=model)
    assert last.Status == 0xA900
    assert last.ErrorComment


@claim("M4")
def test_of_two_patients_with_one_id_the_issuer_tells_which(server: DimseServer, core: Core) -> None:
    (here,) = study_of(core, 1, PatientID="P1", IssuerOfPatientID="HERE")
    (there,) = study_of(core, 1, PatientID="P1", IssuerOfPatientID="THERE")
    wanted = {"PatientID": "P1"}
    for more, expected in (({}, [here, there]), ({"IssuerOfPatientID": "THERE"}, [there])):
        (_, got) = get(server, identifier("PATIENT", **wanted, **more), model=PATIENT_GET)
        assert uids(got) == uids(expected)
    ((last, _),) = move(server, identifier("PATIENT", **wanted, IssuerOfPatientID="T*"), model=PATIENT_MOVE)
    assert last.Status == 0xA900


@claim("M9")
def test_who_may_not_read_does_not_learn_which_destinations_there_are(
    settings: Settings, tmp_path: Path, serve: Serve
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('[[principal]]\nname = "ct"\nkind = "ae"\nae_title = "*"\nactions = ["store", "search"]\n')
    core = assembly.build(settings.model_copy(update={"access": AccessSettings(policy_file=file)}), "test")
    try:
        (stored,) = study_of(core, 1)
        with serve(core) as server:
            wanted = identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID)
            answers = [move(server, wanted, to=to)[-1][0] for to in ("DEST", "READING", "ELSEWHERE")]
        assert [(each.Status, each.ErrorComment) for each in answers] == [(0x0124, "Refused: not authorized")] * 3
    finally:
        core.close()


@claim("M8")
def test_a_destination_that_nobody_knows(server: DimseServer, core: Core) -> None:
    (stored,) = study_of(core, 1)
    ((last, _),) = move(server, identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID), to="ELSEWHERE")
    assert last.Status == 0xA801


def test_a_policy_that_changes_meanwhile_sends_nothing_to_who_is_not_to_have_it(
    server: DimseServer, core: Core, listening: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stored,) = study_of(core, 1)
    # The caller may read, and just before it was looked up could not.
    monkeypatch.setattr(RetrieveService, "is_open", lambda *_: False)
    wanted = identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID)
    assert move(server, wanted, to="READING")[-1][0].Status == 0xA801
    assert listening.received == []


@claim("M8")
def test_a_destination_may_be_for_some_alone(server: DimseServer, core: Core, listening: Destination) -> None:
    (stored,) = study_of(core, 1)
    wanted = identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID)
    assert move(server, wanted, to="READING")[-1][0].Status == 0xA801
    assert listening.received == []
    assert move(server, wanted, to="READING", calling="WORKSTATION")[-1][0].Status == 0x0000


@claim("M12")
def test_a_destination_that_is_not_there(server: DimseServer, core: Core) -> None:
    stored = study_of(core)
    (last, failed) = move(server, identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID), to="NOBODY")[-1]
    assert (last.Status, *counts(last)) == (0xA702, 0, 3, 0)
    assert failed is not None
    assert set(failed.FailedSOPInstanceUIDList) == uids(stored)


@claim("M16")
def test_failures_and_warnings_of_the_destination_are_counted(
    server: DimseServer, core: Core, listening: Destination
) -> None:
    stored = study_of(core, 4)
    says = {stored[1].SOPInstanceUID: 0xA700, stored[2].SOPInstanceUID: 0xB000}
    listening.answer = lambda event: says.get(event.request.AffectedSOPInstanceUID, 0)
    (last, failed) = move(server, identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID))[-1]
    assert (last.Status, *counts(last)) == (0xB000, 2, 1, 1)
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList == stored[1].SOPInstanceUID


@claim("M11")
def test_a_sub_operation_whose_association_breaks_is_tried_again(
    server: DimseServer, core: Core, listening: Destination
) -> None:
    stored, broken = study_of(core), threading.Event()

    def once(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == stored[1].SOPInstanceUID and not broken.is_set():
            broken.set()
            event.assoc.abort()
            return 0xA700
        return 0

    listening.answer = once
    (last, _) = move(server, identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID))[-1]
    assert broken.is_set()
    assert (last.Status, *counts(last)) == (0x0000, 3, 0, 0)
    assert uids(listening.received) == uids(stored)


@claim("M12")
def test_a_destination_that_dies_for_good_leaves_the_rest_failed(
    server: DimseServer, core: Core, listening: Destination
) -> None:
    stored = study_of(core, 5)

    def dying(event: evt.Event) -> int:
        if len(listening.received) >= 2:
            event.assoc.abort()
            return 0xA700
        return 0

    listening.answer = dying
    (last, failed) = move(server, identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID))[-1]
    assert (last.Status, *counts(last)) == (0xB000, 2, 3, 0)
    assert failed is not None
    assert len(failed.FailedSOPInstanceUIDList) == 3


@claim("M15")
def test_a_move_is_cancelled_between_two_sub_operations(
    server: DimseServer, core: Core, listening: Destination
) -> None:
    stored = study_of(core, 6)
    application_entity = AE(ae_title="MOVESCU")
    application_entity.add_requested_context(STUDY_MOVE)
    association = application_entity.associate(*server.address, ae_title="GATEWAY")

    def slow(_event: evt.Event) -> int:
        if len(listening.received) == 1:
            association.send_c_cancel(9, query_model=STUDY_MOVE)
        if listening.received:
            threading.Event().wait(0.3)  # in which it arrives, or during the next ones
        return 0

    listening.answer = slow
    wanted = identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID)
    last, _ = list(association.send_c_move(wanted, "DEST", STUDY_MOVE, msg_id=9))[-1]
    association.release()
    assert last.Status == 0xFE00
    assert last.NumberOfRemainingSuboperations > 0
    assert last.NumberOfRemainingSuboperations + last.NumberOfCompletedSuboperations == 6


@claim("M14")
def test_pending_responses_come_while_the_destination_takes_its_time(
    server: DimseServer, core: Core, listening: Destination
) -> None:
    stored = study_of(core, 1)
    told_twice = threading.Event()

    def slow(_event: evt.Event) -> int:
        return 0 if told_twice.wait(60) else 0xA700

    listening.answer = slow
    application_entity = AE(ae_title="MOVESCU")
    application_entity.add_requested_context(STUDY_MOVE)
    association = application_entity.associate(*server.address, ae_title="GATEWAY")
    found: list[int] = []
    wanted = identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID)
    for response, _ in association.send_c_move(wanted, "DEST", STUDY_MOVE):
        found.append(response.Status)
        if len(found) == 2:
            told_twice.set()
    association.release()
    assert found[:2] == [0xFF00, 0xFF00]
    assert found[-1] == 0x0000


# Transfer syntaxes


CT_PIXELS = (np.add.outer(np.arange(40), np.arange(56)) * 9).astype("<u2")


def image(**attributes: Any) -> Dataset:
    return instances.data_set(
        Rows=40, Columns=56, BitsAllocated=16, BitsStored=16, HighBit=15, PixelData=CT_PIXELS.tobytes(), **attributes
    )


@claim("M6")
@pytest.mark.parametrize("stored_in", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("taken", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_native_instances_go_in_what_the_peer_takes(
    server: DimseServer, core: Core, stored_in: str, taken: str
) -> None:
    stored = put(core, image(), stored_in)
    found, (received,) = get(server, identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID), syntaxes=(taken,))
    assert found[-1][0].Status == 0x0000
    assert received.file_meta.TransferSyntaxUID == taken
    assert (received.pixel_array == CT_PIXELS).all()
    assert received.PatientName == stored.PatientName


@claim("M5", "M6")
@pytest.mark.parametrize("stored_in", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_instances_go_as_they_are_or_without_compression(
    server: DimseServer, core: Core, listening: Destination, stored_in: str
) -> None:
    compressed = image()
    instances.part10_file(compressed)  # gives it File Meta Information
    compressed.compress(stored_in, generate_instance_uid=False)
    put(core, compressed, stored_in)
    wanted = identifier("STUDY", StudyInstanceUID=compressed.StudyInstanceUID)
    _, (received,) = get(server, wanted, syntaxes=(stored_in,))
    assert received.file_meta.TransferSyntaxUID == stored_in
    assert received.PixelData == compressed.PixelData
    # The destination takes plain ones alone, of which it chooses explicit.
    (last, _) = move(server, wanted)[-1]
    assert last.Status == 0x0000
    (plain,) = listening.received
    assert plain.file_meta.TransferSyntaxUID in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    assert (plain.pixel_array == CT_PIXELS).all()


@pytest.mark.parametrize("keep", ["beside", "instead"])
@pytest.mark.parametrize("taken", [HTJ2KLossless, HTJ2KLosslessRPCL])
def test_what_is_kept_in_htj2k_goes_to_who_takes_that_without_encoding(
    server: DimseServer, core: Core, listening: Destination, taken: str, keep: Literal["beside", "instead"]
) -> None:
    stored = put(core, image())
    with assembly.gentle_pool(core) as pool:
        service = RecompressionService(
            core.archive, pool, core.spool, core.room, [RecompressionRule(name="all", keep=keep)],
            condenser=assembly.condenser(core, pool), after_s=0.0, holder="test", now=lambda: time.time() + 60,
        )  # fmt: skip
        assert [step.left for step in service.round()] == [None]
    core.pool.close()
    wanted = identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID)
    _, (received,) = get(server, wanted, syntaxes=(taken,))
    assert received.file_meta.TransferSyntaxUID == taken
    (frame,) = generate_frames(received.PixelData, number_of_frames=1)
    assert (imagecodecs.jpeg2k_decode(frame) == CT_PIXELS).all()
    _, (plain,) = get(server, wanted)
    assert plain.PixelData == stored.PixelData
    assert move(server, wanted)[-1][0].Status == 0x0000
    assert [each.PixelData for each in listening.received] == [stored.PixelData]
    kept = {info.key.rpartition(".")[2] for info in core.archive.objects._store.list("main/")}  # type: ignore[attr-defined]
    assert kept == {"dcm" if keep == "beside" else "htj2k"}


@claim("M7")
def test_what_cannot_be_made_for_the_peer_fails_alone(server: DimseServer, core: Core) -> None:
    stored = study_of(core, 1)
    report = put(core, instances.data_set(
        StudyInstanceUID=stored[0].StudyInstanceUID, SOPClassUID=SECONDARY_CAPTURE, PixelData=None,
    ))  # fmt: skip
    found, received = get(server, identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID))
    last, failed = found[-1]
    assert (last.Status, *counts(last)) == (0xB000, 1, 1, 0)
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList == report.SOPInstanceUID
    assert uids(received) == uids(stored)


# C-GET


@claim("A9", "M13")
def test_a_study_comes_back_over_its_own_association(server: DimseServer, core: Core) -> None:
    stored = study_of(core, 4)
    found, received = get(server, identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID))
    assert (found[-1][0].Status, *counts(found[-1][0])) == (0x0000, 4, 0, 0)
    assert uids(received) == uids(stored)
    found, received = get(server, identifier("PATIENT", PatientID=stored[0].PatientID), model=PATIENT_GET)
    assert counts(found[-1][0]) == (4, 0, 0)


@claim("K9")
def test_what_the_requestor_does_not_take_is_counted(server: DimseServer, core: Core) -> None:
    stored = study_of(core, 3)
    says = {stored[0].SOPInstanceUID: 0xC000, stored[1].SOPInstanceUID: 0xB007}
    found, _ = get(
        server,
        identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID),
        answer=lambda event: says.get(event.request.AffectedSOPInstanceUID, 0),
    )
    assert (found[-1][0].Status, *counts(found[-1][0])) == (0xB000, 1, 1, 1)


@claim("M26")
def test_an_instance_that_breaks_off_while_it_is_read_aborts(
    server: DimseServer, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = put(core, instances.data_set(PixelData=bytes(900_000), Rows=900, Columns=500))
    opened = core.archive.objects.open

    @contextmanager
    def breaking(*what: Any) -> Iterator[Any]:
        def blocks() -> Iterator[bytes]:
            yield bytes(next(iter(reader.blocks())))[:300_000]
            raise StorageUnavailable("the bucket does not answer any more")

        with opened(*what) as reader:
            yield SimpleNamespace(blocks=blocks)

    monkeypatch.setattr(core.archive.objects, "open", breaking)
    received: list[evt.Event] = []

    def stored_here(event: evt.Event) -> int:
        received.append(event)
        return 0

    application_entity = AE(ae_title="GETSCU")
    application_entity.add_requested_context(STUDY_GET)
    application_entity.add_requested_context(instances.CT, [ExplicitVRLittleEndian])
    association = application_entity.associate(
        *server.address,
        ae_title="GATEWAY",
        ext_neg=[build_role(instances.CT, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, stored_here)],
    )
    wanted = identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID)
    assert 0x0000 not in [each.get("Status") for each, _ in association.send_c_get(wanted, STUDY_GET)]
    association.join(30)
    assert association.is_aborted
    assert received == []


@claim("M15")
def test_a_get_is_cancelled(server: DimseServer, core: Core) -> None:
    stored = study_of(core, 5)

    def cancelling(event: evt.Event) -> int:
        event.assoc.send_c_cancel(1, query_model=STUDY_GET)
        return 0

    found, received = get(server, identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID), answer=cancelling)
    assert found[-1][0].Status == 0xFE00
    assert 0 < len(received) < 5


# Who may


def test_each_study_is_on_the_trail_with_its_destination(
    server: DimseServer, core: Core, listening: Destination
) -> None:
    stored = study_of(core, 2)
    move(server, identifier("STUDY", StudyInstanceUID=stored[0].StudyInstanceUID))
    core.trail.close()
    written = "".join(path.read_text() for path in assembly.audit_directory(core.settings).glob("*.jsonl"))
    lines = [line for line in written.splitlines() if stored[0].StudyInstanceUID in line and '"read"' in line]
    assert any("to DEST" in line and "MOVESCU" in line for line in lines)
    assert any('"instances":2' in line.replace(" ", "") for line in lines)
