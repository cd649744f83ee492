"""How often a request crosses from the event loop into threads, and which: a crossing costs as much as a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.assembly import Core
from gateway.http.offload import Lane, Offload
from gateway.services.retrieve import RetrieveService
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_answers import OCTETS, PART10
from tests.gateway.dicomweb.test_wado import DICOM, STORED, get, path_of
from tests.instances import data_set, part10_file

JPEG = "image/jpeg"
SENT = part10_file(data_set(NumberOfFrames=2, Rows=2))


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[Lane]:
    """The lanes of every call since the list was last cleared."""
    found: list[Lane] = []
    run = Offload.run

    async def noted(self: Offload, lane: Lane, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        found.append(lane)
        return await run(self, lane, call, *args, **kwargs)

    monkeypatch.setattr(Offload, "run", noted)
    return found


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with objects in S3."""
    init = RetrieveService.__init__

    def elsewhere(self: RetrieveService, *args: Any, near: bool, **kwargs: Any) -> None:
        assert near
        init(self, *args, near=False, **kwargs)

    monkeypatch.setattr(RetrieveService, "__init__", elsewhere)


@pytest.mark.parametrize(
    ("suffix", "accept"),
    [("", PART10), ("", DICOM), ("/frames/1", OCTETS), ("/frames/2,1", STORED)],
)
async def test_what_is_small_and_near_is_found_and_read_in_one_crossing(
    client: Client, lanes: list[Lane], suffix: str, accept: str
) -> None:
    await store(client, SENT)
    lanes.clear()
    status, _, headers = await get(client, path_of(SENT) + suffix, accept)
    assert (status, lanes) == (200, [Lane.OBJECTS])
    lanes.clear()
    known = {"If-None-Match": headers["ETag"]}
    assert (await get(client, path_of(SENT) + suffix, accept, **known))[0] == 304
    assert lanes == [Lane.OBJECTS]


@pytest.mark.parametrize(("suffix", "accept"), [("", PART10), ("", DICOM), ("/frames/1", OCTETS)])
async def test_no_thread_of_the_index_waits_for_a_store_that_is_far(
    far: None, core: Core, client: Client, lanes: list[Lane], suffix: str, accept: str
) -> None:
    await store(client, SENT)
    lanes.clear()
    status, _, headers = await get(client, path_of(SENT) + suffix, accept)
    assert (status, lanes) == (200, [Lane.INDEX, Lane.OBJECTS])
    lanes.clear()
    known = {"If-None-Match": headers["ETag"]}
    assert (await get(client, path_of(SENT) + suffix, accept, **known))[0] == 304
    assert lanes == [Lane.INDEX]


@pytest.mark.parametrize("how", [{"Range": "bytes=0-3"}, {"If-None-Match": "*"}])
async def test_nothing_more_is_read_than_goes_out(
    core: Core, client: Client, monkeypatch: pytest.MonkeyPatch, how: dict[str, str]
) -> None:
    await store(client, SENT)
    lengths = []
    opened = core.archive.objects.open

    def noted(key: str, byte_range: Any = None) -> Any:
        lengths.append(byte_range.length)
        return opened(key, byte_range)

    monkeypatch.setattr(core.archive.objects, "open", noted)
    for suffix, accept in (("", PART10), ("/frames/1", OCTETS)):
        _, body, _ = await get(client, path_of(SENT) + suffix, accept, **how)
        assert sum(lengths) == len(body)
        lengths.clear()


async def test_a_picture_is_made_in_one_crossing_and_kept_without_another(client: Client, lanes: list[Lane]) -> None:
    await store(client, SENT)
    path = f"{path_of(SENT)}/frames/1/rendered"
    lanes.clear()
    status, picture, _ = await get(client, path, JPEG)
    assert (status, lanes) == (200, [Lane.INDEX, Lane.LONG])
    lanes.clear()
    assert (await get(client, path, JPEG))[:2] == (200, picture)
    assert lanes == [Lane.INDEX]
