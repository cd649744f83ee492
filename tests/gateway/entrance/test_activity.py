"""What the gateway does just now, over HTTP."""

from __future__ import annotations

import pytest

from gateway.context import Source
from gateway.services.associations import Association, AssociationLog, Served
from tests.gateway.entrance.conftest import Site, ct
from tests.instances import part10_file

DICOM = {"Content-Type": "application/dicom"}


async def test_room_archive_and_quarantine_are_told_of_the_own_tenant(site: Site) -> None:
    first = ct()
    await site.store(first)
    elsewhere = ct(SOPInstanceUID=first.SOPInstanceUID)
    answer = await site.ask("POST", "/dicomweb/studies", "boss", headers=DICOM, data=part10_file(elsewhere))
    assert answer.status == 409
    found = await site.ask("GET", "/admin/activity", "boss")
    assert (found.status, found.headers["Cache-Control"]) == (200, "no-store")
    told = found.json
    assert (told["fault"], told["commitments"], told["counted"]) == ("", 0, None)
    assert (told["archive"]["objects"], told["archive"]["quarantined"]) == (1, 1)
    assert told["archive"]["bytes"] > 4096
    assert {each["place"] for each in told["room"]} == {"spool", "objects", "audit trail"}
    assert all(each["freeBytes"] > 0 for each in told["room"])
    other = (await site.ask("GET", "/admin/activity", "elsewhere")).json
    assert other["archive"] == {"objects": 0, "bytes": 0, "quarantined": 0}
    assert [each["subject"] for each in site.trail("admin")] == [["activity"], ["activity"]]


@pytest.mark.parametrize("path", ["/admin/activity", "/admin/associations"])
@pytest.mark.parametrize("key", ["radiologist", "viewer"])
async def test_only_administrators_see_it(site: Site, key: str, path: str) -> None:
    assert (await site.ask("GET", path, key)).status == 403
    assert (await site.ask("GET", path)).status == 401


async def test_a_tenant_sees_its_own_associations_and_rejected_ones_of_its_ae_titles(site: Site) -> None:
    log = AssociationLog(site.core.control)
    for number, (calling, tenant) in enumerate((("CT1", "main"), ("CT9", "elsewhere"), ("CT1", ""), ("NOBODY", ""))):
        log.take(_over(1_700_000_000.0 + number, calling, tenant))
    log.start()
    log.stop()
    found = await site.ask("GET", "/admin/associations", "boss")
    assert (found.status, found.headers["Cache-Control"]) == (200, "no-store")
    first, second = found.json["associations"]
    assert (first["calling"], first["outcome"], first["operations"]) == ("CT1", "rejected", [])
    assert second | {"requestId": "", "host": ""} == {
        "requestId": "",
        "began": "2023-11-14T22:13:17.500Z",
        "ended": "2023-11-14T22:13:20.000Z",
        "seconds": 2.5,
        "host": "",
        "calling": "CT1",
        "called": "GATEWAY",
        "address": "10.0.0.9",
        "principal": "",
        "contexts": {"proposed": 3, "accepted": 2, "notAccepted": ["1.2.3"]},
        "operations": [{"operation": "C-STORE", "count": 7, "failed": 1}],
        "outcome": "released",
        "detail": "",
    }
    (other,) = (await site.ask("GET", "/admin/associations", "elsewhere")).json["associations"]
    assert other["calling"] == "CT9"
    assert [each["subject"] for each in site.trail("admin")] == [["associations"], ["associations"]]


def _over(ended_s: float, calling: str, tenant: str) -> Association:
    source = Source("DIMSE", "10.0.0.9", calling, "GATEWAY")
    served = [Served("C-STORE", 7, 1)] if tenant else []
    ending = ("released", "") if tenant else ("rejected", "calling AE title not recognised")
    who = (source.calling_ae_title, source.called_ae_title, source.address, tenant, "")
    return Association(source.request_id, ended_s, 2.5, "host", *who, 3, 2, ["1.2.3"], served, *ending)
