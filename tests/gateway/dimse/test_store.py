"""C-STORE: one test for each way in which it can go."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import assembly
from gateway.access.door import Door
from gateway.assembly import Core
from gateway.config import Settings
from gateway.dimse.server import DimseServer
from gateway.services.ingest import IngestService
from storage.dicom import file_meta
from storage.dicom.identifiers import StudyUid, Tenant
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import StorageUnavailable
from storage.index.arrivals import Conflict, Conflicts
from storage.index.questions import Target
from storage.index.stored import Located
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import Engine, Serve, eventually, with_engines
from tests.raw_scu import RawScu

CT = instances.CT
EXPLICIT = file_meta.EXPLICIT_VR_LITTLE_ENDIAN


def located(core: Core, study_uid: str) -> list[Located]:
    return list(core.archive.index.locate(Target(Tenant("main"), StudyUid(study_uid)), EVERYTHING))


def kept(core: Core, study_uid: str) -> bytes:
    """The bytes of the only instance of a study, as they lie in the object store."""
    [only] = located(core, study_uid)
    return core.archive.objects.get(only.object_key)


@pytest.fixture
def scu(server: DimseServer) -> Iterator[RawScu]:
    with RawScu(server.address, CT, EXPLICIT) as opened:
        yield opened


@claim("B2")
def test_an_instance_is_kept_byte_for_byte_and_findable(scu: RawScu, core: Core) -> None:
    found = instances.data_set()
    sent = instances.encode(found)
    response = scu.store(found.SOPInstanceUID, sent)
    assert response is not None
    assert response.Status == 0x0000
    stored = kept(core, found.StudyInstanceUID)
    meta, offset, _ = file_meta.read(io.BytesIO(stored), Limits())
    assert stored[offset:] == sent
    assert (meta.sending_ae_title, meta.receiving_ae_title, meta.transfer_syntax_uid) == (
        "RAW_SCU",
        "GATEWAY",
        EXPLICIT,
    )


def test_many_instances_of_one_association_are_kept(scu: RawScu, core: Core) -> None:
    study = instances.uid()
    for number in range(5):
        found = instances.data_set(StudyInstanceUID=study, InstanceNumber=number)
        response = scu.store(found.SOPInstanceUID, instances.encode(found))
        assert response is not None
        assert response.Status == 0x0000
    assert len(located(core, study)) == 5


@claim("B3")
def test_sending_again_succeeds_and_keeps_one(scu: RawScu, core: Core) -> None:
    found = instances.data_set()
    for _ in range(2):
        response = scu.store(found.SOPInstanceUID, instances.encode(found))
        assert response is not None
        assert response.Status == 0x0000
    kept(core, found.StudyInstanceUID)


@claim("X4")
@pytest.mark.parametrize("sop_class_uid", ["1.2.840.113619.4.30", "1.2.840.10008.5.1.4.1.1.9999"])
def test_private_and_unknown_sop_classes_are_stored(server: DimseServer, core: Core, sop_class_uid: str) -> None:
    found = instances.data_set(SOPClassUID=sop_class_uid)
    with RawScu(server.address, sop_class_uid, EXPLICIT) as scu:
        response = scu.store(found.SOPInstanceUID, instances.encode(found))
    assert response is not None
    assert response.Status == 0x0000
    assert kept(core, found.StudyInstanceUID)


@claim("B11")
def test_a_data_set_that_cannot_be_read_is_not_understood(scu: RawScu, core: Core) -> None:
    found = instances.data_set()
    response = scu.store(found.SOPInstanceUID, instances.encode(found)[:-3])
    assert response is not None
    assert response.Status == 0xC000
    assert response.ErrorComment
    assert located(core, found.StudyInstanceUID) == []


def test_a_missing_uid_is_named(scu: RawScu) -> None:
    found = instances.data_set(StudyInstanceUID=None)
    response = scu.store(found.SOPInstanceUID, instances.encode(found))
    assert response is not None
    assert response.Status == 0xC000
    assert response.OffendingElement == 0x0020000D


@claim("B9")
def test_another_instance_than_the_command_set_says_does_not_match(scu: RawScu) -> None:
    found = instances.data_set()
    response = scu.store("1.2.3.4.5", instances.encode(found))
    assert response is not None
    assert response.Status == 0xA900
    assert response.OffendingElement == 0x00080018


@claim("B10")
def test_another_sop_class_than_the_context_does_not_match(scu: RawScu) -> None:
    found = instances.data_set()
    response = scu.store(found.SOPInstanceUID, instances.encode(found), sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
    assert response is not None
    assert response.Status == 0xA900


def test_a_request_without_a_data_set_is_not_understood(scu: RawScu) -> None:
    response = scu.store("1.2.3.4", None)
    assert response is not None
    assert response.Status == 0xC000


@claim("B5")
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_an_invalid_instance_uid_is_refused(scu: RawScu) -> None:
    found = instances.data_set()
    response = scu.store("not-a-uid", instances.encode(found))
    assert response is not None
    assert response.Status == 0x0117


def test_a_request_without_an_instance_uid_aborts(scu: RawScu) -> None:
    assert scu.store("", instances.encode(instances.data_set())) is None
    scu.association.join(30)
    assert scu.association.is_aborted


@claim("B8")
def test_an_instance_that_is_too_long_is_out_of_resources(scu: RawScu, core: Core) -> None:
    found = instances.data_set(PixelData=bytes(core.spool.max_bytes))
    response = scu.store(found.SOPInstanceUID, instances.encode(found))
    assert response is not None
    assert response.Status == 0xA700


def test_a_data_set_without_an_end_aborts(server: DimseServer, scu: RawScu) -> None:
    assert scu.store("1.2.3.4", bytes(20 << 20)) is None
    scu.association.join(30)
    assert scu.association.is_aborted
    eventually(lambda: server.active == 0)


def test_a_peer_that_aborts_midway_leaves_nothing(server: DimseServer, core: Core, scu: RawScu) -> None:
    found = instances.data_set(PixelData=bytes(900_000))
    core.spool.memory_bytes = 0
    scu.send_beginning(found.SOPInstanceUID, instances.encode(found))
    eventually(lambda: any(core.spool.directory.iterdir()))
    scu.association.abort()
    eventually(lambda: server.active == 0)
    assert list(core.spool.directory.iterdir()) == []
    assert located(core, found.StudyInstanceUID) == []


def test_stopping_midway_leaves_nothing(core: Core, serve: Serve) -> None:
    found = instances.data_set(PixelData=bytes(900_000))
    core.spool.memory_bytes = 0
    with serve(core) as server, RawScu(server.address, CT, EXPLICIT) as scu:
        scu.send_beginning(found.SOPInstanceUID, instances.encode(found))
        eventually(lambda: any(core.spool.directory.iterdir()))
        server.stop(0.0)
        assert list(core.spool.directory.iterdir()) == []


@claim("B7")
def test_a_store_that_is_down_is_out_of_resources(core: Core, serve: Serve) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("the bucket does not answer")

    found = instances.data_set()
    broken = with_engines(core, objects=Engine(core.archive.objects, put=down))
    with serve(broken) as server, RawScu(server.address, CT, EXPLICIT) as scu:
        response = scu.store(found.SOPInstanceUID, instances.encode(found))
    assert response is not None
    assert response.Status == 0xA700
    assert located(core, found.StudyInstanceUID) == []
    assert list(core.spool.directory.iterdir()) == []


@claim("B7")
def test_an_index_that_is_down_after_the_object_was_written_is_out_of_resources(core: Core, serve: Serve) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("the index does not answer")

    found = instances.data_set()
    broken = with_engines(core, index=Engine(core.archive.index, commit=down))
    with serve(broken) as server, RawScu(server.address, CT, EXPLICIT) as scu:
        response = scu.store(found.SOPInstanceUID, instances.encode(found))
        assert response is not None
        assert response.Status == 0xA700
    assert len(list(core.archive.objects.list(""))) == 1
    with serve(core) as server, RawScu(server.address, CT, EXPLICIT) as scu:
        again = scu.store(found.SOPInstanceUID, instances.encode(found))
    assert again is not None
    assert again.Status == 0x0000
    assert list(core.spool.directory.iterdir()) == []


@claim("B13")
def test_a_defect_is_a_processing_failure(core: Core, serve: Serve) -> None:
    def defect(*_: Any, **__: Any) -> None:
        raise KeyError("Doe^Jane")

    found = instances.data_set()
    broken = with_engines(core, index=Engine(core.archive.index, holds=defect))
    with serve(broken) as server, RawScu(server.address, CT, EXPLICIT) as scu:
        response = scu.store(found.SOPInstanceUID, instances.encode(found))
    assert response is not None
    assert response.Status == 0x0110
    assert "Doe" not in str(response.ErrorComment)


@claim("B12")
def test_a_known_uid_in_another_study_is_quarantined(scu: RawScu) -> None:
    found = instances.data_set()
    assert scu.store(found.SOPInstanceUID, instances.encode(found))
    elsewhere = instances.data_set(SOPInstanceUID=found.SOPInstanceUID)
    response = scu.store(found.SOPInstanceUID, instances.encode(elsewhere))
    assert response is not None
    assert response.Status == 0xC001


@claim("B4")
def test_other_content_is_a_duplicate_where_the_tenant_keeps_the_first(core: Core, serve: Serve) -> None:
    rejecting = dataclasses.replace(
        core, ingest=IngestService(core.archive, core.door, core.limits, Conflicts(Conflict.REJECT), core.room)
    )
    found = instances.data_set()
    with serve(rejecting) as server, RawScu(server.address, CT, EXPLICIT) as scu:
        assert scu.store(found.SOPInstanceUID, instances.encode(found))
        found.PatientComments = "other"
        response = scu.store(found.SOPInstanceUID, instances.encode(found))
    assert response is not None
    assert response.Status == 0x0111


@claim("B6")
@pytest.mark.parametrize(
    ("actions", "scope", "expected"),
    [
        ('["store"]', '{ Modality = ["CT"] }', 0x0000),
        ('["store"]', '{ Modality = ["MR"] }', 0x0124),
        ('["echo"]', '{ Modality = ["CT"] }', 0x0124),
    ],
)
def test_only_what_the_policy_allows_is_stored(
    core: Core, settings: Settings, serve: Serve, actions: str, scope: str, expected: int
) -> None:
    file = settings.storage.directory / "policy.toml"
    file.write_text(
        f'[[principal]]\nname = "ct"\nkind = "ae"\nae_title = "RAW_SCU"\nactions = {actions}\nscope = {scope}\n'
    )
    door = Door(file, core.trail)
    limited = dataclasses.replace(
        core, door=door, ingest=IngestService(core.archive, door, core.limits, Conflicts(), core.room)
    )
    found = instances.data_set()
    with serve(limited) as server, RawScu(server.address, CT, EXPLICIT) as scu:
        response = scu.store(found.SOPInstanceUID, instances.encode(found))
    assert response is not None
    assert response.Status == expected


def test_a_modality_decides_once_for_the_association(scu: RawScu, core: Core) -> None:
    study = instances.uid()
    for _ in range(3):
        found = instances.data_set(StudyInstanceUID=study)
        assert scu.store(found.SOPInstanceUID, instances.encode(found))
    [file] = assembly.audit_directory(core.settings).glob("*.jsonl")
    lines = file.read_text().splitlines()
    assert sum('"allowed"' in line for line in lines) == 1
    assert sum('"stored"' in line for line in lines) == 3
