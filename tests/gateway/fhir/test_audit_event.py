"""GET /fhir/AuditEvent, by FHIR's own model."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from fhir.resources.R4B.auditevent import AuditEvent as Resource
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome

from gateway import assembly
from gateway.assembly import Core
from gateway.audit.events import AuditEvent
from gateway.audit.syslog import Pending
from gateway.audit.trail import trail_id
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.auditing import AuditSettings, SyslogSettings
from gateway.context import Caller, Principal, PrincipalKind, Source
from gateway.dicomweb.routes import routes as dicomweb_routes
from gateway.fhir import parameters
from gateway.fhir.routes import routes
from gateway.http import application
from tests.instances import data_set, part10_file

Client = TestClient[Any, Any]
AUDITOR, VIEWER, OTHER = "auditor's", "viewer's", "other's"
POLICY = "".join(
    f'[[principal]]\nname = "{name}"\nkind = "api_key"\ntenant = "{tenant}"\nactions = {json.dumps(actions)}\n'
    f'api_key_sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'
    for name, tenant, key, actions in (
        ("auditor", "main", AUDITOR, ["audit_read"]),
        ("viewer", "main", VIEWER, ["search", "read", "store"]),
        ("other-auditor", "other", OTHER, ["audit_read"]),
    )
)
PATIENT = "F-4711"


@pytest.fixture
def core(settings: Settings, tmp_path: Path) -> Any:
    (tmp_path / "policy.toml").write_text(POLICY)
    access = AccessSettings(policy_file=tmp_path / "policy.toml")
    built = assembly.build(settings.model_copy(update={"access": access}), "http-1")
    yield built
    built.close()


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, [*routes(), *dicomweb_routes()]))


@pytest.fixture
async def study(client: Client) -> str:
    """A study that was stored, searched and read by the viewer."""
    found = data_set(PatientID=PATIENT)
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10_file(found) + b"\r\n--b--\r\n"
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b', "X-API-Key": VIEWER}
    async with client.post("/dicomweb/studies", data=body, headers=kind) as response:
        assert response.status == 200
    uid = str(found.StudyInstanceUID)
    for path in (f"/dicomweb/studies?StudyInstanceUID={uid}", f"/dicomweb/studies/{uid}"):
        async with client.get(path, headers={"X-API-Key": VIEWER}) as response:
            assert response.status == 200
    async with client.delete(f"/dicomweb/studies/{uid}", headers={"X-API-Key": VIEWER}) as response:
        assert response.status == 403
    return uid


async def get(client: Client, query: str = "", key: str = AUDITOR, status: int = 200) -> Any:
    path = query if query.startswith("/") else f"/fhir/AuditEvent{query}"
    async with client.get(path, headers={"X-API-Key": key}) as response:
        found = await response.json(content_type=None)
        assert response.status == status, found
        if status == 200:
            assert response.headers["Content-Type"] == "application/fhir+json; charset=utf-8"
        return found


def resources(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle.get("entry", ())]


async def test_everything_is_valid_by_the_model_of_fhir(client: Client, study: str) -> None:
    found = await get(client)
    Bundle.model_validate(found)
    assert found["total"] == len(resources(found)) == 6
    for each in resources(found):
        Resource.model_validate(each)
        assert await get(client, f"/fhir/AuditEvent/{each['id']}") == each


async def test_a_read_names_who_what_and_whose(client: Client, core: Core, study: str) -> None:
    (found,) = resources(await get(client, f"?entity=urn:oid:{study}&type=110102&action=R"))
    assert found["type"] == {
        "system": "http://dicom.nema.org/resources/ontology/DCM",
        "code": "110102",
        "display": "Begin Transferring DICOM Instances",
    }
    assert [each["type"]["coding"][0]["code"] for each in found["agent"]] == ["110152", "110153"]
    assert (found["agent"][0]["name"], found["agent"][0]["network"]["address"]) == ("viewer", "127.0.0.1")
    of_study, of_patient = found["entity"]
    assert of_study["what"]["identifier"] == {"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}
    assert of_patient["what"]["identifier"] == {"value": PATIENT}
    (searched,) = resources(await get(client, "?type=110112"))
    assert base64.b64decode(searched["entity"][0]["query"]).decode() == f"StudyInstanceUID={study}"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        (f"?patient={PATIENT}", 4),
        (f"?patient:identifier=HOSPITAL|{PATIENT}", 0),
        ("?patient=NOBODY", 0),
        ("?agent=viewer", 5),
        ("?agent-name=viewer,nobody", 5),
        ("?agent=nobody", 0),
        ("?outcome=4", 1),
        ("?outcome=0,4&agent=viewer", 5),
        ("?action=D", 1),
        ("?action=C", 2),
        ("?subtype=http://hl7.org/fhir/restful-interaction|read", 1),
        ("?address=127.0.0.1&type=DCM|110105", 1),
        ("?address=10.0.0.1", 0),
        ("?date=lt2020-01-01", 0),
        ("?date=ge2020-01-01&date=lt2199-01-01&agent=viewer", 5),
        ("?entity=1.2.3", 0),
    ],
)
async def test_records_are_found_by(client: Client, study: str, query: str, count: int) -> None:
    assert len(resources(await get(client, query))) == count


async def test_pages_follow_each_other_to_the_end(client: Client, core: Core) -> None:
    viewer = Caller(Principal("viewer", PrincipalKind.API_KEY), Source("DICOMweb", "10.1.2.3"))
    for number in range(25):
        core.trail.write(AuditEvent("search", "allowed", viewer, "main", detail=str(number)))
    found: list[str] = []
    query, pages = "?agent=viewer&_count=10", 0
    while query:
        bundle = await get(client, query)
        Bundle.model_validate(bundle)
        for each in resources(bundle):
            found += [pair["valueString"] for pair in each["entity"][0]["detail"] if pair["type"] == "detail"]
        links = {each["relation"]: each["url"] for each in bundle["link"]}
        assert "_count=10" in links["self"]
        query, pages = "/fhir" + links["next"].partition("/fhir")[2] if "next" in links else "", pages + 1
    assert found == [str(number) for number in reversed(range(25))]
    assert pages == 3


async def test_another_tenants_records_and_the_gateways_own_do_not_exist(client: Client, study: str) -> None:
    seen = resources(await get(client, key=OTHER))
    assert [each["agent"][0]["name"] for each in seen] == ["other-auditor"]
    (stored,) = resources(await get(client, f"?entity={study}&type=110104"))
    await get(client, f"/fhir/AuditEvent/{stored['id']}", key=OTHER, status=404)
    start = stored["id"].rpartition("-")[0] + "-1"
    await get(client, f"/fhir/AuditEvent/{start}", status=404)
    await get(client, "/fhir/AuditEvent/nothing", status=404)
    await get(client, key=VIEWER, status=403)
    await get(client, key="nobody's", status=401)


def elsewhere(core: Core, folder: Path) -> str:
    """Another host on the same objects, which has recorded something; its trail."""
    there = core.settings.model_copy(update={"audit": core.settings.audit.model_copy(update={"directory": folder})})
    with closing(assembly.audit_trail(there, "http-1")) as trail:
        reader = Caller(Principal("reader-there", PrincipalKind.API_KEY), Source("DICOMweb", "10.1.2.3"))
        trail.write(AuditEvent("search", "allowed", reader, "main"))
    assert assembly.checkpointer(there).put() is not None
    return trail_id(folder)


async def test_a_bundle_tells_of_hosts_whose_records_it_has_not(client: Client, core: Core, tmp_path: Path) -> None:
    trail = elsewhere(core, tmp_path / "there")
    found = await get(client, "?agent=auditor")
    Bundle.model_validate(found)
    (entry,) = [each for each in found["entry"] if each["search"]["mode"] == "outcome"]
    OperationOutcome.model_validate(entry["resource"])
    (issue,) = entry["resource"]["issue"]
    assert (issue["severity"], issue["code"]) == ("warning", "incomplete")
    assert f"records of other hosts are missing, of the trails {trail} (" in issue["diagnostics"]
    assert found["total"] == len(found["entry"]) - 1
    before = await get(client, "?date=lt2020-01-01")
    assert "entry" not in before, "it had not begun then"


async def test_records_of_hosts_whose_files_are_here_are_found(
    settings: Settings, tmp_path: Path, aiohttp_client: Callable[..., Awaitable[Client]]
) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    given = {
        "access": AccessSettings(policy_file=tmp_path / "policy.toml"),
        "audit": AuditSettings(other_directories=(tmp_path / "shared",)),
    }
    core = assembly.build(settings.model_copy(update=given), "http-1")
    client = await aiohttp_client(application.build(core, routes()))
    elsewhere(core, tmp_path / "shared" / "pod-2")
    found = await get(client, "?agent=reader-there")
    assert [each["resourceType"] for each in resources(found)] == ["AuditEvent"] * 2, "and what came of it"
    for each in resources(found):
        assert await get(client, f"/fhir/AuditEvent/{each['id']}") == each
    core.close()


async def test_who_reads_the_trail_stands_in_it(client: Client) -> None:
    await get(client, "?patient=VIP&agent=viewer")
    read = resources(await get(client, "?type=110101"))[1]
    assert read["agent"][0]["name"] == "auditor"
    assert "VIP" not in json.dumps(read)


@pytest.mark.parametrize(
    "query",
    [
        "?nonsense=1",
        "?date=yesterday",
        "?date=ge2026-13-01",
        "?date=ne2026",
        "?date=2026-01-01T99:00Z",
        "?_count=0",
        "?_page=%%%",
        "?entity=x",
        "?patient=",
        "?agent=" + ",".join("a" * 101),
    ],
)
async def test_what_is_not_understood_is_refused(client: Client, query: str) -> None:
    found = OperationOutcome.model_validate(await get(client, query, status=400))
    assert [each.code for each in found.issue] == ["invalid"]


@pytest.mark.parametrize(
    ("date", "since", "until"),
    [
        ("2026", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("2026-12", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("ge2026-02", "2026-02-01T00:00", ""),
        ("gt2026-02-28", "2026-03-01T00:00", ""),
        ("le2026-02-28", "", "2026-03-01T00:00"),
        ("lt2026-02-28T10:30+02:00", "", "2026-02-28T08:30"),
        ("2026-02-28T10:30Z", "2026-02-28T10:30", "2026-02-28T10:31"),
    ],
)
def test_dates_are_spans(date: str, since: str, until: str) -> None:
    found = parameters._dates([date])
    assert tuple(text[:16] for text in found) == (since, until)
    for text in filter(None, found):
        assert datetime.datetime.fromisoformat(text).tzinfo is not None


async def test_what_cannot_be_recorded_is_not_told(client: Client, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def full(_descriptor: int, _line: bytes) -> int:
        raise OSError(28, "no space left")

    core.trail.start()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        await get(client, status=503)


async def test_while_too_much_of_the_trail_waits_for_the_syslog_server_nothing_is_served(
    settings: Settings, aiohttp_client: Callable[..., Awaitable[Client]]
) -> None:
    where = SyslogSettings(host="127.0.0.1", port=1, max_pending_bytes=1000)
    core = assembly.build(settings.model_copy(update={"syslog": where}), "http-1")
    client = await aiohttp_client(application.build(core, dicomweb_routes()))
    waiting = Pending(assembly.audit_directory(settings))
    for size, status in ((1001, 503), (1000, 204)):
        waiting.write(size)
        async with client.get("/dicomweb/studies") as response:
            assert response.status == status
    waiting.close()
    core.close()
