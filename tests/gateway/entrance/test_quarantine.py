"""The quarantine over HTTP: what is in it, what it contradicts, and how it comes out."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from gateway.dimse.server import DimseServer
from storage import records
from storage.dicom import identifiers as ids
from storage.index.stored import Held
from tests.gateway.entrance.conftest import Site, ct
from tests.instances import part10_file

DICOM = {"Content-Type": "application/dicom"}
MAIN = ids.Tenant("main")


async def misplace(site: Site, *, patient: str = "P-2") -> tuple[Dataset, Dataset]:
    """An instance that is stored, and one in quarantine, of another study and patient and with the same UID."""
    first = ct(PatientID="P-1", PatientName="Right^Ann", Modality="CT")
    await site.store(first)
    second = ct(PatientID=patient, PatientName="Wrong^Bob", Modality="CT", SOPInstanceUID=first.SOPInstanceUID)
    answer = await site.ask("POST", "/dicomweb/studies", "boss", headers=DICOM, data=part10_file(second))
    assert answer.status == 409
    return first, second


async def listed(site: Site, key: str = "boss", **query: str) -> list[dict[str, Any]]:
    answer = await site.ask("GET", "/admin/quarantine", key, params=query)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    found: list[dict[str, Any]] = answer.json["instances"]
    return found


def objects(site: Site) -> list[str]:
    return sorted(info.key for info in site.core.archive.objects.list("main/"))


def send(site: Site, title: str, data_set: Dataset) -> None:
    server = DimseServer(site.core, socket.create_server(("127.0.0.1", 0)))
    server.start()
    try:
        entity = AE(ae_title=title)
        entity.add_requested_context(data_set.SOPClassUID, data_set.file_meta.TransferSyntaxUID)
        association = entity.associate(*server.address, ae_title="GATEWAY")
        assert association.send_c_store(data_set).Status == 0xC001
        association.release()
    finally:
        server.stop(5)


async def test_it_tells_what_is_there_why_and_from_whom(site: Site) -> None:
    first, second = await misplace(site)
    third = ct(SOPInstanceUID=first.SOPInstanceUID)
    part10_file(third)
    await asyncio.to_thread(send, site, "CT1", third)
    by_web, by_dimse = await listed(site)
    assert (by_web["study"], by_web["instance"]) == (second.StudyInstanceUID, first.SOPInstanceUID)
    assert by_web["reason"]
    assert (by_web["source"], by_web["principal"], by_web["address"]) == ("", "boss", "127.0.0.1")
    assert (by_dimse["source"], by_dimse["principal"], by_dimse["address"]) == ("CT1", "ct-1", "127.0.0.1")
    assert by_web["received"] < by_dimse["received"]
    assert await listed(site, limit="1") == [by_web]
    assert await listed(site, after=by_web["version"]) == [by_dimse]
    assert await listed(site, "elsewhere") == []


async def test_what_differs_is_told_to_who_may_read_as_well(site: Site) -> None:
    first, second = await misplace(site)
    [item] = await listed(site)
    answer = await site.ask("GET", f"/admin/quarantine/{item['version']}", "boss")
    assert (answer.status, answer.json["against"]) == (200, "the instance of the same SOP Instance UID")
    found = {each["keyword"]: (each["here"], each["archive"]) for each in answer.json["compared"]}
    assert found["PatientName"] == ("Wrong^Bob", "Right^Ann")
    assert found["StudyInstanceUID"] == (second.StudyInstanceUID, first.StudyInstanceUID)
    assert found["SOPInstanceUID"] == (first.SOPInstanceUID, first.SOPInstanceUID)
    reads = [each["subject"] for each in site.trail("read")]
    assert reads == [[second.StudyInstanceUID, second.SeriesInstanceUID, second.SOPInstanceUID]]


@pytest.mark.parametrize(
    ("rules", "listing", "showing"),
    [
        ('actions = ["admin"]', 200, 403),
        ('actions = ["admin", "read"]\nscope = { Modality = ["CT"] }', 403, 403),
        ('actions = ["search", "read", "store", "delete", "share"]', 403, 403),
    ],
    ids=["administers alone", "within a scope", "administers not"],
)
async def test_who_may_not_is_refused(site: Site, rules: str, listing: int, showing: int) -> None:
    await misplace(site)
    [item] = await listed(site)
    policy = site.core.settings.access.policy_file
    assert policy is not None
    policy.write_text(policy.read_text().replace('roles = ["viewer"]', rules))
    await asyncio.sleep(1.1)
    one = f"/admin/quarantine/{item['version']}"
    assert (await site.ask("GET", "/admin/quarantine", "viewer")).status == listing
    assert (await site.ask("GET", one, "viewer")).status == showing
    for what in ("release", "discard"):
        assert (await site.ask("POST", f"{one}/{what}")).status == 401
        if listing == 403:
            assert (await site.ask("POST", f"{one}/{what}", "viewer")).status == 403
    assert (await site.ask("POST", f"{one}/release", "elsewhere")).status == 404
    assert len(await listed(site)) == 1


async def test_a_release_stores_once_the_cause_is_put_right(site: Site) -> None:
    first, second = await misplace(site)
    [item] = await listed(site)
    before = objects(site)
    path = f"/admin/quarantine/{item['version']}/release"
    refused = await site.ask("POST", path, "boss")
    assert (refused.status, refused.detail.startswith("it stays in quarantine: ")) == (409, True)
    assert (await listed(site), objects(site)) == ([item], before), "nothing is left of the attempt"
    assert (await site.ask("DELETE", f"/dicomweb/studies/{first.StudyInstanceUID}", "boss")).status == 204
    released = await site.ask("POST", path, "boss")
    assert (released.status, released.json) == (200, {"outcome": "stored"})
    assert await listed(site) == []
    got = await site.ask("GET", f"/dicomweb/studies/{second.StudyInstanceUID}/metadata", "boss")
    assert got.json[0]["00100020"]["Value"] == ["P-2"]
    assert (await site.ask("POST", path, "boss")).status == 404
    kept = [each for each in site.trail("admin") if "release" in each["outcome"]]
    assert [(each["outcome"], each["principal"]) for each in kept] == [
        ("release refused", "boss"),
        ("released from quarantine", "boss"),
    ]
    assert kept[1]["subject"] == [second.StudyInstanceUID, second.SeriesInstanceUID, second.SOPInstanceUID]


async def test_what_is_released_keeps_its_sender(site: Site) -> None:
    first, _ = await misplace(site)
    third = ct(SOPInstanceUID=first.SOPInstanceUID)
    part10_file(third)
    await asyncio.to_thread(send, site, "CT1", third)
    item = (await listed(site))[1]
    await site.ask("DELETE", f"/dicomweb/studies/{first.StudyInstanceUID}", "boss")
    assert (await site.ask("POST", f"/admin/quarantine/{item['version']}/release", "boss")).status == 200
    headers = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    answer = await site.ask("GET", f"/dicomweb/studies/{third.StudyInstanceUID}", "boss", headers=headers)
    assert b"CT1" in answer.body.partition(b"\x02\x00\x16\x00")[2][:24]


async def test_a_discard_leaves_neither_object_nor_record_of_it(site: Site) -> None:
    _, second = await misplace(site)
    [item] = await listed(site)
    path = f"/admin/quarantine/{item['version']}/discard"
    study = ids.StudyUid(second.StudyInstanceUID)
    index, hold = site.core.archive.index, site.core.archive.new_version()
    index.hold(MAIN, hold, b"{}", Held(study, "", "", "case 1"))
    held = await site.ask("POST", path, "boss")
    assert (held.status, len(await listed(site))) == (409, 1)
    index.release(MAIN, site.core.archive.new_version(), b"{}", hold)
    assert (await site.ask("POST", path, "boss")).status == 204
    assert await listed(site) == []
    assert not [key for key in objects(site) if second.StudyInstanceUID in key]
    bodies = [site.core.archive.objects.get(key) for key in objects(site) if records.is_record(key)]
    assert bodies == [records.Erasure((ids.Version(item["version"]),)).dumps()]
    assert "discarded from quarantine" in site.outcomes("admin")


@pytest.mark.parametrize(
    ("path", "status"),
    [("?limit=0", 400), ("?limit=201", 400), ("?limit=x", 400), ("/nothing", 400), (f"/{'0' * 26}", 404)],
)
async def test_a_question_that_is_none_is_refused(site: Site, path: str, status: int) -> None:
    assert (await site.ask("GET", f"/admin/quarantine{path}", "boss")).status == status
