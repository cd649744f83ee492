"""Conformance statement 4.6: Search (QIDO-RS)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom.dataset import Dataset

from tests.conformance.claims import claim
from tests.conformance.conftest import Web, instance_path, parts
from tests.instances import data_set, uid
from tests.serving import Gateway

JSON = "application/dicom+json"
STUDY_KEYS = (
    *("00080020", "00080030", "00080050", "00080056", "00080061", "00080090", "00081190", "00100010", "00100020"),
    *("00100030", "00100040", "0020000D", "00200010", "00201206", "00201208"),
)
SERIES_KEYS = ("00080060", "0008103E", "00081190", "0020000E", "00200011", "00201209", "00400244", "00400245")
INSTANCE_KEYS = ("00080016", "00080018", "00080056", "00081190", "00200013", "00280010", "00280011", "00280100")


def item(**attributes: Any) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def of(patient_id: str, **attributes: Any) -> Dataset:
    """An instance of a patient that no other test knows."""
    return data_set(PatientID=patient_id, **attributes)


def matches(web: Web, found: Dataset, level: str = "studies", **query: str) -> bool:
    """Whether a search within the instance's study finds it."""
    answer = web.get(f"/{level}", StudyInstanceUID=found.StudyInstanceUID, **query)
    assert answer.status_code in (200, 204), answer.text
    return answer.status_code == 200


@pytest.fixture(scope="module")
def one(web: Web) -> Dataset:
    """An instance with something to match at every level."""
    private = Dataset()
    private.add_new(0x00091001, "LO", "of ours")
    step = item(ScheduledProcedureStepID="SPS1", RequestedProcedureID="RP1")
    other = item(ScheduledProcedureStepID="SPS2", RequestedProcedureID="RP2")
    found = data_set(
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Müller^Jürgen",
        PatientID="Abc-1",
        AccessionNumber="ACC7",
        SeriesNumber=7,
        SeriesDescription="Thorax",
        StudyDate="20260102",
        StudyTime="230000",
        TimezoneOffsetFromUTC="+0000",
        KVP=120,
        RequestAttributesSequence=[step, other],
        PerformedProcedureStepStartDate="20260102",
        PerformedProcedureStepStartTime="231500",
    )
    block = found.private_block(0x0009, "OURS", create=True)
    block.add_new(0x02, "LO", "secret")
    web.store(found)
    return found


@claim("Q1")
def test_the_six_paths_of_the_standard(web: Web, one: Dataset) -> None:
    study, series = instance_path(one, "study"), instance_path(one, "series")
    key = {"StudyInstanceUID": one.StudyInstanceUID}
    for path in ("/studies", "/series", "/instances"):
        assert len(web.get(path, **key).json()) == 1
    for path in (f"{study}/series", f"{study}/instances", f"{series}/instances"):
        assert len(web.get(path).json()) == 1


@claim("Q2", "Q3")
def test_patients_and_counts(web: Web, one: Dataset) -> None:
    (patient,) = web.get("/patients", PatientID="Abc-1").json()
    assert patient["00100020"]["Value"] == ["Abc-1"]
    assert "00081190" not in patient
    for path in ("/patients", "/studies", "/series", "/instances"):
        assert web.get(f"{path}/count", PatientID="Abc-1").json() == {"count": 1}


@claim("Q4")
def test_attributes_by_keyword_tag_and_dotted_path(web: Web, one: Dataset) -> None:
    for name in ("AccessionNumber", "00080050"):
        assert matches(web, one, **{name: "ACC7"})
        assert not matches(web, one, **{name: "ACC8"})
    for name in ("RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009"):
        assert matches(web, one, "series", **{name: "SPS1"})
        assert not matches(web, one, "series", **{name: "SPS9"})


@claim("Q5")
def test_includefield_by_keyword_tag_path_and_list(web: Web, one: Dataset) -> None:
    path = f"{instance_path(one, 'series')}/instances"
    query = "?includefield=KVP,00080070&includefield=00400275.00400009"
    (found,) = web.get(path + query).json()
    assert found["00180060"]["Value"] == [120]
    assert {"00400009"} <= set(found["00400275"]["Value"][0])
    assert "00180060" not in web.get(path).json()[0]


@claim("Q6", "Q31", "Q33")
def test_pages_by_limit_and_offset_fit_and_say_what_remains(web: Web) -> None:
    web.store(*(of("Pages-1", StudyDate=f"2026010{day}") for day in range(1, 6)))
    whole = [each["00080020"]["Value"][0] for each in web.get("/studies", PatientID="Pages-1").json()]
    assert whole == [f"2026010{day}" for day in range(5, 0, -1)]
    paged: list[str] = []
    for offset in range(0, 5, 2):
        answer = web.get("/studies", PatientID="Pages-1", limit=2, offset=offset)
        paged += [each["00080020"]["Value"][0] for each in answer.json()]
        remaining = 5 - offset - 2
        assert ("Warning" in answer.headers) == (remaining > 0)
        if remaining > 0:
            assert answer.headers["Warning"].startswith("299 ")
            assert f"There are {remaining} additional results that can be requested" in answer.headers["Warning"]
    assert paged == whole
    assert len(web.get("/studies", limit=10**8).json()) <= 1000


