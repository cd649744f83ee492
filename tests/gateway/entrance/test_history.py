"""Who saw a study, and the versions of an instance."""

from __future__ import annotations

from tests.gateway.entrance.conftest import Site
from tests.instances import data_set, uid


async def test_who_saw_a_study_is_told_to_who_may_read_the_trail(site: Site) -> None:
    study, other = data_set(), data_set()
    for each in (study, other):
        await site.store(each)
    for name, each in (("radiologist", study), ("viewer", study), ("colleague", other)):
        path = f"/dicomweb/studies/{each.StudyInstanceUID}/metadata"
        assert (await site.ask("GET", path, name)).status == 200
    path = f"/history/studies/{study.StudyInstanceUID}"
    told = (await site.ask("GET", path, "boss")).json
    assert {each["principal"] for each in told["seen"]} == {"radiologist", "viewer"}
    assert {each["action"] for each in told["seen"]} == {"read"}
    assert (told["more"], told["gap"]) == (False, "")
    assert (await site.ask("GET", path, "radiologist")).status == 403
    assert (await site.ask("GET", path, "elsewhere")).json["seen"] == []
    assert (await site.ask("GET", "/history/studies/x", "boss")).status == 400
    assert "allowed" in site.outcomes("audit_read")


async def test_the_versions_of_an_instance_are_told_latest_first(site: Site) -> None:
    found = data_set(PatientComments="first")
    await site.store(found)
    found.PatientComments = "second"
    await site.store(found)
    series = f"/history/studies/{found.StudyInstanceUID}/series/{found.SeriesInstanceUID}"
    path = f"{series}/instances/{found.SOPInstanceUID}"
    told = (await site.ask("GET", path, "viewer")).json["versions"]
    assert [each["current"] for each in told] == [True, False]
    assert told[0]["version"] > told[1]["version"]
    assert told[0]["received"] >= told[1]["received"]
    assert (await site.ask("GET", path, "elsewhere")).status == 404
    assert (await site.ask("GET", path, "pictures-only")).status == 403
    assert (await site.ask("GET", f"{series}/instances/{uid()}", "viewer")).status == 404
    where = path.replace("/history", "/dicomweb")
    assert (await site.ask("DELETE", where, "boss")).status == 204
    assert (await site.ask("GET", path, "viewer")).status == 410
