"""What may be negotiated beyond for C-FIND, C-MOVE and C-GET, and what it changes (PS3.4 C.5)."""

from __future__ import annotations

from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from gateway.assembly import Core
from gateway.dimse.server import DimseServer
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from tests.gateway.dimse.test_retrieval import STUDY_GET, get, identifier, put

RELATIONAL, COMBINED, FUZZY, TIMEZONE, EMPTY, MULTIPLE = (
    bytes(int(place == wanted) for place in range(7)) for wanted in (0, 1, 2, 3, 5, 6)
)


def extension(model: str, asked: bytes) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = model, asked
    return item


def find(server: DimseServer, asked: bytes | None, level: str, model: str = STUDY_ROOT_FIND, **keys: Any) -> Any:
    """The final status, and the matches."""
    application_entity = AE(ae_title="FINDSCU")
    application_entity.add_requested_context(model)
    items = [] if asked is None else [extension(model, asked)]
    association = application_entity.associate(*server.address, ae_title="GATEWAY", ext_neg=items)
    assert association.is_established
    found = list(association.send_c_find(identifier(level, **keys), model))
    association.release()
    return found[-1][0].Status, [each for _, each in found if each is not None]


@claim("A10", "A11")
@pytest.mark.parametrize(
    ("model", "asked", "accepted"),
    [
        (STUDY_ROOT_FIND, b"\1\1\1\1\1\1\1", b"\1\1\1\1\0\1\1"),
        (PATIENT_ROOT_FIND, b"\0\0\1", b"\0\0\1"),
        (STUDY_ROOT_FIND, b"\1" * 20, b"\1\1\1\1\0\1\1"),
        (STUDY_GET, b"\1\1", b"\1\0"),
        ("1.2.840.10008.1.1", b"\1", None),
    ],
)
def test_as_much_is_accepted_as_is_known(server: DimseServer, model: str, asked: bytes, accepted: bytes | None) -> None:
    application_entity = AE(ae_title="FINDSCU")
    application_entity.add_requested_context(model)
    association = application_entity.associate(*server.address, ae_title="GATEWAY", ext_neg=[extension(model, asked)])
    assert association.is_established
    assert association.acceptor.sop_class_extended.get(model) == accepted
    association.release()


@claim("G5")
def test_relational_queries_need_no_keys_of_the_levels_above(server: DimseServer, core: Core) -> None:
    stored = put(core, instances.data_set(Modality="MR"))
    keys = {"Modality": "MR", "StudyInstanceUID": "", "SeriesInstanceUID": ""}
    assert find(server, None, "SERIES", **keys)[0] == 0xA900
    assert find(server, FUZZY, "SERIES", **keys)[0] == 0xA900
    status, (found,) = find(server, RELATIONAL, "SERIES", **keys)
    assert (status, found.StudyInstanceUID) == (0x0000, stored.StudyInstanceUID)
    status, (found,) = find(server, RELATIONAL, "IMAGE", SOPInstanceUID=stored.SOPInstanceUID, PatientID="")
    assert (status, found.PatientID) == (0x0000, stored.PatientID)


@claim("G16")
def test_names_are_matched_by_their_sound_when_that_was_negotiated(server: DimseServer, core: Core) -> None:
    put(core, instances.data_set(PatientName="Meier^Hans"))
    assert find(server, None, "STUDY", PatientName="Meyer")[1] == []
    assert len(find(server, FUZZY, "STUDY", PatientName="Meyer")[1]) == 1


@claim("G9")
def test_date_and_time_are_one_range_when_that_was_negotiated(server: DimseServer, core: Core) -> None:
    put(core, instances.data_set(StudyDate="20260102", StudyTime="030000"))
    keys = {"StudyDate": "20260101-20260103", "StudyTime": "100000-120000"}
    assert find(server, None, "STUDY", **keys)[1] == []
    assert len(find(server, COMBINED, "STUDY", **keys)[1]) == 1


@claim("G18")
def test_dates_are_in_the_time_zone_of_the_query(server: DimseServer, core: Core) -> None:
    put(core, instances.data_set(StudyDate="20260101", StudyTime="233000", TimezoneOffsetFromUTC="+0000"))
    keys = {"StudyDate": "20260102", "TimezoneOffsetFromUTC": "+0200"}
    assert len(find(server, TIMEZONE, "STUDY", **keys)[1]) == 1
    assert find(server, TIMEZONE, "STUDY", **{**keys, "TimezoneOffsetFromUTC": "+0000"})[1] == []


@claim("G17")
def test_empty_values_are_matched_when_that_was_negotiated(server: DimseServer, core: Core) -> None:
    put(core, instances.data_set(AccessionNumber="", PatientID="WITHOUT"))
    put(core, instances.data_set(AccessionNumber="A1", PatientID="WITH"))
    _, found = find(server, EMPTY, "STUDY", AccessionNumber='""', PatientID="")
    assert [each.PatientID for each in found] == ["WITHOUT"]


@claim("A11")
def test_what_is_retrieved_needs_no_keys_of_the_levels_above_when_that_was_negotiated(
    server: DimseServer, core: Core
) -> None:
    stored = put(core, instances.data_set())
    put(core, instances.data_set(StudyInstanceUID=stored.StudyInstanceUID))
    wanted = identifier("SERIES", SeriesInstanceUID=stored.SeriesInstanceUID)
    assert get(server, wanted)[0][-1][0].Status == 0xA900
    responses, received = get(server, wanted, extended=[extension(STUDY_GET, RELATIONAL)])
    assert responses[-1][0].Status == 0x0000
    assert [each.SOPInstanceUID for each in received] == [stored.SOPInstanceUID]