@claim("Q7")
@pytest.mark.parametrize(
    "query",
    ["NoSuch=1", "0010001=1", "StudyDate=yesterday", "limit=-1", "fuzzymatching=maybe", "PatientID=a&00100020=b"],
)
def test_what_is_out_of_form_is_400(web: Web, query: str) -> None:
    assert web.get(f"/studies?{query}").status_code == 400


@claim("Q8")
def test_the_same_value_twice_is_taken(web: Web, one: Dataset) -> None:
    key = f"StudyInstanceUID={one.StudyInstanceUID}"
    assert len(web.get(f"/studies?{key}&{key}").json()) == 1


@claim("Q9")
def test_an_attribute_without_an_index_is_matched(web: Web, one: Dataset) -> None:
    assert matches(web, one, KVP="120")
    assert not matches(web, one, KVP="80")


@claim("Q10")
def test_text_is_matched_with_case_and_names_without_case_and_accents(web: Web, one: Dataset) -> None:
    assert matches(web, one, PatientName="muller^JURGEN")
    assert not matches(web, one, PatientID="abc-1")


@claim("Q11")
def test_numbers_are_matched_by_value(web: Web, one: Dataset) -> None:
    assert matches(web, one, "series", SeriesNumber="007")
    assert matches(web, one, KVP="120.0")


@claim("Q12")
@pytest.mark.parametrize("separator", [",", "\\"])
def test_lists_of_uids(web: Web, one: Dataset, separator: str) -> None:
    uids = separator.join((uid(), one.StudyInstanceUID))
    assert [each["0020000D"]["Value"] for each in web.get("/studies", StudyInstanceUID=uids).json()] == [
        [one.StudyInstanceUID]
    ]


@claim("Q13")
def test_wildcards(web: Web, one: Dataset) -> None:
    for pattern in ("A*", "Abc-?", "*c-1"):
        assert matches(web, one, PatientID=pattern)
    assert not matches(web, one, PatientID="a*")
    assert matches(web, one, PatientName="MUL*")


@claim("Q14")
def test_ranges(web: Web, one: Dataset) -> None:
    for value in ("20260101-20260103", "20260102-", "-20260102"):
        assert matches(web, one, StudyDate=value)
    assert not matches(web, one, StudyDate="20260103-")


@claim("Q15")
def test_a_date_and_its_time_are_one_range(web: Web, one: Dataset) -> None:
    # 23:00 lies outside of 10:00 to 11:00, but between the two moments.
    assert matches(web, one, StudyDate="20260101-20260103", StudyTime="100000-110000")
    assert not matches(web, one, StudyDate="20260102-20260103", StudyTime="233000-235900")


@claim("Q16")
def test_the_time_zone_of_a_query(web: Web, one: Dataset) -> None:
    # 23:00 UTC is the next day at +0200.
    assert matches(web, one, StudyDate="20260103", StudyTime="010000", TimezoneOffsetFromUTC="+0200")
    assert not matches(web, one, StudyDate="20260102", StudyTime="230000", TimezoneOffsetFromUTC="+0200")


@claim("Q17")
def test_keys_of_a_sequence_match_in_one_item(web: Web, one: Dataset) -> None:
    both = {"00400275.00400009": "SPS1", "00400275.00401001": "RP1"}
    assert matches(web, one, "series", **both)
    assert not matches(web, one, "series", **{**both, "00400275.00401001": "RP2"})


@claim("Q18")
def test_private_attributes_need_their_creator(web: Web, one: Dataset) -> None:
    assert matches(web, one, "instances", **{"00090010": "OURS", "00091002": "secret"})
    assert not matches(web, one, "instances", **{"00090010": "OTHERS", "00091002": "secret"})
    assert web.get("/instances", **{"00091002": "secret"}).status_code == 400


@claim("Q19")
def test_fuzzy_matching_of_names(web: Web, one: Dataset) -> None:
    assert matches(web, one, PatientName="Mueler", fuzzymatching="true")
    assert not matches(web, one, PatientName="Mueler")
    assert not matches(web, one, PatientName="Schmidt", fuzzymatching="true")


@claim("Q20")
def test_empty_value_matching(web: Web, one: Dataset) -> None:
    assert matches(web, one, StudyDescription='""', emptyvaluematching="true")
    assert not matches(web, one, AccessionNumber='""', emptyvaluematching="true")


@claim("Q21")
def test_multiple_value_matching(web: Web) -> None:
    ct = of("Multi-1")
    web.store(ct, of("Multi-1", StudyInstanceUID=ct.StudyInstanceUID, Modality="PT"))
    assert matches(web, ct, ModalitiesInStudy="CT\\PT", multiplevaluematching="true")
    assert not matches(web, ct, ModalitiesInStudy="CT\\MR", multiplevaluematching="true")
    assert matches(web, ct, ModalitiesInStudy="CT\\MR")


