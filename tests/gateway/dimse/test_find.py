"""C-FIND: matching, levels, what comes back, and how it ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_FIND

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.dimse.server import DimseServer
from storage.dicom import file_meta
from storage.errors import StorageUnavailable
from storage.index.questions import Search
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import PATIENT_ROOT_FIND, STUDY_ROOT_FIND, Engine, Serve, find, with_engines
from tests.raw_scu import RawScu


def store(server: DimseServer, *found: Dataset) -> None:
    with RawScu(server.address, instances.CT, file_meta.EXPLICIT_VR_LITTLE_ENDIAN) as scu:
        for each in found:
            response = scu.store(each.SOPInstanceUID, instances.encode(each))
            assert response is not None
            assert response.Status == 0x0000


def statuses(found: list[tuple[Dataset, Dataset | None]]) -> list[int]:
    return [each.Status for each, _ in found]


def matches(found: list[tuple[Dataset, Dataset | None]]) -> list[Dataset]:
    return [identifier for _, identifier in found if identifier is not None]


@pytest.fixture
def study(server: DimseServer) -> Dataset:
    """Two series of two instances; the data set of the last."""
    first = instances.data_set(StudyDescription="Head")
    series = instances.uid()
    store(
        server,
        first,
        instances.data_set(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID),
        instances.data_set(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=series, Modality="MR"),
    )
    last = instances.data_set(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=series, Modality="MR")
    store(server, last)
    return last


@claim("G2", "G12")
def test_a_study_comes_back_with_exactly_the_keys_asked_for(server: DimseServer, study: Dataset) -> None:
    found = find(
        server,
        QueryRetrieveLevel="STUDY",
        StudyInstanceUID=study.StudyInstanceUID,
        PatientName="test*",
        StudyDate="20251231-20260102",
        ModalitiesInStudy="",
        NumberOfStudyRelatedInstances="",
    )
    assert statuses(found) == [0xFF00, 0x0000]
    [only] = matches(found)
    assert {element.keyword for element in only} == {
        "QueryRetrieveLevel",
        "RetrieveAETitle",
        "InstanceAvailability",
        "StudyInstanceUID",
        "PatientName",
        "StudyDate",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedInstances",
    }
    assert only.PatientName == "Test^Patient"
    assert sorted(only.ModalitiesInStudy) == ["CT", "MR"]
    assert only.NumberOfStudyRelatedInstances == 4
    assert only.RetrieveAETitle == "GATEWAY"
    assert only.QueryRetrieveLevel == "STUDY"


def test_nothing_that_matches_is_success(server: DimseServer) -> None:
    assert statuses(find(server, QueryRetrieveLevel="STUDY", PatientID="nobody")) == [0x0000]


@claim("G3")
def test_series_and_images_are_found_below_their_unique_keys(server: DimseServer, study: Dataset) -> None:
    series = find(
        server, QueryRetrieveLevel="SERIES", StudyInstanceUID=study.StudyInstanceUID, SeriesInstanceUID="", Modality=""
    )
    assert sorted(each.Modality for each in matches(series)) == ["CT", "MR"]
    images = find(
        server,
        QueryRetrieveLevel="IMAGE",
        StudyInstanceUID=study.StudyInstanceUID,
        SeriesInstanceUID=study.SeriesInstanceUID,
        SOPInstanceUID="",
        Rows=None,
    )
    assert len(matches(images)) == 2
    assert all(each.Rows == 4 for each in matches(images))


@claim("G1")
def test_a_patient_is_found_in_the_patient_root(server: DimseServer, study: Dataset) -> None:
    found = find(
        server,
        PATIENT_ROOT_FIND,
        QueryRetrieveLevel="PATIENT",
        PatientID=study.PatientID,
        PatientName="",
        NumberOfPatientRelatedStudies="",
    )
    [only] = matches(found)
    assert (only.PatientName, only.NumberOfPatientRelatedStudies) == ("Test^Patient", 1)
    below = find(server, PATIENT_ROOT_FIND, QueryRetrieveLevel="STUDY", PatientID=study.PatientID, StudyInstanceUID="")
    assert [each.StudyInstanceUID for each in matches(below)] == [study.StudyInstanceUID]


@claim("G6")
def test_a_list_of_uids_matches_each(server: DimseServer) -> None:
    some = [instances.data_set(PatientID=f"L{number}") for number in range(3)]
    store(server, *some)
    wanted = [each.StudyInstanceUID for each in some[:2]]
    found = find(server, QueryRetrieveLevel="STUDY", StudyInstanceUID=wanted)
    assert sorted(each.StudyInstanceUID for each in matches(found)) == sorted(wanted)


@claim("G13")
def test_a_key_that_is_not_supported_comes_back_empty_with_a_warning(server: DimseServer, study: Dataset) -> None:
    found = find(
        server, QueryRetrieveLevel="STUDY", StudyInstanceUID=study.StudyInstanceUID, StudyDescription="", Modality=""
    )
    assert statuses(found) == [0xFF01, 0x0000]
    [only] = matches(found)
    assert only.StudyDescription in (None, "", "Head")
    assert not only.Modality


@claim("G7")
def test_a_sequence_key_matches_and_comes_back_with_its_own_keys(server: DimseServer) -> None:
    request = Dataset()
    request.ScheduledProcedureStepID = "SPS-7"
    request.RequestedProcedureID = "RP-7"
    request.ScheduledProcedureStepDescription = "not asked for"
    stored = instances.data_set(RequestAttributesSequence=[request])
    store(server, stored)
    wanted = Dataset()
    wanted.ScheduledProcedureStepID = "SPS-7"
    wanted.RequestedProcedureID = ""
    keys: dict[str, Any] = {"StudyInstanceUID": stored.StudyInstanceUID, "RequestAttributesSequence": [wanted]}
    [only] = matches(find(server, QueryRetrieveLevel="SERIES", **keys))
    [item] = only.RequestAttributesSequence
    assert item.RequestedProcedureID == "RP-7"
    assert "ScheduledProcedureStepDescription" not in item
    wanted.ScheduledProcedureStepID = "SPS-8"
    assert matches(find(server, QueryRetrieveLevel="SERIES", **keys)) == []


@claim("G10")
def test_an_attribute_without_an_index_is_matched_and_comes_back(server: DimseServer) -> None:
    stored = instances.data_set(KVP="120", PatientID="K1")
    store(server, stored, instances.data_set(KVP="80", PatientID="K2"))
    found = find(server, QueryRetrieveLevel="STUDY", KVP="120.0", PatientID="", StudyDate="20260101-20260101")
    assert statuses(found) == [0xFF00, 0x0000]
    [only] = matches(found)
    assert (only.PatientID, only.KVP) == ("K1", 120)


@claim("G7")
def test_keys_of_a_sequence_match_in_one_item(server: DimseServer) -> None:
    items = []
    for number in (1, 2):
        item = Dataset()
        item.ScheduledProcedureStepID, item.RequestedProcedureID = f"S{number}", f"R{number}"
        items.append(item)
    stored = instances.data_set(RequestAttributesSequence=items)
    store(server, stored)
    for procedure, expected in (("R2", 1), ("R1", 0)):
        wanted = Dataset()
        wanted.ScheduledProcedureStepID, wanted.RequestedProcedureID = "S2", procedure
        keys: dict[str, Any] = {"StudyInstanceUID": stored.StudyInstanceUID, "RequestAttributesSequence": [wanted]}
        assert len(matches(find(server, QueryRetrieveLevel="SERIES", SeriesInstanceUID="", **keys))) == expected


@claim("G11")
def test_looking_into_too_many_instances_is_out_of_resources(settings: Settings, serve: Serve) -> None:
    narrow = settings.model_copy(update={"search": settings.search.model_copy(update={"max_inspected": 2})})
    core = assembly.build(narrow, "test")
    with serve(core) as server:
        store(server, *(instances.data_set(KVP="120") for _ in range(3)))
        assert statuses(find(server, QueryRetrieveLevel="STUDY", KVP="120")) == [0xA700]
    core.close()


@claim("G8")
def test_dates_and_times_are_matched_apart(server: DimseServer) -> None:
    store(server, instances.data_set(StudyDate="20260102", StudyTime="230000"))
    keys = {"QueryRetrieveLevel": "STUDY", "StudyDate": "20260101-20260103", "StudyInstanceUID": ""}
    assert len(matches(find(server, StudyTime="220000-235959", **keys))) == 1
    assert matches(find(server, StudyTime="100000-180000", **keys)) == []


@claim("G4")
@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (STUDY_ROOT_FIND, {}),
        (STUDY_ROOT_FIND, {"QueryRetrieveLevel": "PATIENT"}),
        (STUDY_ROOT_FIND, {"QueryRetrieveLevel": "FRAME"}),
        (STUDY_ROOT_FIND, {"QueryRetrieveLevel": "SERIES"}),
        (STUDY_ROOT_FIND, {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": ["1.2", "1.3"]}),
        (STUDY_ROOT_FIND, {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2"}),
        (STUDY_ROOT_FIND, {"QueryRetrieveLevel": "STUDY", "StudyDate": "-"}),
        (PATIENT_ROOT_FIND, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2"}),
    ],
)
def test_an_identifier_that_is_not_of_the_model_is_refused(
    server: DimseServer, model: str, keys: dict[str, Any]
) -> None:
    [(answer, _)] = find(server, model, **{"PatientName": "", **keys})
    assert answer.Status == 0xA900
    assert answer.ErrorComment


@claim("G31")
def test_the_element_at_fault_is_named(server: DimseServer) -> None:
    [(answer, _)] = find(server, QueryRetrieveLevel="SERIES", Modality="")
    assert answer.OffendingElement == 0x0020000D


def ask_raw(server: DimseServer, identifier: bytes) -> int | None:
    application_entity = AE(ae_title="FINDSCU")
    application_entity.add_requested_context(STUDY_ROOT_FIND, [file_meta.EXPLICIT_VR_LITTLE_ENDIAN])
    association = application_entity.associate(*server.address, ae_title="GATEWAY")
    context = association.accepted_contexts[0].context_id
    assert context is not None
    import io

    request = C_FIND()
    request.MessageID = 1
    request.AffectedSOPClassUID = STUDY_ROOT_FIND
    request.Priority = 2
    request.Identifier = io.BytesIO(identifier)
    association._reactor_checkpoint.clear()
    while not association._is_paused and association.is_alive():
        association._reactor_checkpoint.wait(0.001)
    association.dimse.send_msg(request, context)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    if response is None:
        association.join(30)
        return None
    association.release()
    assert isinstance(response, C_FIND)
    return response.Status


@claim("G28")
@pytest.mark.parametrize(
    "identifier",
    [b"garbage", b"\x08\x00\x52\x00CS\xff\x7fSTUDY", b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 200],
)
def test_an_identifier_that_cannot_be_read_is_not_processed(server: DimseServer, identifier: bytes) -> None:
    assert ask_raw(server, identifier) == 0xC001


def test_an_identifier_of_many_elements_is_not_processed(server: DimseServer) -> None:
    element = b"\x09\x00\x10\x00LO\x00\x00"
    assert ask_raw(server, element * 10_001) in (0xC001, 0xA900)


def test_an_identifier_without_an_end_aborts(server: DimseServer) -> None:
    assert ask_raw(server, bytes(1 << 20)) is None


@claim("G14")
def test_more_matches_than_are_given_is_out_of_resources(settings: Settings, serve: Serve) -> None:
    dimse = settings.dimse.model_copy(update={"max_matches": 2})
    core = assembly.build(settings.model_copy(update={"dimse": dimse}), "test")
    with serve(core) as server:
        store(server, *(instances.data_set(PatientID=f"M{number}") for number in range(3)))
        assert statuses(find(server, QueryRetrieveLevel="STUDY", PatientID="M*")) == [0xA700]
        assert statuses(find(server, QueryRetrieveLevel="STUDY", PatientID="M1")) == [0xFF00, 0x0000]
    core.close()


def test_a_large_result_comes_in_blocks_without_gaps(
    server: DimseServer, core: Core, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.dimse.find._BLOCK", 2)
    some = [instances.data_set(PatientID="BLOCKS") for _ in range(5)]
    store(server, *some)
    found = matches(find(server, QueryRetrieveLevel="STUDY", PatientID="BLOCKS", StudyInstanceUID=""))
    assert sorted(each.StudyInstanceUID for each in found) == sorted(each.StudyInstanceUID for each in some)


COMMAND_FIELD_OF_CANCEL = b"\0\0\0\x01\x02\0\0\0\xff\x0f"


@claim("G15")
def test_a_cancel_ends_the_matches(server: DimseServer, core: Core, serve: Serve) -> None:
    store(server, *(instances.data_set(PatientID=f"C{number}") for number in range(3)))
    searching, cancelled = threading.Event(), threading.Event()

    def page(search: Search, *total: int) -> Any:
        # The request is being served; wait until the cancel that follows it has arrived.
        searching.set()
        assert cancelled.wait(30)
        return core.archive.index.page(search, *total)

    def sent(event: evt.Event) -> None:
        if COMMAND_FIELD_OF_CANCEL in event.data:
            cancelled.set()

    with serve(with_engines(core, index=Engine(core.archive.index, page=page))) as slow:
        application_entity = AE(ae_title="FINDSCU")
        application_entity.add_requested_context(STUDY_ROOT_FIND)
        handlers: list[Any] = [(evt.EVT_DATA_SENT, sent)]
        association = application_entity.associate(*slow.address, ae_title="GATEWAY", evt_handlers=handlers)
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "STUDY"
        identifier.PatientID = "C*"
        responses = association.send_c_find(identifier, STUDY_ROOT_FIND, msg_id=7)
        assert searching.wait(30)
        association.send_c_cancel(7, query_model=STUDY_ROOT_FIND)
        assert statuses(list(responses)) == [0xFE00]
        association.release()


@claim("G29")
def test_an_index_that_is_down_is_out_of_resources(core: Core, serve: Serve) -> None:
    def down(*_: Any) -> None:
        raise StorageUnavailable("the index does not answer")

    with serve(with_engines(core, index=Engine(core.archive.index, page=down))) as server:
        assert statuses(find(server, QueryRetrieveLevel="STUDY", PatientID="")) == [0xA700]


@claim("G30")
def test_a_defect_is_unable_to_process(core: Core, serve: Serve) -> None:
    def defect(*_: Any) -> None:
        raise KeyError("Doe^Jane")

    with serve(with_engines(core, index=Engine(core.archive.index, page=defect))) as server:
        [(answer, _)] = find(server, QueryRetrieveLevel="STUDY", PatientID="")
    assert answer.Status == 0xC000
    assert "Doe" not in str(answer)


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@claim("G19")
@pytest.mark.parametrize(
    ("name", "asked_in", "answered_in"),
    [
        ("Doe^Jane", None, None),
        ("Doe^Jane", "ISO_IR 100", "ISO_IR 100"),
        ("Müller^Jürgen", "ISO_IR 100", "ISO_IR 100"),
        ("Müller^Jürgen", None, "ISO_IR 192"),
        ("Διονυσιος", "ISO_IR 126", "ISO_IR 126"),
        ("Διονυσιος", "ISO_IR 100", "ISO_IR 192"),
        (JAPANESE, ["", "ISO 2022 IR 87"], ["", "ISO 2022 IR 87"]),
        (JAPANESE, "ISO_IR 100", "ISO_IR 192"),
        (JAPANESE, "ISO_IR 13", "ISO_IR 192"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ISO_IR 13", "ISO_IR 13"),
        ("Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"], ["", "ISO 2022 IR 149"]),
        ("Wang^XiaoDong=王^小东", "GB18030", "GB18030"),
        ("Müller^Jürgen", "ISO_IR 999", "ISO_IR 192"),
    ],
)
def test_answers_are_in_the_requestors_character_set_where_it_holds_them(
    server: DimseServer, name: str, asked_in: Any, answered_in: Any
) -> None:
    stored = instances.data_set(SpecificCharacterSet="ISO_IR 192", PatientName=name)
    store(server, stored)
    keys: dict[str, Any] = {"StudyInstanceUID": stored.StudyInstanceUID, "PatientName": ""}
    if asked_in != "ISO_IR 999" and asked_in is not None:
        keys["SpecificCharacterSet"] = asked_in
    if asked_in == "ISO_IR 999":
        from pydicom.dataelem import DataElement
        from pydicom.tag import Tag

        keys["SpecificCharacterSet"] = DataElement(Tag(0x00080005), "CS", "ISO_IR 999").value
        with pytest.warns(UserWarning, match="Unknown encoding"):
            [only] = matches(find(server, QueryRetrieveLevel="STUDY", **keys))
    else:
        [only] = matches(find(server, QueryRetrieveLevel="STUDY", **keys))
    assert only.get("SpecificCharacterSet") == answered_in
    assert str(only.PatientName) == name


@claim("G20")
def test_names_are_matched_in_the_requestors_character_set(server: DimseServer) -> None:
    store(server, instances.data_set(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jürgen", PatientID="U1"))
    found = find(
        server, QueryRetrieveLevel="STUDY", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^*", PatientID=""
    )
    assert [each.PatientID for each in matches(found)] == ["U1"]
