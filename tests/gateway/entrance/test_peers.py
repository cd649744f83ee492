"""Peers over HTTP: who sees which, what is told of their last contacts, and a C-ECHO that asks a real one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.events import EVT_C_ECHO
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove  # type: ignore[attr-defined]

from gateway.config import Settings
from gateway.config.serving import DestinationSettings, DimseSettings
from gateway.dimse.server import DimseServer
from gateway.services.commitment import GIVEN_UP, OVER_OURS
from storage.dicom import identifiers as ids
from tests.gateway.entrance.conftest import Site
from tests.ports import free_port

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def listening() -> Iterator[dict[str, int]]:
    """The ports of a peer that answers, of one that answers with a failure, and of none."""
    found, servers = {"GONE": free_port(), "THEIRS": free_port()}, []
    for title, status in (("PACS", 0x0000), ("SICK", 0x0122)):
        entity = AE(ae_title=title)
        entity.add_supported_context(VERIFICATION)
        entity.require_called_aet = True
        handlers: list[Any] = [(EVT_C_ECHO, lambda _, status=status: status)]
        servers.append(entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers))
        found[title] = servers[-1].socket.getsockname()[1]
    yield found
    for each in servers:
        each.shutdown()


@pytest.fixture
def settings(settings: Settings, listening: dict[str, int]) -> Settings:
    destinations = {title: DestinationSettings(host="127.0.0.1", port=port) for title, port in listening.items()}
    destinations["THEIRS"] = destinations["THEIRS"].model_copy(update={"callers": frozenset(("CT9",))})
    return settings.model_copy(update={"dimse": DimseSettings(port=0, destinations=destinations)})


async def peers(site: Site, key: str) -> dict[str, Any]:
    answer = await site.ask("GET", "/admin/peers", key)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    return {each["aeTitle"]: each for each in answer.json["peers"]}


async def test_a_peer_is_asked_by_c_echo_and_what_came_of_it_stays_known(site: Site) -> None:
    before = (await peers(site, "boss"))["PACS"]
    assert (before["verified"], before["listens"]["host"]) == (None, "127.0.0.1")
    answer = await site.ask("POST", "/admin/peers/PACS/echo", "boss")
    assert (answer.status, answer.json["answers"]) == (200, True)
    assert answer.json["associatedSeconds"] > 0
    assert answer.json["answeredSeconds"] > 0
    sick = (await site.ask("POST", "/admin/peers/SICK/echo", "boss")).json
    assert (sick["answers"], sick["detail"]) == (False, "0x0122 (Refused: SOP Class Not Supported)")
    gone = (await site.ask("POST", "/admin/peers/GONE/echo", "boss")).json
    assert (gone["answers"], "refused" in gone["detail"], gone["associatedSeconds"]) == (False, True, None)
    found = await peers(site, "boss")
    assert [found[each]["verified"]["answers"] for each in ("PACS", "SICK", "GONE")] == [True, False, False]
    assert found["GONE"]["verified"]["detail"] == gone["detail"]
    kept = [each for each in site.trail("admin") if each["outcome"].startswith("peer")]
    assert [(each["outcome"], each["subject"], each["principal"]) for each in kept] == [
        ("peer answers", ["echo", "PACS"], "boss"),
        ("peer does not answer", ["echo", "SICK"], "boss"),
        ("peer does not answer", ["echo", "GONE"], "boss"),
    ]


async def test_only_destinations_of_the_tenant_are_asked(site: Site) -> None:
    for key, title in (("boss", "THEIRS"), ("boss", "NOBODY"), ("elsewhere", "NOBODY"), ("boss", "%00")):
        assert (await site.ask("POST", f"/admin/peers/{title}/echo", key)).status == 404, title
    assert (await site.ask("POST", "/admin/peers/THEIRS/echo", "elsewhere")).json["answers"] is False
    assert {"PACS", "CT1"} <= (await peers(site, "boss")).keys()
    assert not {"THEIRS", "CT9"} & (await peers(site, "boss")).keys()
    elsewhere = await peers(site, "elsewhere")
    assert ("THEIRS" in elsewhere, "CT9" in elsewhere, "CT1" in elsewhere) == (True, True, False)
    assert elsewhere["THEIRS"]["verified"]["answers"] is False


def associate(site: Site, *titles: str) -> None:
    server = DimseServer(site.core, socket.create_server(("127.0.0.1", 0)))
    server.start()
    try:
        for title in titles:
            entity = AE(ae_title=title)
            entity.add_requested_context(VERIFICATION)
            association = entity.associate(*server.address, ae_title="GATEWAY")
            if association.is_established:
                association.send_c_echo()
                association.release()
    finally:
        server.stop(5)


async def test_contacts_are_told_with_their_last_failure(site: Site) -> None:
    await asyncio.to_thread(associate, site, "CT1", "CT9", "STRANGER")
    found = await peers(site, "boss")
    [contact] = found["CT1"]["contacts"]
    assert (contact["address"], contact["what"], contact["failed"]) == ("127.0.0.1", "echo allowed", "")
    assert found["CT1"]["principals"] == ["ct-1"]
    assert not {"STRANGER", "CT9"} & found.keys(), "of no tenant, and of another one"
    assert [each["what"] for each in (await peers(site, "elsewhere"))["CT9"]["contacts"]] == ["echo allowed"]


def move(site: Site, destination: str) -> None:
    server = DimseServer(site.core, socket.create_server(("127.0.0.1", 0)))
    server.start()
    try:
        entity = AE(ae_title="CT1")
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
        association = entity.associate(*server.address, ae_title="GATEWAY")
        asked = Dataset()
        asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", "1.2.3"
        assert [
            each.Status
            for each, _ in association.send_c_move(asked, destination, StudyRootQueryRetrieveInformationModelMove)
        ] == [0]
        association.release()
    finally:
        server.stop(5)


async def test_what_was_meant_for_a_peer_is_told(site: Site) -> None:
    await asyncio.to_thread(move, site, "PACS")
    site.core.commitment.told(ids.Tenant("main"), "1.2.3", f"SICK {OVER_OURS}")
    site.core.commitment.told(ids.Tenant("main"), "1.2.4", f"GONE {GIVEN_UP}")
    found = await peers(site, "boss")
    assert {
        title: found[title]["sent"] and found[title]["sent"]["what"] for title in ("PACS", "SICK", "GONE", "CT1")
    } == {
        "PACS": "C-MOVE by ct-1: allowed",
        "SICK": "told of storage commitment",
        "GONE": "could not be told of storage commitment",
        "CT1": None,
    }


async def test_where_there_is_one_tenant_strangers_are_told_too(site: Site) -> None:
    policy = site.core.settings.access.policy_file
    assert policy is not None
    policy.write_text(policy.read_text().replace('tenant = "elsewhere"', ""))
    await asyncio.sleep(1.1)
    await asyncio.to_thread(associate, site, "CT1", "STRANGER")
    [contact] = (await peers(site, "boss"))["STRANGER"]["contacts"]
    assert contact["what"] == "associate denied"
    assert contact["failure"].startswith("associate denied: ")


@pytest.mark.parametrize("key", ["radiologist", "viewer"])
async def test_only_administrators_see_peers(site: Site, key: str) -> None:
    for method, path in (("GET", "/admin/peers"), ("POST", "/admin/peers/PACS/echo")):
        assert (await site.ask(method, path, key)).status == 403
        assert (await site.ask(method, path)).status == 401