@claim("Q22")
def test_keys_that_are_not_matched_are_named_in_a_warning(web: Web, one: Dataset) -> None:
    answer = web.get("/studies", StudyInstanceUID=one.StudyInstanceUID, NumberOfStudyRelatedSeries="9")
    assert answer.status_code == 200
    assert "NumberOfStudyRelatedSeries" in answer.headers["Warning"]


@claim("Q23", "Q24")
def test_results_have_the_required_keys_and_those_of_the_levels_above(web: Web, one: Dataset) -> None:
    key = {"StudyInstanceUID": one.StudyInstanceUID}
    (study,) = web.get("/studies", **key).json()
    (series,) = web.get("/series", **key).json()
    (instance,) = web.get("/instances", **key).json()
    assert set(STUDY_KEYS) | {"00080201"} <= set(study)
    assert "Value" not in study["00080090"]
    requests_ = series["00400275"]["Value"]
    assert {"00400009", "00401001"} <= set(requests_[0])
    assert {*STUDY_KEYS, *SERIES_KEYS} - {"00080056", "00081190"} <= set(series)
    assert {*STUDY_KEYS, *SERIES_KEYS, *INSTANCE_KEYS} - {"00080056"} <= set(instance)
    for found, level in ((study, "study"), (series, "series"), (instance, "instance")):
        assert found["00081190"]["Value"] == [web.root + instance_path(one, level)]


@claim("Q25")
def test_attributes_of_a_lower_level_are_left_out(web: Web, one: Dataset) -> None:
    query = {"StudyInstanceUID": one.StudyInstanceUID, "includefield": "00080060,00080018,00200013"}
    (study,) = web.get("/studies", **query).json()
    assert {"00080060", "00080018", "00200013"} & set(study) == set()


@claim("Q26")
def test_all_adds_everything(web: Web, one: Dataset) -> None:
    (instance,) = web.get("/instances", StudyInstanceUID=one.StudyInstanceUID, includefield="all").json()
    assert {"00180060", "00280004", "00091002"} <= set(instance)
    assert "7FE00010" not in instance or "Value" not in instance["7FE00010"]


@claim("Q27")
def test_answers_in_json_and_xml(web: Web, one: Dataset) -> None:
    key = {"StudyInstanceUID": one.StudyInstanceUID}
    for name in (JSON, "application/json"):
        assert web.get("/studies", name, **key).headers["Content-Type"] == name
    ((head, body),) = parts(web.get("/studies", 'multipart/related; type="application/dicom+xml"', **key))
    assert head["Content-Type"].startswith("application/dicom+xml")
    assert b"<NativeDicomModel" in body
    assert one.StudyInstanceUID.encode() in body


@claim("Q28")
def test_no_result_is_204(web: Web) -> None:
    answer = web.get("/studies", StudyInstanceUID=uid())
    assert (answer.status_code, answer.content) == (204, b"")


@claim("Q29")
def test_no_result_is_200_where_it_is_set_so(tmp_path: Path) -> None:
    settings = {"GATEWAY_HTTP__QIDO_EMPTY": "200", "GATEWAY_HTTP__WORKERS": "1", "GATEWAY_DIMSE__WORKERS": "1"}
    gateway = Gateway(tmp_path / "data", tmp_path / "gateway.log", **settings)
    gateway.start()
    answer = requests.get(f"{gateway.web}/studies", timeout=30)
    assert (answer.status_code, answer.json()) == (200, [])
    assert gateway.stop() == 0


@claim("Q30")
def test_x_total_count_is_of_all_pages(web: Web) -> None:
    web.store(*(of("Total-1") for _ in range(3)))
    answer = web.get("/studies", PatientID="Total-1", limit=1)
    assert (len(answer.json()), answer.headers["X-Total-Count"]) == (1, "3")
    assert "X-Total-Count-Relation" not in answer.headers


@claim("Q32")
def test_a_search_is_304_while_nothing_has_changed(web: Web) -> None:
    web.store(of("Etag-1"))
    known = {"If-None-Match": web.get("/studies", PatientID="Etag-1").headers["ETag"]}
    assert web.get("/studies", headers=known, PatientID="Etag-1").status_code == 304
    web.store(of("Etag-1"))
    assert web.get("/studies", headers=known, PatientID="Etag-1").status_code == 200


@claim("Q34", "Q35")
def test_a_snapshot_leaves_out_what_came_later(web: Web) -> None:
    web.store(of("Snap-1"))
    snapshot = web.get("/studies", PatientID="Snap-1").headers["X-Snapshot"]
    web.store(of("Snap-1"))
    assert len(web.get("/studies", PatientID="Snap-1").json()) == 2
    assert len(web.get("/studies", PatientID="Snap-1", snapshot=snapshot).json()) == 1
    assert web.get("/patients", snapshot=snapshot).status_code == 400
    assert web.get("/studies", PatientID="Snap-1", KVP="120", snapshot=snapshot).status_code == 400
    assert web.get("/studies", snapshot="0123456789abcdef-1").status_code == 400
