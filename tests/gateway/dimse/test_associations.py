"""Associations that are over are written down, beside whoever serves them."""

from __future__ import annotations

import dataclasses
import threading

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from gateway.assembly import Core
from gateway.dimse.server import DimseServer
from gateway.services import associations
from gateway.services.associations import Association, Served
from storage.errors import StorageUnavailable
from tests import instances
from tests.gateway.dimse.conftest import STUDY_ROOT_FIND, Engine, Serve, eventually, find
from tests.raw_peer import RawPeer, echo, pdu

ABORT = pdu(7, bytes(4))
VERIFICATION = "1.2.840.10008.1.1"
FILM_SESSION = "1.2.840.10008.5.1.1.1"


def over(core: Core, count: int = 1, tenant: str = "main") -> list[Association]:
    """The last associations, once there are so many."""
    eventually(lambda: len(associations.logged(core.control, tenant, 100)) >= count)
    found = associations.logged(core.control, tenant, 100)
    assert len(found) == count
    return found


def test_what_was_asked_for_and_what_failed_is_counted(server: DimseServer, core: Core) -> None:
    application_entity = AE(ae_title="CT1")
    for syntax in (VERIFICATION, STUDY_ROOT_FIND, FILM_SESSION):
        application_entity.add_requested_context(syntax)
    application_entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = application_entity.associate(*server.address, ae_title="GATEWAY")
    stored = instances.data_set(SOPClassUID=CTImageStorage, PatientName="Canary^Carl")
    instances.part10_file(stored)  # gives it File Meta Information
    assert association.send_c_store(stored).Status == 0
    del stored.StudyInstanceUID
    assert association.send_c_store(stored).Status != 0
    assert association.send_c_echo().Status == 0
    assert associations.logged(core.control, "main", 1) == [], "not before it is over"
    association.release()

    (found,) = over(core)
    assert (found.calling, found.called, found.address, found.tenant) == ("CT1", "GATEWAY", "127.0.0.1", "main")
    assert (found.proposed, found.accepted, found.not_accepted) == (
        4,
        3,
        [f"Basic Film Session SOP Class ({FILM_SESSION})"],
    )
    assert found.served == [Served("C-STORE", 2, 1), Served("C-ECHO", 1, 0)]
    assert (found.outcome, found.detail) == ("released", "")
    assert 0 < found.seconds < 60
    assert "Canary" not in repr(found)


def test_what_is_rejected_is_of_nobody_and_has_its_reason(server: DimseServer, core: Core) -> None:
    application_entity = AE(ae_title="CT1")
    application_entity.add_requested_context(VERIFICATION)
    assert application_entity.associate(*server.address, ae_title="SOMEBODY").is_rejected
    (found,) = over(core, tenant="")
    assert (found.calling, found.called, found.outcome) == ("CT1", "SOMEBODY", "rejected")
    assert found.detail == "called AE title not recognised"
    assert found.served == []


def test_an_abort_has_its_reason(server: DimseServer, core: Core) -> None:
    with RawPeer(server.address) as peer:
        peer.associate()
        peer.send(echo())
        assert peer.response() == 0
        peer.send(ABORT)
    (found,) = over(core)
    assert (found.outcome, found.detail) == ("aborted", "the peer aborted")
    assert found.served == [Served("C-ECHO", 1, 0)]


def test_the_gateway_that_asks_itself_is_left_out(server: DimseServer, core: Core) -> None:
    find(server, calling="GATEWAY", QueryRetrieveLevel="STUDY")
    find(server, QueryRetrieveLevel="STUDY", StudyInstanceUID="")
    (found,) = over(core)
    assert (found.calling, found.served) == ("FINDSCU", [Served("C-FIND", 1, 0)])


def test_a_control_state_that_is_away_stops_no_association_and_loses_none(core: Core, serve: Serve) -> None:
    """What is over is held until it can be written; the last chance is the end of the server."""
    tried, is_away = threading.Event(), True

    def log(name: str, entries: list[object], kept: int) -> None:
        tried.set()
        if is_away:
            raise StorageUnavailable("away")
        core.control.log(name, entries, kept)  # type: ignore[arg-type]

    with serve(dataclasses.replace(core, control=Engine(core.control, log=log))) as server:
        find(server, QueryRetrieveLevel="STUDY", StudyInstanceUID="")
        assert tried.wait(30)
        find(server, QueryRetrieveLevel="STUDY", StudyInstanceUID="")
        is_away = False
    assert len(over(core, 2)) == 2
