"""What the gateway does just now, over HTTP."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("key", ["radiologist", "viewer"])
async def test_only_administrators_see_it(site: Site, key: str) -> None:
    assert (await site.ask("GET", "/admin/activity", key)).status == 403
    assert (await site.ask("GET", "/admin/activity")).status == 401
