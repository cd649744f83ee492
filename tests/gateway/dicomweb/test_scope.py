"""What is outside of a caller's scope does not exist, on every route of the DICOMweb face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.dicomweb.routes import routes
from gateway.http import application
from tests.gateway.dicomweb.conftest import Client, store
from tests.instances import data_set, part10_file, uid

POLICY = """
[[principal]]
name = "anyone-here"
kind = "loopback"
actions = ["search", "read", "render", "store", "delete"]
scope = { Modality = ["CT"] }
"""


@pytest.fixture
async def scoped(
    core: Core, settings: Settings, tmp_path: Path, aiohttp_client: Callable[..., Awaitable[Client]]
) -> AsyncIterator[Client]:
    """A client that may have CT alone, of the same archive as ``client``."""
    (tmp_path / "policy.toml").write_text(POLICY)
    access = AccessSettings(policy_file=tmp_path / "policy.toml")
    narrow = assembly.build(settings.model_copy(update={"access": access}), "scoped")
    yield await aiohttp_client(application.build(narrow, routes()))
    narrow.close()


def place(found: Dataset) -> tuple[str, str, str]:
    study = f"/dicomweb/studies/{found.StudyInstanceUID}"
    series = f"{study}/series/{found.SeriesInstanceUID}"
    return study, series, f"{series}/instances/{found.SOPInstanceUID}"


async def answer(client: Client, method: str, path: str) -> tuple[int, str, str | None]:
    """Status, detail or body, and total."""
    async with client.request(method, path, headers={"Accept": "*/*"}) as response:
        total = response.headers.get("X-Total-Count")
        if response.status >= 400:
            return response.status, (await response.json(content_type=None))["detail"], total
        return response.status, await response.text(), total


def paths(found: Dataset) -> list[tuple[str, str]]:
    """Every resource of an instance and its series."""
    _, series, instance = place(found)
    below = ("", "/metadata", "/bulkdata", "/pixeldata", "/rendered", "/thumbnail")
    wado = (
        f"/dicomweb/wado?requestType=WADO&studyUID={found.StudyInstanceUID}&seriesUID={found.SeriesInstanceUID}"
        f"&objectUID={found.SOPInstanceUID}"
    )
    return [
        *(("GET", resource + end) for resource in (series, instance) for end in below),
        *(("GET", f"{instance}/frames/1{end}") for end in ("", "/rendered", "/thumbnail")),
        ("GET", f"{instance}/bulkdata/7FE00010"),
        ("GET", f"{series}/instances"),
        ("GET", wado),
        ("GET", f"{wado}&contentType=application/dicom"),
        ("DELETE", series),
        ("DELETE", instance),
    ]


async def test_what_is_out_of_scope_is_answered_as_what_is_not_there(client: Client, scoped: Client) -> None:
    hidden = data_set(Modality="MR", ImageComments="secret of the MR")
    shown = data_set(Modality="CT", StudyInstanceUID=hidden.StudyInstanceUID)
    await store(client, part10_file(hidden), part10_file(shown))
    nothing = data_set(StudyInstanceUID=hidden.StudyInstanceUID, SeriesInstanceUID=uid())
    for there, absent in zip(paths(hidden), paths(nothing), strict=True):
        found = await answer(scoped, *there)
        assert found == await answer(scoped, *absent), there
        assert found[0] in (204, 404), there
    async with client.get(place(hidden)[2] + "/metadata") as response:
        assert response.status == 200


async def test_a_search_of_studies_shows_nothing_of_a_series_out_of_scope(client: Client, scoped: Client) -> None:
    hidden = data_set(Modality="MR", ImageComments="secret of the MR")
    shown = data_set(Modality="CT", StudyInstanceUID=hidden.StudyInstanceUID)
    await store(client, part10_file(hidden), part10_file(shown))
    for level in ("patients", "studies", "series", "instances"):
        query = f"/dicomweb/{level}?includefield=ImageComments&includefield=all"
        async with client.get(query) as response:
            assert "secret of the MR" in await response.text()
        async with scoped.get(query) as response:
            text = await response.text()
        assert response.headers["X-Total-Count"] == "1"
        assert not any(word in text for word in ("secret", hidden.SeriesInstanceUID, hidden.SOPInstanceUID, '"MR"'))


async def test_deletions_feed_and_commitment_tell_nothing_of_what_is_out_of_scope(
    client: Client, scoped: Client
) -> None:
    hidden = data_set(Modality="MR")
    await store(client, part10_file(hidden))
    async with scoped.get("/dicomweb/changefeed") as response:
        assert hidden.StudyInstanceUID not in await response.text()
    item = {
        "00081150": {"vr": "UI", "Value": [hidden.SOPClassUID]},
        "00081155": {"vr": "UI", "Value": [hidden.SOPInstanceUID]},
    }
    body: dict[str, Any] = {"00081199": {"vr": "SQ", "Value": [item]}}
    headers = {"Content-Type": "application/dicom+json"}
    async with scoped.post(f"/dicomweb/commitment-requests/{uid()}", json=body, headers=headers) as response:
        (failed,) = (await response.json(content_type=None))["00081198"]["Value"]
    assert failed["00081197"]["Value"] == [0x0112]
    async with client.delete(place(hidden)[0]) as response:
        assert response.status == 204
    async with client.get("/dicomweb/deletions") as response:
        (deletion,) = await response.json()
    async with scoped.get("/dicomweb/deletions") as response:
        assert await response.json() == []
    async with scoped.post(f"/dicomweb/deletions/{deletion['id']}/undo") as response:
        assert response.status == 404
    async with scoped.get("/dicomweb/changefeed") as response:
        assert hidden.StudyInstanceUID not in await response.text()
