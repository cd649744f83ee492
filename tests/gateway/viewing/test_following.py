"""A view keeps up with its archive, and shows nothing of whom it is about."""

from __future__ import annotations

import datetime
import io
import json
import tracemalloc
from typing import Any, cast

import pydicom
import pytest
from pydicom.dataset import Dataset

from gateway import assembly
from gateway.assembly import Core
from gateway.config.views import ViewSettings
from gateway.context import command_line
from gateway.errors import InvalidParameter
from gateway.services.erase import EraseService
from gateway.viewing import contents, patients
from gateway.viewing.following import Follower
from gateway.viewing.patients import Patient
from gateway.viewing.review import Review
from storage import reconcile
from storage.archive import Archive
from storage.control.relational_steps import RelationalSteps
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING
from storage.errors import StorageUnavailable
from storage.index.base import Index
from storage.index.questions import Search, Target
from tests import instances
from tests.gateway.dicomweb.conftest import Client, store

VIEW = "/views/research/dicomweb"
MAIN = ids.Tenant("main")
PERSON = {
    "PatientName": "Gray^Ann",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19610703",
    "AccessionNumber": "ACC-99",
    "ReferringPhysicianName": "House^Gregory",
    "InstitutionName": "Princeton Plainsboro",
    "StudyDescription": "CT thorax of Ann Gray",
    "StudyDate": "20260101",
}


def steps_of(core: Core) -> RelationalSteps:
    """Its procedure steps."""
    return RelationalSteps(assembly.control(core.settings))


def of_person(**attributes: Any) -> Dataset:
    return instances.data_set(**{**PERSON, **attributes})


async def put(client: Client, *data_sets: Dataset) -> None:
    status, answer = await store(client, *(instances.part10_file(each) for each in data_sets))
    assert status == 200, answer


async def search(client: Client, path: str, **query: str) -> list[dict[str, Any]]:
    async with client.get(f"{VIEW}/{path}", params=query) as response:
        assert response.status in (200, 204), await response.text()
        return await response.json(content_type=None) if response.status == 200 else []


def value(found: dict[str, Any], tag: str) -> Any:
    return found[tag].get("Value", [None])[0]


async def test_what_is_stored_appears_in_the_view_in_pseudonyms_only(client: Client, follower: Follower) -> None:
    stored = of_person()
    await put(client, stored)
    assert await search(client, "studies") == []
    report = follower.follow()
    assert (report.made, report.gone, report.withheld) == (1, 0, 0)
    (found,) = await search(client, "studies", includefield="StudyDescription")
    text = json.dumps(found)
    for each in ("Gray", "Ann", "MRN-4711", "19610703", "ACC-99", "House", "Princeton", stored.StudyInstanceUID):
        assert each not in text
    assert value(found, "00081030") == "CT thorax of ***"
    assert value(found, "00080020") != "20260101"
    study = value(found, "0020000D")
    async with client.get(f"{VIEW}/studies/{study}/metadata") as response:
        (metadata,) = await response.json(content_type=None)
    assert value(metadata, "00120062") == "YES"
    assert f"{VIEW}/studies/{study}" in value(found, "00081190")
    assert value(metadata, "7FE00010") is None
    bulk = metadata["7FE00010"]["BulkDataURI"]
    async with client.get(bulk[bulk.index(VIEW) :]) as response:
        assert response.status == 200
        assert stored.PixelData in await response.read()
    assert [each async for each in _frames(client, study, metadata)] == [stored.PixelData]


async def _frames(client: Client, study: str, metadata: dict[str, Any]) -> Any:
    path = f"{VIEW}/studies/{study}/series/{value(metadata, '0020000E')}/instances/{value(metadata, '00080018')}"
    async with client.get(f"{path}/frames/1", headers={"Accept": "application/octet-stream"}) as response:
        assert response.status == 200
        yield await response.read()


