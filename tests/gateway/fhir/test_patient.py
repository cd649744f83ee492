"""Patient: what is known of one, how it is searched for, and its logical id."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.assembly import Core
from gateway.fhir.patient_ids import LONGEST, PatientIds, PatientKey
from gateway.services.sealing import Sealing
from storage.control.sqlite import SqliteControl
from storage.dicom.matching import Condition
from storage.dicom.matching import matches as satisfies
from tests.gateway.dicomweb.conftest import Client
from tests.gateway.fhir.conftest import get, ids, links, matches
from tests.gateway.fhir.test_imaging_study import lines, put
from tests.instances import data_set, uid

PEOPLE = {
    "ann": {"PatientName": "Gray^Ann^Bea^Dr^MD", "PatientID": "A-1", "PatientBirthDate": "19610703", "PatientSex": "F"},
    "bob": {"PatientName": "Gräf^Bob", "PatientID": "B-1", "IssuerOfPatientID": "HOSPITAL", "PatientSex": "M"},
    "yamada": {
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "PatientID": "Y-1", "IssuerOfPatientID": "1.2.40.0.1",
        "PatientBirthDate": "19700101", "PatientSex": "O", "SpecificCharacterSet": "ISO_IR 192",
    },
    "nobody": {"PatientName": None, "PatientID": None},
}  # fmt: skip


@pytest.fixture
async def people(client: Client) -> dict[str, str]:
    """Patients by name: their logical ids."""
    made = {name: data_set(**{"SpecificCharacterSet": "ISO_IR 192", **of}) for name, of in PEOPLE.items()}
    await put(client, *made.values())
    found = {}
    for name, each in made.items():
        study = await get(client, f"ImagingStudy/{each.StudyInstanceUID}")
        found[name] = study["subject"]["reference"].removeprefix("Patient/")
    return found


async def test_a_patient_is_told_with_all_that_is_known(client: Client, people: dict[str, str]) -> None:
    ann = await get(client, f"Patient/{people['ann']}")
    assert ann["name"] == [
        {
            "use": "official", "text": "Dr Ann Bea Gray MD", "family": "Gray", "given": ["Ann", "Bea"],
            "prefix": ["Dr"], "suffix": ["MD"],
        }
    ]  # fmt: skip
    assert (ann["gender"], ann["birthDate"]) == ("female", "1961-07-03")
    (identifier,) = ann["identifier"]
    assert (identifier["value"], identifier["type"]["coding"][0]["code"], "system" in identifier) == (
        "A-1",
        "MR",
        False,
    )
    bob = await get(client, f"Patient/{people['bob']}")
    assert bob["identifier"][0]["assigner"] == {"display": "HOSPITAL"}
    yamada = await get(client, f"Patient/{people['yamada']}")
    assert yamada["identifier"][0]["system"] == "urn:oid:1.2.40.0.1"
    assert [each["text"] for each in yamada["name"]] == ["Tarou Yamada", "太郎 山田", "たろう やまだ"]
    assert yamada["name"][1]["extension"][0]["valueCode"] == "IDE"
    nobody = await get(client, f"Patient/{people['nobody']}")
    assert nobody == {"resourceType": "Patient", "id": people["nobody"]}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "ann bob yamada nobody"),
        ("_id={ann}", "ann"),
        ("_id={ann},{nobody},A-1", "ann nobody"),
        ("identifier=A-1", "ann"),
        ("identifier=|A-1", "ann"),
        ("identifier=HOSPITAL|B-1", "bob"),
        ("identifier=OTHER|B-1", ""),
        ("identifier=urn:oid:1.2.40.0.1|Y-1", "yamada"),
        ("identifier=A*", ""),
        ("name=gray", "ann"),
        ("name=GRA", "ann bob"),
        ("name=ann", "ann"),
        ("name=be", "ann"),
        ("name=ann gray", "ann"),
        ("name=ray", ""),
        ("name:contains=ray", "ann"),
        ("name=山", "yamada"),
        ("name=gray,bob", "ann bob"),
        ("birthdate=1961-07-03", "ann"),
        ("birthdate=1961", "ann"),
        ("birthdate=ge1961-07-04", "yamada"),
        ("birthdate=lt1970-01-01", "ann"),
        ("gender=female", "ann"),
        ("gender=male,other", "bob yamada"),
        ("gender=http://hl7.org/fhir/administrative-gender|male", "bob"),
        ("gender=unknown", "nobody"),
        ("gender=nonsense", ""),
        ("gender=female&name=bob", ""),
    ],
)
async def test_patients_are_found_by(client: Client, people: dict[str, str], query: str, names: str) -> None:
    asked = "&".join(
        f"{name}={quote(text.format(**people))}"
        for name, _, text in (each.partition("=") for each in query.split("&") if each)
    )
    bundle = await get(client, f"Patient?{asked}")
    assert sorted(ids(bundle)) == sorted(people[each] for each in names.split())
    assert bundle["total"] == len(names.split())
    assert (await get(client, f"Patient?{asked}&_summary=count"))["total"] == len(names.split())


@pytest.mark.filterwarnings("ignore:The value length")
async def test_pages_go_on_after_a_patient_id_that_is_far_too_long(client: Client) -> None:
    long = "B" * 2600  # about what an index of PostgreSQL takes
    await put(client, *(data_set(PatientID=each) for each in ("A", long, "C")))
    found, path = [], "Patient?_count=1"
    while path:
        bundle = await get(client, path)
        found += [each["identifier"][0]["value"] for each in matches(bundle)]
        path = links(bundle).get("next", "")
    assert found == ["A", long, "C"]


async def test_pages_of_patients_follow_each_other(client: Client) -> None:
    await put(client, *(data_set(PatientID=f"P-{number:02}") for number in range(12)))
    path, found = "/fhir/Patient?_count=5", []
    while path:
        bundle = await get(client, path)
        found += [each["identifier"][0]["value"] for each in matches(bundle)]
        path = links(bundle).get("next", "")
        assert "P-0" not in path
    assert found == [f"P-{number:02}" for number in range(12)]


LONG = {
    "issuer": {"PatientID": "123456", "IssuerOfPatientID": "1.2.840.114350.1.13.41.1.7.5.737384.0"},
    "the same of another": {"PatientID": "123456", "IssuerOfPatientID": "1.2.840.114350.1.13.41.1.7.5.737384.1"},
    "id": {"PatientID": "PSEUDONYM-OF-A-LARGE-PROJECT-WITH-LONG-NUMBERS-000001"},
    "the next": {"PatientID": "PSEUDONYM-OF-A-LARGE-PROJECT-WITH-LONG-NUMBERS-000002"},
    "stars": {"PatientID": "*" * 50},
    "letters": {"PatientID": "日本" * 16, "SpecificCharacterSet": "ISO_IR 192"},
}


async def test_a_patient_whose_name_is_long_has_an_id_of_its_own(client: Client) -> None:
    await put(client, *(data_set(**each) for each in LONG.values()))
    found = {each["id"]: each for each in matches(await get(client, "Patient"))}
    assert len(found) == len(LONG)
    for logical_id, each in found.items():
        assert len(logical_id) <= LONGEST
        assert await get(client, f"Patient/{logical_id}") == each
        (study,) = matches(await get(client, f"ImagingStudy?patient={logical_id}"))
        assert study["subject"]["reference"] == f"Patient/{logical_id}"


async def test_ids_tell_nothing_and_stay_when_the_index_is_made_anew(
    client: Client, core: Core, people: dict[str, str]
) -> None:
    for name, logical_id in people.items():
        for word in (each for each in PEOPLE[name].values() if each is not None and len(each) > 2):
            assert word not in logical_id
    again = PatientIds(Sealing(core.control), "main", "")
    assert again.id_of(PatientKey("", "A-1")) == people["ann"]
    for other in (PatientIds(Sealing(core.control), "main", "research"), PatientIds(Sealing(core.control), "b", "")):
        assert other.id_of(PatientKey("", "A-1")) != people["ann"]
        assert not other.is_one(people["ann"])


async def test_who_reads_a_patient_is_on_the_trail_without_the_patients_name(
    client: Client, core: Core, people: dict[str, str]
) -> None:
    await get(client, f"Patient/{people['ann']}")
    await get(client, "Patient/A-1", status=404)
    core.trail.close()
    reads = [each for each in lines(core) if each["action"] == "read" and each["outcome"] == "allowed"]
    assert [each["subject"] for each in reads[-2:]] == [["PATIENT", people["ann"]], ["PATIENT", ""]]


@pytest.fixture(scope="module")
def sealing(tmp_path_factory: pytest.TempPathFactory) -> Sealing:
    return Sealing(SqliteControl(tmp_path_factory.mktemp("control") / "control.sqlite", timeout_s=5.0))


_TEXT = st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=64).map(str.strip)


@given(issuer=_TEXT, patient_id=_TEXT)
def test_every_patient_has_an_id_that_leads_to_it_alone(sealing: Sealing, issuer: str, patient_id: str) -> None:
    of_study = "" if patient_id else uid()
    key = PatientKey("" if of_study else issuer, patient_id, of_study)
    named = PatientIds(sealing, "main", "")
    logical_id = named.id_of(key)
    assert len(logical_id) <= LONGEST
    assert set(logical_id) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")
    others = [PatientKey(f"{issuer}x", patient_id), PatientKey(issuer, f"{patient_id}x"), key]

    def alike(condition: Condition) -> list[PatientKey]:
        found = [each for each in others if satisfies(condition, {"patient_id": each.patient_id or None})]
        assert key in found
        return found

    assert named.key_of(logical_id, alike) == key
    assert named.key_of(logical_id[:-1], alike) is None
    other = PatientKey(f"{key.issuer}y", key.patient_id, key.of_study)
    assert patient_id == "" or named.id_of(other) != logical_id


@pytest.mark.parametrize("study", ["1.2", "0.0.0", "2.25." + "9" * 59, "1" * 62 + ".1"])
def test_the_id_of_a_patient_without_one_holds_its_study(sealing: Sealing, study: str) -> None:
    named = PatientIds(sealing, "main", "")
    logical_id = named.id_of(PatientKey("", "", study))
    assert len(logical_id) <= LONGEST
    assert named.key_of(logical_id, lambda _: []) == PatientKey("", "", study)
