"""Who sees what: policies, and tokens with SMART scopes (SMART App Launch 2.2; Argonaut SMART Imaging Access)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.dicomweb.routes import routes as dicomweb_routes
from gateway.fhir.routes import routes
from gateway.http import application
from tests.gateway.dicomweb.conftest import Client
from tests.gateway.fhir.conftest import get, ids, matches
from tests.gateway.fhir.test_imaging_study import lines, put
from tests.instances import data_set
from tests.issuer import Issuer

PRINCIPALS = {
    "ct": 'actions = ["search", "read"]\nscope = { Modality = ["CT"] }',
    "searcher": 'actions = ["search"]',
    "reader": 'actions = ["read"]',
    "pictures": 'actions = ["search", "read", "render"]\nobligations = ["rendered_only"]',
    "other-tenant": 'tenant = "other"\nactions = ["search", "read"]',
    "sender": 'actions = ["store"]',
}
POLICY = """
[[principal]]
name = "this-machine"
kind = "loopback"
roles = ["administrator"]

[[role]]
name = "viewer"
[[role.rule]]
name = "magnets"
actions = ["search", "read"]
scope = { Modality = ["MR"] }
"""


@pytest.fixture
def core(settings: Settings, tmp_path: Path, issuer: Issuer) -> Iterator[Core]:
    declared = "".join(
        f'[[principal]]\nname = "{name}"\nkind = "api_key"\n'
        f'api_key_sha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n{rest}\n'
        for name, rest in PRINCIPALS.items()
    )
    (tmp_path / "policy.toml").write_text(POLICY + declared)
    access = AccessSettings(policy_file=tmp_path / "policy.toml", issuers=(issuer.settings(smart=True),))
    built = assembly.build(settings.model_copy(update={"access": access}), "http-1")
    yield built
    built.close()


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, [*routes(), *dicomweb_routes()]))


@pytest.fixture
async def stored(client: Client) -> dict[str, tuple[str, str]]:
    """Studies by name: their UIDs and the references of their patients."""
    made = {
        "ct": data_set(PatientID="P1", PatientName="One^Pat"),
        "mr": data_set(PatientID="P1", PatientName="One^Pat", Modality="MR"),
        "two": data_set(PatientID="P2", PatientName="Two^Pat", Modality="MR"),
    }
    await put(client, *made.values())
    # One study of two modalities: who may see one of them is told of that alone.
    await put(client, data_set(StudyInstanceUID=made["two"].StudyInstanceUID, PatientID="P2", PatientName="Two^Pat"))
    found = {}
    for name, each in made.items():
        study = await get(client, f"ImagingStudy/{each.StudyInstanceUID}")
        found[name] = str(each.StudyInstanceUID), study["subject"]["reference"]
    return found


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def test_a_scope_bounds_studies_series_counts_and_patients(
    client: Client, stored: dict[str, tuple[str, str]]
) -> None:
    bundle = await get(client, "ImagingStudy", headers=key("ct"))
    assert sorted(ids(bundle)) == sorted(stored[name][0] for name in ("ct", "two"))
    two = await get(client, f"ImagingStudy/{stored['two'][0]}", headers=key("ct"))
    assert [each["code"] for each in two["modality"]] == ["CT"]
    assert (two["numberOfSeries"], two["numberOfInstances"], len(two["series"])) == (1, 1, 1)
    assert len(two["series"][0]["instance"]) == 1
    await get(client, f"ImagingStudy/{stored['mr'][0]}", status=404, headers=key("ct"))
    assert len(ids(await get(client, "Patient", headers=key("ct")))) == 2
    nothing = await get(client, "ImagingStudy", headers=key("other-tenant"))
    assert nothing["total"] == 0
    for _, reference in stored.values():
        await get(client, reference, status=404, headers=key("other-tenant"))
        assert ids(await get(client, f"ImagingStudy?patient={reference}", headers=key("other-tenant"))) == []


async def test_what_happens_out_of_a_scope_changes_nothing_in_it(
    client: Client, stored: dict[str, tuple[str, str]]
) -> None:
    uid = stored["two"][0]
    before = await get(client, f"ImagingStudy/{uid}", headers=key("ct"))
    await asyncio.sleep(0.01)
    await put(client, data_set(StudyInstanceUID=uid, PatientID="P2", PatientName="Two^Pat", Modality="US"))
    assert await get(client, f"ImagingStudy/{uid}", headers=key("ct")) == before
    since = f"ImagingStudy?_lastUpdated=gt{before['meta']['lastUpdated']}"
    assert ids(await get(client, since, headers=key("ct"))) == []
    assert uid in ids(await get(client, since))


async def test_search_and_read_are_actions_of_their_own(client: Client, stored: dict[str, tuple[str, str]]) -> None:
    uid, reference = stored["ct"]
    for name, searching, reading in (
        ("searcher", 200, 403), ("reader", 403, 200), ("pictures", 200, 403), ("sender", 403, 403),
    ):  # fmt: skip
        for kind, one in (("ImagingStudy", f"ImagingStudy/{uid}"), ("Patient", reference)):
            await get(client, kind, status=searching, headers=key(name))
            await get(client, one, status=reading, headers=key(name))
    for study in matches(await get(client, "ImagingStudy", headers=key("searcher"))):
        assert "endpoint" not in study, "there is nothing for it to be had from"
    assert ids(await get(client, "Endpoint", headers=key("searcher"))) == []
    assert ids(await get(client, "ImagingStudy?endpoint=dicom-wado-rs", headers=key("searcher"))) == []
    await get(client, "ImagingStudy", status=401, headers=key("nobody"))
    found = await get(client, "Endpoint/dicom-wado-rs", headers=key("ct"))
    assert found["extension"][0]["valueBoolean"] is True


def bearer(issuer: Issuer, scope: str, **claims: object) -> dict[str, str]:
    return key(issuer.token(scope=scope, **claims))


@pytest.mark.parametrize("scope", ["patient/ImagingStudy.rs", "launch openid patient/*.read patient/Patient.rs"])
async def test_a_token_about_a_patient_is_about_that_patient_alone(
    client: Client, core: Core, issuer: Issuer, stored: dict[str, tuple[str, str]], scope: str
) -> None:
    token = bearer(issuer, scope, patient="P1")
    mine, other = stored["ct"][1], stored["two"][1]
    theirs = sorted(stored[name][0] for name in ("ct", "mr"))
    # By the Patient ID that the token names, and by the id that studies refer to.
    for query in ("", "?patient=P1", "?patient=Patient/P1", f"?patient={mine}", "?patient:identifier=P1"):
        found = await get(client, f"ImagingStudy{query}", headers=token)
        assert sorted(ids(found)) == theirs, query
    include = "_include=ImagingStudy:endpoint"
    one = f"ImagingStudy?patient=P1&identifier=urn:oid:{stored['ct'][0]}&{include}"
    assert ids(await get(client, one, headers=token)) == [stored["ct"][0]]
    assert ids(await get(client, "Patient", headers=token)) == [mine.removeprefix("Patient/")]
    await get(client, mine, headers=token)
    await get(client, other, status=404, headers=token)
    await get(client, f"ImagingStudy/{stored['two'][0]}", status=404, headers=token)
    for query in ("patient=P2", f"patient={other}", "patient=P1,P2", "patient=NOBODY"):
        found = await get(client, f"ImagingStudy?{query}", status=403, headers=token)
        assert found["issue"][0]["code"] == "forbidden"
    assert ids(await get(client, "ImagingStudy?patient:identifier=P2", headers=token)) == []
    await get(client, "AuditEvent", status=403, headers=token)
    core.trail.close()
    denied = [each for each in lines(core) if each["action"] == "search" and each["outcome"] == "denied"]
    assert denied
    assert "P2" not in json.dumps(denied)


async def test_scopes_of_a_user_and_of_a_system_bound_by_interaction(
    client: Client, issuer: Issuer, stored: dict[str, tuple[str, str]]
) -> None:
    uid, reference = stored["mr"]
    for scope, roles, seen, searching, reading in (
        ("user/ImagingStudy.rs", ["viewer"], ("mr", "two"), 200, 200),
        ("user/ImagingStudy.s", ["viewer"], ("mr", "two"), 200, 403),
        ("user/ImagingStudy.r", ["viewer"], (), 403, 200),
        ("user/ImagingStudy.rs", [], (), 403, 403),
        ("system/ImagingStudy.read", [], ("ct", "mr", "two"), 200, 200),
        ("system/Observation.rs", ["viewer"], (), 403, 403),
        ("user/ImagingStudy.rs?modality=MR", ["viewer"], (), 403, 403),
    ):  # fmt: skip
        token = bearer(issuer, scope, roles=roles)
        found = await get(client, "ImagingStudy", status=searching, headers=token)
        if searching == 200:
            assert sorted(ids(found)) == sorted(stored[name][0] for name in seen), scope
        for one in (f"ImagingStudy/{uid}", reference):
            await get(client, one, status=reading, headers=token)
