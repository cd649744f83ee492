"""What an accepted association says of us: lengths, what is not negotiated, and the contexts of the statement."""

from __future__ import annotations

import re
import struct

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from gateway.assembly import Core
from gateway.dimse import contexts
from gateway.dimse.server import DimseServer
from storage.dicom import file_meta
from tests import instances
from tests.conformance.claims import STATEMENT, claim
from tests.gateway.dimse.test_retrieval import put
from tests.raw_peer import RawPeer, item, request, user_information

SERVED = [
    "1.2.840.10008.1.1",
    "1.2.840.10008.1.20.1",
    *(f"1.2.840.10008.5.1.4.1.2.{root}.{service}" for root in (1, 2) for service in (1, 2, 3)),
]
SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]


def sub_items(accepted: bytes) -> dict[int, bytes]:
    """Of the user information of an A-ASSOCIATE-AC, by type."""
    found, at = {}, 68
    while at < len(accepted):
        kind, length = struct.unpack_from(">BxH", accepted, at)
        if kind == 0x50:
            inner = accepted[at + 4 : at + 4 + length]
            place = 0
            while place < len(inner):
                sub, size = struct.unpack_from(">BxH", inner, place)
                found[sub] = inner[place + 4 : place + 4 + size]
                place += 4 + size
        at += 4 + length
    return found


@claim("A3", "A8", "A34")
def test_a_maximum_length_is_offered_and_no_asynchronous_operations(server: DimseServer, core: Core) -> None:
    with RawPeer(server.address) as peer:
        peer.send(request(user=user_information(item(0x53, struct.pack(">HH", 5, 5)))))
        accepted = peer.receive()
        assert accepted is not None
        kind, body = accepted
        found = sub_items(body)
        peer.release()
    assert kind == 2
    assert int.from_bytes(found[0x51], "big") == core.settings.dimse.max_pdu_bytes == 131_072
    assert found[0x52].decode() == file_meta.IMPLEMENTATION_CLASS_UID
    assert found[0x55].decode() == file_meta.IMPLEMENTATION_VERSION_NAME
    assert 0x53 not in found


@claim("A5")
@pytest.mark.parametrize(("taken", "longest"), [(4096, 4096), (65_536, 65_536), (0, 262_144), (10_000_000, 262_144)])
def test_no_pdu_is_longer_than_the_peer_takes(server: DimseServer, core: Core, taken: int, longest: int) -> None:
    stored = put(core, instances.data_set(PixelData=bytes(600_000), Rows=1000, Columns=300))
    lengths: list[int] = []
    application_entity = AE(ae_title="GETSCU")
    application_entity.add_requested_context(contexts.STUDY_ROOT_GET)
    application_entity.add_requested_context(instances.CT, [file_meta.EXPLICIT_VR_LITTLE_ENDIAN])
    association = application_entity.associate(
        *server.address,
        ae_title="GATEWAY",
        max_pdu=taken,
        ext_neg=[build_role(instances.CT, scp_role=True)],
        evt_handlers=[
            (evt.EVT_DATA_RECV, lambda event: lengths.append(len(event.data) - 6)),
            (evt.EVT_C_STORE, lambda _event: 0),
        ],
    )
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "STUDY"
    wanted.StudyInstanceUID = stored.StudyInstanceUID
    assert list(association.send_c_get(wanted, contexts.STUDY_ROOT_GET))[-1][0].Status == 0
    association.release()
    assert longest * 0.9 < max(lengths) <= longest


@claim("X2")
@pytest.mark.parametrize("sop_class_uid", SERVED)
def test_every_service_takes_four_transfer_syntaxes(server: DimseServer, sop_class_uid: str) -> None:
    for syntax in SYNTAXES:
        application_entity = AE(ae_title="SCU")
        application_entity.add_requested_context(sop_class_uid, syntax)
        association = application_entity.associate(*server.address, ae_title="GATEWAY")
        assert [each.transfer_syntax for each in association.accepted_contexts] == [[syntax]]
        association.release()


@claim("X3")
def test_every_storage_class_of_the_statement_is_accepted(server: DimseServer) -> None:
    text = STATEMENT.read_text(encoding="utf-8")
    table = text.partition("<!-- generated: sop-classes -->")[2].partition("<!-- end -->")[0]
    listed = re.findall(r"\| `([0-9.]+)` \|", table)
    assert len(listed) > 150
    for start in range(0, len(listed), 128):
        application_entity = AE(ae_title="SCU")
        for uid in listed[start : start + 128]:
            application_entity.add_requested_context(uid, file_meta.EXPLICIT_VR_LITTLE_ENDIAN)
        association = application_entity.associate(*server.address, ae_title="GATEWAY")
        assert association.rejected_contexts == []
        association.release()
