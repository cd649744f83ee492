"""QIDO-RS: every kind of matching (PS3.4 C.2.2.2, PS3.18 8.3.4)."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import pytest_asyncio
from pydicom.dataset import Dataset

from gateway.config import Settings
from gateway.config.serving import SearchSettings
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_qido import get, names
from tests.instances import data_set, part10_file, uid


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"search": SearchSettings(max_inspected=50)})


async def keep(client: Client, *found: Dataset) -> None:
    assert (await store(client, *[part10_file(each) for each in found]))[0] == 200


def code(value: str, scheme: str = "99TEST", meaning: str = "") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning or value
    return item


def request_of(step: str, procedure: str, accession: str | None = None) -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = step, procedure
    if accession is not None:
        item.AccessionNumber = accession
    return item


@pytest_asyncio.fixture
async def moments(client: Client) -> None:
    """Four studies from the evening of July 4 to the night of July 7, 2006."""
    await keep(
        client,
        data_set(PatientID="4-late", StudyDate="20060704", StudyTime="2300"),
        data_set(PatientID="5-early", StudyDate="20060705", StudyTime="0900"),
        data_set(PatientID="6-late", StudyDate="20060706", StudyTime="235959.5"),
        data_set(PatientID="6-sometime", StudyDate="20060706", StudyTime=None),
        data_set(PatientID="7-late", StudyDate="20060707", StudyTime="1900"),
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("StudyDate=20060705-20060707&StudyTime=1000-1800", {"6-late", "6-sometime"}),
        ("StudyDate=20060705-&StudyTime=0900-", {"5-early", "6-late", "6-sometime", "7-late"}),
        ("StudyDate=-20060705&StudyTime=-0900", {"4-late", "5-early"}),
        ("StudyDate=20060704-20060705&StudyTime=2300-0859", {"4-late"}),
        # Not of the same form: each for itself.
        ("StudyDate=20060705-20060707&StudyTime=1800-", {"6-late", "7-late"}),
        ("StudyDate=20060707&StudyTime=1800-2000", {"7-late"}),
        ("StudyDate=20060707&StudyTime=190000", {"7-late"}),
        ("StudyTime=1800-", {"4-late", "6-late", "7-late"}),
    ],
)
async def test_ranges_of_date_and_time_are_one_range(
    client: Client, moments: None, query: str, expected: set[str]
) -> None:
    assert await names(client, query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # 22:30 and 23:00 in UTC on July 5.
        ("StudyDate=20060706&TimezoneOffsetFromUTC=%2B0200", {"berlin", "new-york", "unsaid"}),
        ("StudyDate=20060706&TimezoneOffsetFromUTC=%2B0100", {"new-york", "unsaid"}),
        ("StudyDate=20060705&TimezoneOffsetFromUTC=%2B0000", {"berlin", "new-york"}),
        ("StudyDate=20060705&00080201=-0500", {"berlin", "new-york"}),
        ("StudyDate=20060706&TimezoneOffsetFromUTC=-0500", {"unsaid"}),
        ("StudyDate=20060705-20060705&StudyTime=2230-2230&TimezoneOffsetFromUTC=%2B0000", {"berlin"}),
        ("StudyDate=20060705&StudyTime=1800&TimezoneOffsetFromUTC=-0500", {"new-york"}),
        ("TimezoneOffsetFromUTC=%2B0200", {"berlin", "new-york", "unsaid"}),
    ],
)
async def test_a_time_zone_in_the_query_is_that_of_its_dates_and_times(
    client: Client, query: str, expected: set[str]
) -> None:
    await keep(
        client,
        data_set(PatientID="berlin", StudyDate="20060706", StudyTime="003000", TimezoneOffsetFromUTC="+0200"),
        data_set(PatientID="new-york", StudyDate="20060705", StudyTime="180000", TimezoneOffsetFromUTC="-0500"),
        data_set(PatientID="unsaid", StudyDate="20060706", StudyTime="003000"),
    )
    assert await names(client, query) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20060706", {"midnight"}),
        ("20060705-20060706", {"midnight", "offset"}),
        ("20060706-", {"midnight"}),
        ("-20060705", {"offset"}),
        ("20060705223000+0000", {"offset"}),
        ("20060706003000+0200", {"offset"}),
        ("2006070518-0500-2006070519-0500", {"midnight"}),
        ("20060705173000-0500", {"offset"}),
        ("2006", set()),
        ("2006-2006", {"midnight", "offset"}),
    ],
)
async def test_date_times_are_matched_by_the_moment(client: Client, value: str, expected: set[str]) -> None:
    await keep(
        client,
        data_set(PatientID="midnight", AcquisitionDateTime="20060706"),
        data_set(PatientID="offset", AcquisitionDateTime="20060706003000+0200"),
    )
    assert await names(client, f"AcquisitionDateTime={quote(value, safe='')}") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("muller^zoe", {"mueller"}),
        ("Mueller", {"mueller"}),
        ("Zoë^Müller", {"mueller"}),
        ("Müller^Z", {"mueller"}),
        ("Mul*", {"mueller"}),
        ("Meyer", {"maier"}),
        ("Mayr^H", {"maier"}),
        ("Kathryn", {"catherine"}),
        ("*atherin*", {"catherine"}),
        ("Smyth^John", {"smith"}),
        ("John^Smith", {"smith"}),
        ("Smith^Peter", set()),
        ("山田", {"yamada"}),
        ("やまだ^たろう", {"yamada"}),
        ("Jonson", set()),
    ],
)
async def test_fuzzy_matching_knows_sounds_initials_accents_and_order(
    client: Client, value: str, expected: set[str]
) -> None:
    await keep(
        client,
        *(
            data_set(PatientID=identifier, PatientName=name, SpecificCharacterSet="ISO_IR 192")
            for identifier, name in (
                ("mueller", "Müller^Zoë"),
                ("maier", "Maier^Hans^Peter"),
                ("catherine", "Doe^Catherine"),
                ("smith", "Smith^J"),
                ("yamada", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
            )
        ),
    )
    assert await names(client, f"fuzzymatching=true&PatientName={quote(value)}") == expected


async def test_without_fuzzymatching_names_are_matched_literally(client: Client) -> None:
    await keep(client, data_set(PatientID="maier", PatientName="Maier^Hans"))
    assert await names(client, "PatientName=Meyer*") == set()
    assert await names(client, "fuzzymatching=false&PatientName=Hans^Maier") == set()


async def test_empty_values_are_found_when_asked_for(client: Client) -> None:
    await keep(
        client,
        data_set(PatientID="none", AccessionNumber=None, StudyDescription="a", BodyPartExamined="HEAD"),
        data_set(PatientID="empty", AccessionNumber="", ReferringPhysicianName=""),
        data_set(PatientID="some", AccessionNumber="A1", ReferringPhysicianName="Doe", RequestingService="R"),
    )
    on = "emptyvaluematching=true&"
    assert await names(client, on + "AccessionNumber=%22%22") == {"none", "empty"}
    assert await names(client, on + "ReferringPhysicianName=%22%22") == {"none", "empty"}
    assert await names(client, on + "00321033=%22%22") == {"none", "empty"}
    assert await names(client, on + "00081032=%22%22") == {"none", "empty", "some"}
    assert await names(client, on + "BodyPartExamined=%22%22") == {"empty", "some"}
    assert await names(client, "AccessionNumber=%22%22") == set()


async def test_several_values_have_to_be_there_all_when_asked_for(client: Client) -> None:
    both, only = uid(), uid()
    await keep(
        client,
        data_set(PatientID="both", StudyInstanceUID=both, Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]),
        data_set(PatientID="both", StudyInstanceUID=both, Modality="PT"),
        data_set(PatientID="only", StudyInstanceUID=only, Modality="CT", ImageType=["DERIVED", "PRIMARY"]),
    )
    assert await names(client, "ModalitiesInStudy=CT%5CPT") == {"both", "only"}
    assert await names(client, "multiplevaluematching=true&ModalitiesInStudy=CT%5CPT") == {"both"}
    assert await names(client, "multiplevaluematching=true&ImageType=PRIMARY%5CORIGINAL") == {"both"}
    assert await names(client, "ImageType=PRIMARY") == {"both", "only"}
    status, _, _ = await get(client, "/studies?multiplevaluematching=true&ImageType=PRIM*%5CORIGINAL")
    assert status == 400


async def test_long_lists_are_matched_or_refused_but_never_a_fault(client: Client) -> None:
    await keep(client, data_set(PatientID="ct", Modality="CT"))
    codes = ",".join(f"M{n}" for n in range(900))
    assert await names(client, f"ModalitiesInStudy={codes},CT") == {"ct"}
    assert await names(client, f"StudyInstanceUID={','.join(f'1.{n}' for n in range(900))}") == set()
    deep = "&".join(f"0040{n:04X}=a*" for n in range(0x100, 0x120))
    assert (await get(client, f"/studies?{deep}"))[0] in (200, 204, 400)


async def test_modalities_and_sop_classes_in_study_match_by_wildcard_and_list(client: Client) -> None:
    await keep(client, data_set(PatientID="ct", Modality="CT"), data_set(PatientID="mr", Modality="MR"))
    assert await names(client, "ModalitiesInStudy=C*") == {"ct"}
    assert await names(client, "SOPClassesInStudy=1.2.840.10008.5.1.4.1.1.2,1.2") == {"ct", "mr"}
    assert await names(client, "SOPClassesInStudy=1.2") == set()


async def test_keys_of_one_sequence_match_in_one_and_the_same_item(client: Client) -> None:
    await keep(
        client,
        data_set(PatientID="a", RequestAttributesSequence=[request_of("S1", "R1", "X1"), request_of("S2", "R2", "X2")]),
        data_set(PatientID="b", RequestAttributesSequence=[request_of("S1", "R2")]),
    )
    step, procedure, accession = "00400275.00400009", "00400275.00401001", "00400275.00080050"
    assert await names(client, f"{step}=S2") == {"a"}
    assert await names(client, f"{step}=S1&{procedure}=R2") == {"b"}
    assert await names(client, f"{step}=S2&{procedure}=R2") == {"a"}
    assert await names(client, f"{step}=S?&RequestAttributesSequence.RequestedProcedureID=R1") == {"a"}
    # Together with a key that has no index, still in the same item.
    assert await names(client, f"{step}=S1&{accession}=X1") == {"a"}
    assert await names(client, f"{step}=S2&{accession}=X1") == set()
    assert await names(client, f"emptyvaluematching=true&{step}=S1&{accession}=%22%22") == {"b"}
    status, found, _ = await get(client, f"/series?{step}=S2")
    assert status == 200
    assert len(found) == 1


async def test_any_attribute_of_the_metadata_is_matched(client: Client) -> None:
    anatomic = code("T-A0100", "SRT")
    anatomic.AnatomicRegionModifierSequence = [code("L", "SRT"), code("R", "SRT")]
    await keep(
        client,
        data_set(
            PatientID="a",
            PixelSpacing=[0.5, 0.5],
            KVP="120",
            OperatorsName=["Roe^Ann", "Müller^Bo"],
            SpecificCharacterSet="ISO_IR 192",
            AnatomicRegionSequence=[anatomic],
            InstanceCreationDate="20260105",
            FrameIncrementPointer=0x00181063,
            RealWorldValueMappingSequence=None,
        ),
        data_set(PatientID="b", PixelSpacing=[0.25, 0.5], KVP="80.0", OperatorsName="Loe^Al"),
    )
    for query, expected in (
        ("PixelSpacing=0.50", {"a", "b"}),
        ("00280030=0.25", {"b"}),
        ("KVP=80", {"b"}),
        ("KVP=120.0", {"a"}),
        ("Rows=4", {"a", "b"}),
        ("Rows=5", set()),
        ("OperatorsName=muller*", {"a"}),
        ("OperatorsName=L*", {"b"}),
        ("OperatorsName=Mueller&fuzzymatching=true", {"a"}),
        ("InstanceCreationDate=20260101-20260131", {"a"}),
        ("AnatomicRegionSequence.CodeValue=T-A0100", {"a"}),
        ("00082218.00080100=T-A01*&00082218.00080102=SRT", {"a"}),
        ("AnatomicRegionSequence.AnatomicRegionModifierSequence.CodeValue=R", {"a"}),
        ("AnatomicRegionSequence.AnatomicRegionModifierSequence.CodeValue=X", set()),
        ("KVP=120&PatientID=b", set()),
        ("KVP=120&Modality=CT", {"a"}),
        ("KVP=120&Modality=MR", set()),
        ("FrameIncrementPointer=00181063", {"a"}),
    ):
        assert await names(client, query) == expected, query
    for path in ("/series", "/instances"):
        status, found, headers = await get(client, f"{path}?KVP=120")
        assert (status, len(found), headers["X-Total-Count"]) == (200, 1, "1")


async def test_private_attributes_are_found_in_whatever_block_their_creator_has(client: Client) -> None:
    found = []
    for identifier, blocks in (("first", ["ACME 1"]), ("second", ["OTHER", "ACME 1"]), ("other", ["OTHER"])):
        one = data_set(PatientID=identifier)
        for creator in blocks:
            one.private_block(0x0009, creator, create=True).add_new(0x02, "LO", f"{creator} value")
        if identifier != "other":
            one.private_block(0x0009, "ACME 1").add_new(0x03, "DS", "1.50")
        found.append(one)
    await keep(client, *found)
    creator = "00090010=ACME%201"
    assert await names(client, f"00091002=ACME%201%20value&{creator}") == {"first", "second"}
    assert await names(client, f"00091002=ACME*&{creator}&PatientID=second") == {"second"}
    assert await names(client, f"00091003=1.5&{creator}") == {"first", "second"}
    assert await names(client, "00094202=OTHER%20value&00090042=OTHER") == {"second", "other"}
    assert await names(client, creator) == {"first", "second"}
    _, (result,), _ = await get(client, f"/instances?PatientID=second&includefield=00091002&{creator}")
    assert result["00090011"]["Value"] == ["ACME 1"]
    assert result["00091102"]["Value"] == ["ACME 1 value"]


async def test_looking_into_more_instances_than_allowed_is_413_and_says_what_to_do(client: Client) -> None:
    study = uid()
    await keep(client, *(data_set(StudyInstanceUID=study, PatientID="many", KVP="1") for _ in range(51)))
    await keep(client, data_set(PatientID="few", KVP="2"))
    status, problem, _ = await get(client, "/studies?KVP=1")
    assert status == 413
    assert "narrow the search" in problem["detail"]
    assert await names(client, "KVP=2&PatientID=few") == {"few"}
    assert (await get(client, "/studies?PatientID=many"))[0] == 200


async def test_what_cannot_be_matched_is_named_in_a_warning(client: Client) -> None:
    await keep(client, data_set())
    _, _, headers = await get(client, "/studies?NumberOfStudyRelatedInstances=7")
    assert headers["Warning"].endswith("not matched: NumberOfStudyRelatedInstances (0020,1208)")