async def test_nothing_that_is_pseudonymous_is_found_as_stored_and_nothing_stored_in_the_view(
    client: Client, follower: Follower
) -> None:
    stored = of_person()
    await put(client, stored)
    follower.follow()
    assert await search(client, "studies", PatientName="Gray*") == []
    assert await search(client, "studies", PatientID="MRN-4711") == []
    assert await search(client, "studies", StudyInstanceUID=stored.StudyInstanceUID) == []
    async with client.get(f"{VIEW}/studies/{stored.StudyInstanceUID}/metadata") as response:
        assert response.status == 404
    (found,) = await search(client, "studies")
    async with client.get(f"/dicomweb/studies/{value(found, '0020000D')}/metadata") as response:
        assert response.status == 404


async def test_another_instance_of_the_patient_is_the_same_patient_with_its_interval_kept(
    client: Client, follower: Follower
) -> None:
    await put(client, of_person(), of_person(StudyDate="20260111"), of_person(PatientID="other"))
    follower.follow()
    found = await search(client, "studies")
    assert len(found) == 3
    assert len({value(each, "00100020") for each in found}) == 2
    dates = [
        datetime.date.fromisoformat(value(each, "00080020"))
        for each in found
        if [value(other, "00100020") for other in found].count(value(each, "00100020")) == 2
    ]
    assert abs((dates[0] - dates[1]).days) == 10


async def test_what_is_deleted_is_gone_from_the_view_and_what_is_restored_comes_back(
    client: Client, follower: Follower
) -> None:
    stored = of_person()
    await put(client, stored)
    follower.follow()
    (found,) = await search(client, "studies")
    study = value(found, "0020000D")
    async with client.delete(f"/dicomweb/studies/{stored.StudyInstanceUID}") as response:
        assert response.status == 204
    assert follower.follow().gone == 1
    assert await search(client, "studies") == []
    async with client.get(f"{VIEW}/studies/{study}/metadata") as response:
        assert response.status == 410
    async with client.get("/dicomweb/deletions") as response:
        (deletion,) = await response.json()
    async with client.post(f"/dicomweb/deletions/{deletion['id']}/undo") as response:
        assert response.status == 200
    assert follower.follow().made == 1
    assert [value(each, "0020000D") for each in await search(client, "studies")] == [study]


async def test_a_new_version_takes_the_place_of_the_old_one(client: Client, follower: Follower) -> None:
    stored = of_person(SeriesDescription="first")
    await put(client, stored)
    follower.follow()
    stored.SeriesDescription = "second"
    await put(client, stored)
    follower.follow()
    (series,) = await search(client, "series")
    assert value(series, "0008103E") == "second"


async def test_a_name_that_a_later_study_teaches_cleans_what_an_earlier_one_says(
    client: Client, follower: Follower
) -> None:
    await put(client, of_person(StudyDescription="compare with Smith"))
    follower.follow()
    (found,) = await search(client, "studies", includefield="StudyDescription")
    assert value(found, "00081030") == "compare with Smith"
    await put(client, of_person(OtherPatientNames="Smith^Ann", StudyDescription="second"))
    follower.follow()
    texts = {value(each, "00081030") for each in await search(client, "studies", includefield="StudyDescription")}
    assert texts == {"compare with ***", "second"}


class Failing:
    """An index of which one operation fails once: the engine was gone for a moment."""

    def __init__(self, index: Index, operation: str) -> None:
        self._index = index
        self._operation = operation

    def __getattr__(self, name: str) -> Any:
        if name == self._operation:
            self._operation = ""
            raise StorageUnavailable("the index is away")
        return getattr(self._index, name)


@pytest.mark.parametrize("operation", ["erase", "commit"])
async def test_what_was_learned_before_a_round_broke_off_is_still_looked_for_in_the_next(
    client: Client, core: Core, follower: Follower, operation: str
) -> None:
    """Before the earlier study was taken out, and before it was made anew."""
    await put(client, of_person(StudyDescription="compare with Smith"), of_person(StudyDescription="third"))
    follower.follow()
    await put(client, of_person(OtherPatientNames="Smith^Ann", StudyDescription="second"))
    shown = core.views["research"]
    failing = Archive(shown.objects, cast(Index, Failing(shown.index, operation)), core.limits)
    broken = assembly.view_follower(core.settings, "research", core.archive, failing, core.pool)
    with pytest.raises(StorageUnavailable):
        broken.follow()
    follower.follow()
    texts = {value(each, "00081030") for each in await search(client, "studies", includefield="StudyDescription")}
    assert texts == {"compare with ***", "second", "third"}
    assert (follower.follow().made, follower.follow().studies) == (0, 0)


