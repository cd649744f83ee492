"""DELETE and its undoing."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.assembly import Core
from storage import reconcile
from storage.dicom.identifiers import Tenant
from storage.index.stored import Held
from tests.gateway.dicomweb.conftest import Client, store
from tests.instances import data_set, part10_file, uid


async def delete(client: Client, path: str) -> tuple[int, str]:
    async with client.delete(f"/dicomweb{path}") as response:
        return response.status, response.headers.get("Location", "").partition("/dicomweb")[2]


async def status(client: Client, path: str) -> int:
    async with client.get(f"/dicomweb{path}") as response:
        return response.status


async def deletions(client: Client) -> list[dict[str, Any]]:
    async with client.get("/dicomweb/deletions") as response:
        assert response.status == 200
        found: list[dict[str, Any]] = await response.json()
        return found


@pytest.mark.parametrize("level", ["study", "series", "instance"])
async def test_what_is_deleted_is_410_and_comes_back_when_that_is_undone(client: Client, level: str) -> None:
    one = data_set()
    await store(client, part10_file(one))
    study, series, sop = one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID
    path = {
        "study": f"/studies/{study}",
        "series": f"/studies/{study}/series/{series}",
        "instance": f"/studies/{study}/series/{series}/instances/{sop}",
    }[level]
    code, location = await delete(client, path)
    assert code == 204
    for below in (path, f"{path}/metadata"):
        assert await status(client, below) == 410
    assert await status(client, f"/studies?StudyInstanceUID={study}") == 204
    (listed,) = await deletions(client)
    assert (listed["studyInstanceUID"], listed["versions"], listed["undoable"]) == (study, 1, True)
    assert listed["url"].endswith(location)
    assert ("sopInstanceUID" in listed) == (level == "instance")
    async with client.post(f"/dicomweb{location}/undo") as response:
        assert (response.status, await response.json()) == (200, {"restored": 1})
    assert await status(client, path) == 200
    assert await deletions(client) == []


async def test_deleting_twice_is_410_and_deleting_nothing_404(client: Client) -> None:
    one = data_set()
    await store(client, part10_file(one))
    assert (await delete(client, f"/studies/{one.StudyInstanceUID}"))[0] == 204
    assert (await delete(client, f"/studies/{one.StudyInstanceUID}"))[0] == 410
    assert (await delete(client, f"/studies/{uid()}"))[0] == 404
    assert (await delete(client, "/studies/no-uid"))[0] == 400


async def test_an_undone_or_unknown_deletion_cannot_be_undone(client: Client) -> None:
    one = data_set()
    await store(client, part10_file(one))
    _, location = await delete(client, f"/studies/{one.StudyInstanceUID}")
    for code in (200, 404):
        async with client.post(f"/dicomweb{location}/undo") as response:
            assert response.status == code
    async with client.post("/dicomweb/deletions/nonsense/undo") as response:
        assert response.status == 400


async def test_once_the_objects_are_going_the_answer_is_410(client: Client, core: Core) -> None:
    one = data_set()
    await store(client, part10_file(one))
    _, location = await delete(client, f"/studies/{one.StudyInstanceUID}")
    assert reconcile.purge(core.archive, -60.0) == 1
    async with client.post(f"/dicomweb{location}/undo") as response:
        assert response.status == 410
    assert await status(client, f"/studies/{one.StudyInstanceUID}") == 410
    status_again, _ = await store(client, part10_file(one))
    assert status_again == 200
    assert await status(client, f"/studies/{one.StudyInstanceUID}") == 200


async def test_what_is_held_is_refused_and_stays(client: Client, core: Core) -> None:
    found = data_set()
    await store(client, part10_file(found))
    held = Held(found.StudyInstanceUID, "", "", "case 7")
    core.archive.index.hold(Tenant("main"), core.archive.new_version(), b"{}", held)
    path = f"/dicomweb/studies/{found.StudyInstanceUID}"
    for below in ("", f"/series/{found.SeriesInstanceUID}"):
        async with client.delete(path + below) as response:
            assert response.status == 409
            assert "legal hold" in (await response.json(content_type=None))["detail"]
    async with client.get(f"{path}/metadata") as response:
        assert response.status == 200
