"""The audit trail over HTTP: who may read it, what is asked for, page by page, and whether it is whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.services import audit
from tests.gateway.entrance.conftest import Site, ct


async def search(site: Site, key: str = "boss", **query: str) -> Any:
    answer = await site.ask("GET", "/admin/audit", key, params=query)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store"), answer.body
    return answer.json


async def test_records_are_found_by_who_what_whose_and_outcome(site: Site) -> None:
    ours, other = ct(PatientID="P-1"), ct(PatientID="P-2")
    for each in (ours, other):
        await site.store(each)
    study = ours.StudyInstanceUID
    await site.ask("GET", f"/dicomweb/studies/{study}/metadata", "radiologist")
    await site.ask("DELETE", f"/dicomweb/studies/{study}", "viewer")
    [denied] = (await search(site, outcome="denied"))["records"]
    assert (denied["principal"], denied["action"], denied["subject"]) == ("viewer", "delete", [study])
    assert {each["principal"] for each in (await search(site, study=study))["records"]} == {
        "boss",
        "radiologist",
        "viewer",
    }
    of_patient = (await search(site, patient="P-2", action="store"))["records"]
    assert {uid for each in of_patient for uid in each["subject"]} >= {other.StudyInstanceUID}
    assert not any(study in each["subject"] for each in of_patient)
    [read] = (await search(site, principal="radiologist", action="read"))["records"]
    assert read["address"] == "127.0.0.1"
    assert (await search(site, address="10.0.0.1"))["records"] == []
    assert (await search(site, until="2020-01-01"))["records"] == []
    assert (await search(site, since="2020-01-01T00:00", action="delete"))["records"] == [denied]


async def test_a_search_is_recorded_without_the_patient(site: Site) -> None:
    await search(site, patient="MRN-4711", issuer="CLINIC", action="read")
    [record] = site.trail("audit_read")
    assert record["query"] == "patient=...&issuer=...&action=read"


async def test_pages_lead_from_the_latest_to_the_first(site: Site) -> None:
    await site.store(ct())
    await site.ask("GET", "/dicomweb/studies", "radiologist")
    query, found = {"limit": "1", "until": "2100-01-01"}, []
    for _ in range(30):
        page = await search(site, action="store", **query)
        found += page["records"]
        if page["next"] is None:
            break
        query["before"] = page["next"]
    assert [each["outcome"] for each in found] == ["stored", "allowed"]
    assert found[0]["time"] >= found[1]["time"]


async def test_each_tenant_has_its_own_records(site: Site) -> None:
    await site.store(ct())
    assert [each["action"] for each in (await search(site, "elsewhere"))["records"]] == ["audit_read"]


async def test_the_trail_is_verified(site: Site) -> None:
    await site.store(ct())
    answer = await site.ask("GET", "/admin/audit/verification", "boss")
    assert (answer.status, answer.json["whole"], answer.json["faults"]) == (200, True, [])
    assert answer.json["records"] >= 3
    [file] = site.core.trail.directory.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"allowed"', b'"denied"')
    file.write_bytes(b"".join(lines))
    answer = await site.ask("GET", "/admin/audit/verification", "boss", params={"days": "7"})
    assert answer.json["whole"] is False
    assert answer.json["faults"][0] == {"where": file.name, "record": 2, "what": "line 2 was altered"}
    assert [json.loads(line)["query"] for line in lines[-1:]] == ["verify=1"]


async def test_more_than_somebody_waits_for_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST_VERIFIED_BYTES", 100)
    answer = await site.ask("GET", "/admin/audit/verification", "boss")
    assert (answer.status, "gateway audit verify" in answer.detail) == (413, True)


@pytest.mark.parametrize("key", ["radiologist", "viewer"])
async def test_only_who_may_read_the_trail_does(site: Site, key: str) -> None:
    for path in ("/admin/audit", "/admin/audit/verification"):
        assert (await site.ask("GET", path, key)).status == 403
        assert (await site.ask("GET", path)).status == 401
    assert set(site.outcomes("audit_read")) == {"denied"}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "since=yesterday",
        "until=2026-01-31Z",
        "study=1..2",
        "before=x",
        "before=a+b+c",
    ],
)
async def test_a_question_that_is_none_is_refused(site: Site, query: str) -> None:
    assert (await site.ask("GET", f"/admin/audit?{query}", "boss")).status == 400


@pytest.mark.parametrize("days", ["0", "367", "x"])
async def test_days_that_are_none_are_refused(site: Site, days: str) -> None:
    assert (await site.ask("GET", f"/admin/audit/verification?days={days}", "boss")).status == 400
