"""What an AE may send, and how it is taken: bounds that the policy gives it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.dimse import contexts
from gateway.dimse.server import DimseServer
from storage.dicom.identifiers import StudyUid, Tenant
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Target
from tests import instances, trails
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import Serve

MR = "1.2.840.10008.5.1.4.1.1.4"
POLICY = """
[[principal]]
name = "ct"
kind = "ae"
ae_title = "CT1"
actions = ["echo", "store", "search", "read"]
[principal.sending]
{}

[[principal]]
name = "others"
kind = "ae"
ae_title = "*"
actions = ["echo", "store", "search", "read"]
"""

Bounded = Callable[..., tuple[DimseServer, Core]]


@pytest.fixture
def bounded(settings: Settings, tmp_path: Path, serve: Serve) -> Iterator[Bounded]:
    """Starts a server on which CT1 has bounds."""
    started: list[Any] = []

    def start(bounds: str, policy: str = "") -> tuple[DimseServer, Core]:
        file = tmp_path / "policy.toml"
        file.write_text(policy or POLICY.format(bounds))
        core = assembly.build(settings.model_copy(update={"access": AccessSettings(policy_file=file)}), "test")
        server = serve(core)
        started.append((server, core))
        return server.__enter__(), core

    yield start
    for server, core in started:
        server.__exit__(None, None, None)
        core.close()


def associated(
    server: DimseServer,
    proposals: list[tuple[str, list[str]]],
    calling: str = "CT1",
    *,
    gets: tuple[str, ...] = (),
    both: bool = False,
    address: str = "127.0.0.1",
) -> Association:
    application_entity = AE(ae_title=calling)
    for abstract, syntaxes in proposals:
        application_entity.add_requested_context(abstract, syntaxes)
    roles: list[Any] = [build_role(uid, scu_role=both, scp_role=True) for uid in gets]
    association = application_entity.associate(
        *server.address, ae_title="GATEWAY", ext_neg=roles, bind_address=(address, 0)
    )
    assert association.is_established
    return association


def sent(association: Association, data_set: Dataset) -> int:
    instances.part10_file(data_set)  # gives it File Meta Information
    return int(association.send_c_store(data_set).Status)


def results(association: Association) -> dict[str, int]:
    return {str(each.abstract_syntax): int(each.result or 0) for each in association.rejected_contexts}


@claim("A18")
def test_only_its_sop_classes_and_transfer_syntaxes_are_agreed_on(bounded: Bounded) -> None:
    server, _ = bounded(
        'sop_classes = ["CTImageStorage"]\ntransfer_syntaxes = ["1.2.840.10008.1.2.1", "JPEGLosslessSV1"]'
    )
    offered: list[tuple[str, list[str]]] = [
        (instances.CT, [ImplicitVRLittleEndian, JPEGLosslessSV1, ExplicitVRLittleEndian]),
        (MR, [ExplicitVRLittleEndian]),
        (contexts.VERIFICATION, [ImplicitVRLittleEndian]),
    ]
    association = associated(server, offered)
    accepted = {str(each.abstract_syntax): each.transfer_syntax[0] for each in association.accepted_contexts}
    assert accepted == {instances.CT: JPEGLosslessSV1, contexts.VERIFICATION: ImplicitVRLittleEndian}
    assert results(association) == {MR: 0x03}
    association.release()

    association = associated(server, [(instances.CT, [ImplicitVRLittleEndian]), offered[2]])
    assert results(association) == {instances.CT: 0x04}
    association.release()

    association = associated(server, offered, "OTHER")
    assert not association.rejected_contexts
    association.release()


def test_what_its_bounds_keep_it_from_proposing_is_on_the_trail(bounded: Bounded) -> None:
    server, core = bounded('sop_classes = ["CTImageStorage"]\ntransfer_syntaxes = ["1.2.840.10008.1.2.1"]')
    associated(server, [(instances.CT, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]).release()
    associated(server, [(MR, [ExplicitVRLittleEndian])], "OTHER").release()
    echo = (contexts.VERIFICATION, [ImplicitVRLittleEndian])
    associated(server, [(instances.CT, [ImplicitVRLittleEndian]), (MR, [ExplicitVRLittleEndian]), echo]).release()
    associated(server, [(MR, [ExplicitVRLittleEndian]), echo], gets=(MR,)).release()  # it would send none
    associated(server, [*((f"1.2.3.{number}", [ImplicitVRLittleEndian]) for number in range(12)), echo]).release()
    core.trail.close()
    told = [
        (record["principal"], record["detail"])
        for record in trails.records(core.trail.directory)
        if record["outcome"] == "denied"
    ]
    start = "not taken from this AE as it proposes them: "
    assert told == [
        ("ct", f"{start}{instances.CT}, {MR}"),
        ("ct", start + ", ".join(f"1.2.3.{number}" for number in range(8)) + " and 4 more"),
    ]


def test_what_it_may_not_send_it_may_still_get(bounded: Bounded) -> None:
    server, core = bounded('sop_classes = ["CTImageStorage"]')
    data_set = instances.data_set(SOPClassUID=MR, Modality="MR")
    association = associated(server, [(MR, [ExplicitVRLittleEndian])], "OTHER")
    assert sent(association, data_set) == 0x0000
    association.release()

    got: list[Dataset] = []

    def keep(event: Any) -> int:
        got.append(event.dataset)
        return 0

    association = associated(
        server, [(MR, [ExplicitVRLittleEndian]), (contexts.STUDY_ROOT_GET, [ImplicitVRLittleEndian])], gets=(MR,)
    )
    [storage] = [each for each in association.accepted_contexts if each.abstract_syntax == MR]
    assert (storage.as_scu, storage.as_scp) == (False, True)
    association.bind(evt.EVT_C_STORE, keep)
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = data_set.StudyInstanceUID
    final = list(association.send_c_get(identifier, contexts.STUDY_ROOT_GET))[-1][0]
    assert final.Status == 0x0000
    assert [each.SOPInstanceUID for each in got] == [data_set.SOPInstanceUID]

    # Whoever sends in a role that was not agreed on is refused.
    storage._as_scu = True
    assert sent(association, instances.data_set(SOPClassUID=MR, Modality="MR")) == 0x0211
    association.release()
    assert len(list(core.archive.objects.list(""))) == 1


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian], (ExplicitVRLittleEndian, True)),
        ([ImplicitVRLittleEndian], (ImplicitVRLittleEndian, False)),
    ],
)
def test_in_one_context_for_both_ways_it_sends_as_it_may_and_gets_in_any_case(
    bounded: Bounded, offered: list[str], agreed: tuple[str, bool]
) -> None:
    server, _ = bounded('transfer_syntaxes = ["1.2.840.10008.1.2.1"]')
    association = associated(server, [(MR, offered)], gets=(MR,), both=True)
    [found] = association.accepted_contexts
    association.release()
    assert (found.transfer_syntax[0], found.as_scu) == agreed
    assert found.as_scp


@claim("A18")
def test_an_instance_beyond_its_size_is_refused_and_the_next_one_is_not(bounded: Bounded) -> None:
    server, core = bounded("max_instance_bytes = 100_000")
    large = instances.data_set(PixelData=bytes(200_000), Rows=400, Columns=250)
    small = instances.data_set()
    association = associated(server, [(instances.CT, [ExplicitVRLittleEndian])])
    assert sent(association, large) == 0xA700
    assert sent(association, small) == 0x0000
    association.release()
    association = associated(server, [(instances.CT, [ExplicitVRLittleEndian])], "OTHER")
    assert sent(association, large) == 0x0000
    association.release()
    found = [core.archive.index.locate(_study(each), EVERYTHING) for each in (small, large)]
    assert [len(list(each)) for each in found] == [1, 1]


def test_other_content_under_a_known_uid_is_taken_as_its_bounds_say(bounded: Bounded) -> None:
    server, _ = bounded('conflict = "reject"')
    first = instances.data_set()
    other = instances.data_set(
        **{name: first.get(name) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")},
        InstanceNumber=77,
    )
    for calling, status in (("CT1", 0x0111), ("OTHER", 0x0000)):
        association = associated(server, [(instances.CT, [ExplicitVRLittleEndian])], calling)
        assert sent(association, first) == 0x0000
        assert sent(association, other) == status
        association.release()


@claim("A18")
def test_what_comes_faster_waits_and_nobody_else_does(bounded: Bounded) -> None:
    server, _ = bounded("max_bytes_per_s = 100_000")
    data_set = instances.data_set(PixelData=bytes(400_000), Rows=500, Columns=400)
    started_s = time.monotonic()
    association = associated(server, [(instances.CT, [ExplicitVRLittleEndian])], "OTHER")
    assert sent(association, data_set) == 0x0000
    association.release()
    unbounded_s = time.monotonic() - started_s

    started_s = time.monotonic()
    association = associated(server, [(instances.CT, [ExplicitVRLittleEndian])])
    assert sent(association, data_set) == 0x0000
    association.release()
    # A second's worth of the 400,000 bytes comes at once.
    assert time.monotonic() - started_s > max(2.5, unbounded_s)


TWO = """
[[principal]]
name = "fast"
kind = "ae"
ae_title = "CT1"
networks = ["127.0.0.2"]
actions = ["store"]
sending = {max_bytes_per_s = 10_000_000}