async def test_of_whom_too_much_is_known_nothing_is_shown_until_it_is_erased(
    client: Client, core: Core, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of it comes together: what is not looked for could stand in any text."""
    monkeypatch.setattr(patients, "MOST_KNOWN", 6)
    first, other, picture = of_person(), of_person(PatientID="other"), of_person(Modality="US")
    await put(client, first, other, picture)
    follower.follow()
    assert len(await search(client, "studies")) == 2
    many = "\\".join(f"{name}^X" for name in ("Anton", "Berta", "Caesar"))
    await put(client, of_person(OperatorsName=many))
    await put(client, of_person(StudyDescription="seen by Caesar"))
    report = follower.follow()
    assert (report.made, report.withheld) == (0, 3)
    (left,) = await search(client, "studies")
    assert value(left, "00100020") == Patient("", "other", "").pseudonymous(follower.definition).id
    listed = [each for each in core.views["research"].index.quarantined(MAIN) if "Modality is US" not in each.reason]
    assert {each.reason for each in listed} == {"too many names are known of its patient to be looked for"}
    assert len(listed) == 3
    await put(client, of_person())
    assert follower.follow().withheld == 1
    review = Review(core.views["research"], follower, core.trail)
    with pytest.raises(InvalidParameter, match="only what may have text burned in"):
        review.release(command_line("test"), first.SOPInstanceUID, "looked at it")
    with pytest.raises(InvalidParameter, match="withheld all the same: too many names are known"):
        review.release(command_line("test"), picture.SOPInstanceUID, "looked at it")
    erasers = list(assembly.view_erasers(core.settings, MAIN, core.archive.objects))
    EraseService(core.archive, core.trail, steps_of(core), (), erasers).erase(
        command_line("test"), MAIN, reconcile.Patient("", "MRN-4711")
    )
    await put(client, of_person())
    assert follower.follow().made == 1
    assert len(await search(client, "studies")) == 2
    for each in erasers:
        each.close()


async def test_all_of_whom_too_much_is_known_goes_also_when_the_round_breaks_off(
    client: Client, core: Core, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patients, "MOST_KNOWN", 6)
    await put(client, of_person(), of_person())
    follower.follow()
    await put(client, of_person(OperatorsName="Anton^Berta^Caesar^Dora"))
    shown = core.views["research"]
    failing = Archive(shown.objects, cast(Index, Failing(shown.index, "quarantine")), core.limits)
    broken = assembly.view_follower(core.settings, "research", core.archive, failing, core.pool)
    with pytest.raises(StorageUnavailable):
        broken.follow()
    follower.follow()
    assert await search(client, "studies") == []
    assert len(shown.index.quarantined(MAIN)) == 3


async def test_what_the_archive_lost_while_nobody_followed_is_taken_out_page_by_page(
    client: Client, core: Core, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive has another index than before, so no change tells of it."""
    monkeypatch.setattr(contents, "_PAGE", 2)
    stored = [of_person(PatientID=str(number)) for number in range(5)]
    await put(client, *stored)
    follower.follow()
    view = core.views["research"]
    shown = [follower.definition.uid(each.StudyInstanceUID) for each in stored]
    for each in stored[1:4]:
        async with client.delete(f"/dicomweb/studies/{each.StudyInstanceUID}") as response:
            assert response.status == 204
    # Of one that is still there the view's own object is lost: what it was made of cannot be told.
    (located,) = view.index.locate(Target(MAIN, ids.StudyUid(shown[4])), EVERYTHING)
    view.objects.delete(located.object_key)
    notes = assembly.view_notes(follower.definition, core.archive.objects)
    place, revision = notes.read("place")
    assert notes.write("place", {**place, "source": "the index before"}, revision)
    report = follower.follow()
    assert (report.gone, report.made) == (3, 1)
    assert {value(each, "0020000D") for each in await search(client, "studies")} == {shown[0], shown[4]}
    assert view.objects.get(view.index.locate(Target(MAIN, ids.StudyUid(shown[4])), EVERYTHING)[0].object_key)
    async with client.get(f"{VIEW}/studies/{shown[2]}/metadata") as response:
        assert response.status == 410


async def test_what_may_have_text_burned_in_is_withheld_and_listed(
    client: Client, core: Core, follower: Follower
) -> None:
    stored = of_person(Modality="US")
    await put(client, stored)
    assert follower.follow().withheld == 1
    assert await search(client, "studies") == []
    (listed,) = core.views["research"].index.quarantined(core.settings.views["research"].tenant)  # type: ignore[arg-type]
    assert listed.key.sop_uid == stored.SOPInstanceUID
    assert "Modality is US" in listed.reason
    assert follower.follow().withheld == 0


async def test_a_view_follows_from_the_beginning_when_its_rows_are_lost(
    client: Client, core: Core, follower: Follower
) -> None:
    await put(client, of_person(), of_person())
    assert follower.follow().made == 2
    again = follower.follow()
    assert (again.made, again.studies) == (0, 0)


async def test_the_whole_instance_is_a_file_that_pydicom_reads(client: Client, follower: Follower) -> None:
    await put(client, of_person())
    follower.follow()
    (found,) = await search(client, "studies")
    async with client.get(
        f"{VIEW}/studies/{value(found, '0020000D')}",
        headers={"Accept": 'multipart/related; type="application/dicom"'},
    ) as response:
        assert response.status == 200
        body = await response.read()
    part = body[body.index(b"\r\n\r\n") + 4 :]
    read = pydicom.dcmread(io.BytesIO(part), force=True)
    assert read.PatientIdentityRemoved == "YES"
    assert read.PatientName != PERSON["PatientName"]
    assert b"Gray" not in body


async def test_an_erasure_leaves_nothing_in_the_view_and_nothing_of_what_it_knew(
    client: Client, core: Core, follower: Follower
) -> None:
    kept, erased = of_person(PatientID="other"), [of_person(), of_person(Modality="US")]
    await put(client, kept, *erased)
    follower.follow()
    tenant = ids.Tenant("main")
    before = {info.key for info in core.archive.objects.list("main/views/")}
    views = list(assembly.view_erasers(core.settings, tenant, core.archive.objects))
    certificate = EraseService(core.archive, core.trail, steps_of(core), (), views).erase(
        command_line("test"), tenant, reconcile.Patient("", "MRN-4711")
    )
    assert certificate.document()["objects_of_views"] == {"research": 1}
    after = {info.key for info in core.archive.objects.list("main/views/")}
    assert len(before - after) == 2  # the object, and what was known of the patient
    assert not core.views["research"].index.quarantined(tenant)
    follower.follow()
    assert len(await search(client, "studies")) == 1
    for each in views:
        each.close()


@pytest.mark.parametrize("change", [{"key": "cd" * 32}, {"options": ("clean_descriptors",)}])
async def test_with_another_key_or_profile_everything_is_made_anew_and_nothing_of_the_old_stays(
    client: Client, core: Core, follower: Follower, change: dict[str, Any]
) -> None:
    await put(client, of_person(), of_person())
    follower.follow()
    before = {value(each, "00100020") for each in await search(client, "studies")}
    view = ViewSettings(**{**core.settings.views["research"].model_dump(), **change})
    changed = core.settings.model_copy(update={"views": {"research": view}})
    other = assembly.view_follower(changed, "research", core.archive, core.views["research"], core.pool)
    seen = []
    other.follow(lambda: bool(seen.append(core.views["research"].index.count(Search(MAIN, Level.STUDY)))))
    assert seen[0] == 0
    found = await search(client, "studies")
    assert len(found) == 2
    assert ("key" in change) == (before.isdisjoint({value(each, "00100020") for each in found}))
    assert ("options" in change) == all("Value" not in each["00080020"] for each in found)


async def test_a_study_that_leaves_the_views_scope_leaves_the_view(client: Client, core: Core) -> None:
    view = core.settings.views["research"].model_copy(update={"scope": {"StudyDescription": ("CT*",)}})
    scoped = core.settings.model_copy(update={"views": {"research": view}})
    follower = assembly.view_follower(scoped, "research", core.archive, core.views["research"], core.pool)
    inside, outside = of_person(), of_person(StudyDescription="MR")
    await put(client, inside, outside)
    assert follower.follow().made == 1
    inside.StudyDescription = "moved"
    await put(client, inside)
    report = follower.follow()
    assert (report.made, report.gone) == (0, 1)
    assert await search(client, "studies") == []


async def test_with_another_scope_what_is_outside_goes_first_and_what_is_inside_comes(
    client: Client, core: Core, follower: Follower
) -> None:
    """Under the same pseudonyms: only what the scope decides is another."""
    await put(client, of_person(StudyDescription="CT one"), of_person(StudyDescription="MR two"))
    follower.follow()
    before = {value(each, "0020000D"): each for each in await search(client, "studies")}

    def scoped(*descriptions: str) -> Follower:
        view = core.settings.views["research"].model_copy(update={"scope": {"StudyDescription": descriptions}})
        changed = core.settings.model_copy(update={"views": {"research": view}})
        return assembly.view_follower(changed, "research", core.archive, core.views["research"], core.pool)

    seen = []
    report = scoped("CT*").follow(
        lambda: bool(seen.append(core.views["research"].index.count(Search(MAIN, Level.STUDY))))
    )
    assert (report.gone, report.made, seen[0]) == (1, 0, 1)
    (left,) = await search(client, "studies")
    assert value(left, "0020000D") in before
    report = scoped("CT*", "MR*").follow()
    assert (report.gone, report.made) == (0, 1)
    assert {value(each, "0020000D") for each in await search(client, "studies")} == before.keys()
    assert scoped("CT*", "MR*").follow().studies == 0


async def test_a_round_that_is_broken_off_is_gone_on_with(client: Client, core: Core, follower: Follower) -> None:
    await put(client, *(of_person() for _ in range(4)))
    calls: list[None] = []
    first = follower.follow(lambda: len(calls) > 1 or calls.append(None) is not None)
    assert first.made == 2
    assert follower.follow().made == 2
    assert len(await search(client, "studies")) == 4


@pytest.mark.parametrize("patient_id", ["MRN-4711", ""])
async def test_what_a_later_instance_of_a_study_teaches_cleans_the_earlier_ones_of_it_once(
    client: Client, core: Core, follower: Follower, patient_id: str
) -> None:
    first = of_person(PatientID=patient_id, SeriesDescription="compare with Smith")
    await put(client, first)
    follower.follow()
    later = of_person(
        PatientID=patient_id, StudyInstanceUID=first.StudyInstanceUID, PerformingPhysicianName="Smith^Joan"
    )
    await put(client, later)
    report = follower.follow()
    assert report.made == 2
    texts = {value(each, "0008103E") for each in await search(client, "series") if "Value" in each.get("0008103E", {})}
    assert texts == {"compare with ***"}
    assert len(list(core.views["research"].objects.list(""))) == 2


async def test_a_study_is_not_held_in_memory(client: Client, follower: Follower) -> None:
    """Its headers come one after the other, however many and however long they are."""
    study = instances.uid()
    for number in range(12):
        comment = f"{number} " + "x" * 500_000
        await put(client, of_person(StudyInstanceUID=study, MultienergyAcquisitionDescription=comment))
    tracemalloc.start()
    try:
        assert follower.follow().made == 12
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()
