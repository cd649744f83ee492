"""What an access took is counted as it went out."""

from __future__ import annotations

from typing import Any

from gateway.assembly import Core
from tests import trails
from tests.gateway.dicomweb.conftest import Client, store
from tests.instances import data_set, part10_file


def completed(core: Core) -> dict[str, dict[str, Any]]:
    """Records of what accesses took, by their actions."""
    core.trail.close()
    lines = trails.records(core.trail.directory)
    return {line["action"]: line for line in lines if line["outcome"] == "completed"}


async def test_frames_instances_and_bytes_of_a_series_are_counted(client: Client, core: Core) -> None:
    found = data_set(Rows=8, Columns=8, NumberOfFrames=4, PixelData=bytes(8 * 8 * 2 * 4))
    status, _ = await store(client, part10_file(found))
    assert status == 200
    series = f"/dicomweb/studies/{found.StudyInstanceUID}/series/{found.SeriesInstanceUID}"
    instance = f"{series}/instances/{found.SOPInstanceUID}"
    took: dict[str, int] = {"read": 0, "download": 0}
    for path, accept, action in (
        (f"{instance}/frames/1", "application/octet-stream", "read"),
        (f"{instance}/frames/2,3", 'multipart/related; type="application/octet-stream"', "read"),
        (f"{series}/metadata", "application/dicom+json", "read"),
        (instance, 'multipart/related; type="application/dicom"', "download"),
    ):
        async with client.get(path, headers={"Accept": accept, "Accept-Encoding": "identity"}) as response:
            assert response.status == 200
            took[action] += len(await response.read())
    counted = completed(core)
    assert {name: counted["read"][name] for name in ("requests", "instances", "frames")} == {
        "requests": 3,
        "instances": 3,
        "frames": 3,
    }
    assert counted["download"]["bytes"] == took["download"]
    assert counted["read"]["subject"] == [found.StudyInstanceUID, found.SeriesInstanceUID]
    assert counted["read"]["bytes"] == took["read"]


async def test_matches_of_searches_are_counted(client: Client, core: Core) -> None:
    for _ in range(3):
        assert (await store(client, part10_file(data_set(PatientID="COUNTED"))))[0] == 200
    for query in ("PatientID=COUNTED", "PatientID=COUNTED&limit=2", "PatientID=NOBODY"):
        async with client.get(f"/dicomweb/studies?{query}") as response:
            assert response.status in (200, 204)
    counted = completed(core)["search"]
    assert (counted["requests"], counted["matches"], counted["subject"]) == (3, 5, [])
    assert "query" not in counted
