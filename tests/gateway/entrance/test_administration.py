"""Keys and explanations over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from yarl import URL

from gateway.access import users
from tests.gateway.entrance.conftest import Site, ct
from tests.instances import uid


async def test_a_key_is_made_used_listed_and_revoked(site: Site) -> None:
    made = await site.ask("POST", "/admin/keys", "boss", json={"name": "robot", "roles": ["viewer"], "days": 1})
    assert (made.status, made.headers["Cache-Control"]) == (201, "no-store")
    key = made.json["key"]
    assert (await site.ask("GET", "/dicomweb/studies", key)).status == 204
    assert (await site.ask("GET", "/session", key)).json["principal"] == "robot"
    listed = (await site.ask("GET", "/admin/keys", "boss")).json["keys"]
    assert [each["id"] for each in listed] == [made.json["id"]]
    assert key.split("_", 2)[2] not in str(listed)
    assert "sha256" not in str(listed)
    assert (await site.ask("GET", "/admin/keys", "elsewhere")).json == {"keys": []}
    assert (await site.ask("DELETE", f"/admin/keys/{made.json['id']}", "elsewhere")).status == 404
    assert (await site.ask("DELETE", f"/admin/keys/{made.json['id']}", "boss")).status == 204
    assert (await site.ask("DELETE", f"/admin/keys/{made.json['id']}", "boss")).status == 404
    await asyncio.sleep(1.05)
    assert (await site.ask("GET", "/dicomweb/studies", key)).status == 401
    outcomes = site.outcomes("admin")
    assert [each for each in outcomes if each != "allowed"] == ["key created", "key revoked"]
    assert key not in str(site.trail("admin"))


async def test_a_key_is_good_from_its_networks_alone(site: Site) -> None:
    wanted = {"name": "robot", "roles": ["viewer"], "networks": ["10.1.0.0/16"]}
    made = await site.ask("POST", "/admin/keys", "boss", json=wanted)
    assert made.status == 201
    assert (await site.ask("GET", "/dicomweb/studies", made.json["key"])).status == 401


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({}, "name: Field required; roles: Field required"),
        ({"name": "x", "roles": []}, "roles"),
        ({"name": "x", "roles": "viewer"}, "roles"),
        ({"name": "x", "roles": ["nobody"]}, "no role 'nobody'"),
        ({"name": "x", "roles": ["share:link"]}, "no role 'share:link'"),
        ({"name": "", "roles": ["viewer"]}, "name"),
        ({"name": "x" * 65, "roles": ["viewer"]}, "name"),
        ({"name": "a\x00b", "roles": ["viewer"]}, "name"),
        ({"name": "x", "roles": ["viewer"], "networks": ["10.0.0.1/8"]}, "networks"),
        ({"name": "x", "roles": ["viewer"], "networks": ["everywhere"]}, "networks"),
        ({"name": "x", "roles": ["viewer"], "days": 0}, "days"),
        ({"name": "x", "roles": ["viewer"], "days": "1"}, "days"),
        ({"name": "x", "roles": ["viewer"], "days": 1e9}, "days"),
        ({"name": "x", "roles": ["viewer"], "tenant": "elsewhere"}, "tenant"),
    ],
)
async def test_a_key_that_will_not_do_is_not_made(site: Site, wanted: dict[str, Any], words: str) -> None:
    answer = await site.ask("POST", "/admin/keys", "boss", json=wanted)
    assert (answer.status, words in answer.detail) == (400, True), answer.body
    assert (await site.ask("GET", "/admin/keys", "boss")).json == {"keys": []}


@pytest.mark.parametrize("key", ["radiologist", "viewer"])
async def test_only_administrators_administer(site: Site, key: str) -> None:
    for method, path in (
        ("POST", "/admin/keys"),
        ("GET", "/admin/keys"),
        ("DELETE", "/admin/keys/x"),
        ("GET", "/admin/explain?role=viewer"),
    ):
        wanted = {"json": {"name": "x", "roles": ["administrator"]}}
        assert (await site.ask(method, path, key, **wanted)).status == 403, path
        assert (await site.ask(method, path, **wanted)).status == 401, path
    assert set(site.outcomes("admin")) == {"denied"}


async def explain(site: Site, key: str = "boss", **query: str) -> Any:
    answer = await site.ask("GET", "/admin/explain", key, params=query)
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_policy_is_explained(site: Site) -> None:
    hidden, shown = ct(Modality="MR"), ct()
    for each in (hidden, shown):
        await site.store(each)
    study = hidden.StudyInstanceUID
    found = await explain(site, principal="ct-only", study=study)
    assert (found["allowed"], found["studyFound"]) == (False, True)
    assert found["rules"] == [{"rule": "ct-only", "counts": True, "why": "", "inScope": False}]
    assert (await explain(site, principal="ct-only", study=shown.StudyInstanceUID))["allowed"] is True
    assert (await explain(site, principal="ct-only", study=uid()))["studyFound"] is False
    assert (await explain(site, principal="ct-only", action="delete"))["allowed"] is False
    on_call = await explain(site, role="on-call", study=study)
    assert [each["why"] for each in on_call["rules"]] == ["does not allow read", "needs a reason (break glass)"]
    broken = await explain(site, role="on-call", study=study, reason="emergency")
    assert broken["decidedBy"] == ["on-call: emergency"]


async def test_users_and_keys_are_explained_by_name_in_their_tenant(site: Site) -> None:
    users.add(site.core.control, "ann", "correct horse battery", "main", ["viewer"])
    made = await site.ask("POST", "/admin/keys", "boss", json={"name": "robot", "roles": ["viewer"]})
    for name in ("ann", "robot", made.json["id"], "radiologist"):
        assert (await explain(site, principal=name))["allowed"] is True
        answer = await site.ask("GET", "/admin/explain", "elsewhere", params={"principal": name})
        assert answer.status == 404


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("action=read", 400),
        ("role=viewer&action=fly", 400),
        ("role=viewer&study=1..2", 400),
        ("principal=nobody", 404),
        ("principal=%00", 404),
        ("principal=%ff", 404),
        ("principal=" + "x" * 7000, 404),
    ],
)
async def test_a_question_that_is_none_is_refused(site: Site, query: str, status: int) -> None:
    answer = await site.ask("GET", URL(f"/admin/explain?{query}", encoded=True), "boss")
    assert answer.status == status
    assert len(answer.body) < 1000