[[principal]]
name = "slow"
kind = "ae"
ae_title = "CT1"
networks = ["127.0.0.1"]
actions = ["store"]
sending = {max_bytes_per_s = 65_536}

[[principal]]
name = "others"
kind = "ae"
ae_title = "*"
networks = ["127.0.0.0/8"]
actions = ["store"]
sending = {max_bytes_per_s = 65_536}
"""


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        (("CT1", "127.0.0.1"), ("CT1", "127.0.0.2"), False),
        (("X1", "127.0.0.1"), ("X2", "127.0.0.1"), True),
        (("X1", "127.0.0.1"), ("X2", "127.0.0.2"), False),
    ],
)
def test_a_rate_is_that_of_a_principal_and_of_an_address_where_titles_are_anybodys(
    bounded: Bounded, first: tuple[str, str], second: tuple[str, str], *, waits: bool
) -> None:
    server, _ = bounded("", TWO)
    contexts_of_ct: list[tuple[str, list[str]]] = [(instances.CT, [ExplicitVRLittleEndian])]
    flooding = associated(server, contexts_of_ct, first[0], address=first[1])
    association = associated(server, contexts_of_ct, second[0], address=second[1])
    large = instances.data_set(PixelData=bytes(900_000), Rows=900, Columns=500)
    instances.part10_file(large)
    thread = threading.Thread(target=flooding.send_c_store, args=(large,))
    thread.start()
    time.sleep(0.5)
    started_s = time.monotonic()
    assert sent(association, instances.data_set(PixelData=bytes(200_000), Rows=400, Columns=250)) == 0x0000
    # Alone 200,000 bytes take 2 s at most; half of the rate is left where both have one.
    assert (time.monotonic() - started_s > 4.0) is waits
    association.release()
    server.stop(0.0)
    thread.join()


def test_a_pause_ends_when_the_server_stops(bounded: Bounded) -> None:
    server, _ = bounded("max_bytes_per_s = 65_536")
    association = associated(server, [(instances.CT, [ExplicitVRLittleEndian])])
    data_set = instances.data_set(PixelData=bytes(900_000), Rows=900, Columns=500)
    instances.part10_file(data_set)
    sending = threading.Thread(target=association.send_c_store, args=(data_set,))
    sending.start()
    time.sleep(0.5)
    started_s = time.monotonic()
    server.stop(0.0)
    assert time.monotonic() - started_s < 5
    assert server.active == 0
    sending.join()


def _study(data_set: Dataset) -> Target:
    return Target(Tenant("main"), StudyUid(str(UID(data_set.StudyInstanceUID))))
