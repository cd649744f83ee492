"""The change feed over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.assembly import Core
from gateway.http.application import FOLLOWERS, UNDER_WAY
from tests.gateway.dicomweb.conftest import Client, store
from tests.instances import data_set, part10_file

FEED = "/dicomweb/changefeed"
EVENTS = {"Accept": "text/event-stream"}


async def page(client: Client, **parameters: Any) -> dict[str, Any]:
    async with client.get(FEED, params=parameters) as response:
        assert response.status == 200
        found: dict[str, Any] = await response.json()
        return found


class Events:
    """A follower of the stream."""

    def __init__(self, response: Any) -> None:
        self._response = response

    async def next(self) -> tuple[str, str, dict[str, Any]]:
        """Id, name and data of the next event; comments and the retry time are passed over."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(30):
            while True:
                line = (await self._response.content.readline()).decode()
                if not line:
                    raise EOFError
                if line == "\n":
                    if "data" in fields:
                        return fields["id"], fields["event"], json.loads(fields["data"])
                    fields = {}
                    continue
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value


async def test_the_feed_tells_what_was_stored_and_deleted(client: Client) -> None:
    assert (await page(client))["changes"] == []
    one = data_set()
    await store(client, part10_file(one))
    async with client.delete(f"/dicomweb/studies/{one.StudyInstanceUID}") as response:
        assert response.status == 204
    found = await page(client)
    created, deleted = found["changes"]
    assert (created["action"], created["state"], deleted["action"]) == ("created", "deleted", "deleted")
    assert created["sopInstanceUID"] == one.SOPInstanceUID
    assert created["url"].endswith(f"/instances/{one.SOPInstanceUID}")
    assert created["time"].endswith("Z")
    assert (found["next"], found["more"]) == (deleted["sequence"], False)


async def test_the_feed_is_read_page_by_page(client: Client) -> None:
    await store(client, *(part10_file(data_set()) for _ in range(5)))
    seen, after = [], 0
    while True:
        found = await page(client, after=after, limit=2)
        seen += [change["sequence"] for change in found["changes"]]
        after = found["next"]
        if not found["more"]:
            break
    assert len(seen) == len(set(seen)) == 5
    async with client.get(f"{FEED}/latest") as response:
        assert await response.json() == {"epoch": found["epoch"], "next": after}


async def test_another_epoch_is_410(client: Client) -> None:
    async with client.get(FEED, params={"epoch": "00ff", "after": "3"}) as response:
        assert response.status == 410


async def test_a_long_poll_answers_as_soon_as_something_happens(client: Client) -> None:
    polling = asyncio.create_task(page(client, after=0, wait=60))
    while client.app[FOLLOWERS][""]._looking is None:  # type: ignore[union-attr]
        await asyncio.sleep(0)
    one = data_set()
    await store(client, part10_file(one))
    async with asyncio.timeout(30):
        found = await polling
    assert [change["sopInstanceUID"] for change in found["changes"]] == [one.SOPInstanceUID]


async def test_a_long_poll_in_which_nothing_happens_ends_empty(client: Client) -> None:
    assert (await page(client, wait=1))["changes"] == []


async def test_events_come_as_they_happen_and_go_on_after_the_last_one_seen(client: Client) -> None:
    one, two, three = data_set(), data_set(), data_set()
    async with client.get(FEED, headers=EVENTS) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        events = Events(response)
        await store(client, part10_file(one))
        first, name, change = await events.next()
        assert (name, change["sopInstanceUID"]) == ("created", one.SOPInstanceUID)
    await store(client, part10_file(two))
    async with client.get(FEED, headers={**EVENTS, "Last-Event-ID": first}) as response:
        events = Events(response)
        assert (await events.next())[2]["sopInstanceUID"] == two.SOPInstanceUID
        await store(client, part10_file(three))
        assert (await events.next())[2]["sopInstanceUID"] == three.SOPInstanceUID


async def test_a_follower_of_another_epoch_is_told_to_begin_anew(client: Client) -> None:
    async with client.get(FEED, headers={**EVENTS, "Last-Event-ID": "00ff-7"}) as response:
        _, name, data = await Events(response).next()
    assert (name, data["next"]) == ("reset", 0)


async def test_a_stream_ends_when_the_process_is_about_to(client: Client) -> None:
    async with client.get(FEED, headers=EVENTS) as response:
        client.app[UNDER_WAY].draining = True  # type: ignore[union-attr]
        with pytest.raises(EOFError):
            await Events(response).next()


async def test_no_more_may_follow_than_the_settings_allow(client: Client, core: Core) -> None:
    async with client.get(FEED, headers=EVENTS):
        client.app[FOLLOWERS][""]._maximum = 1  # type: ignore[union-attr]
        async with client.get(FEED, headers=EVENTS) as response:
            assert response.status == 503


@pytest.mark.parametrize("parameters", [{"after": "-1"}, {"limit": "x"}, {"wait": "1.5"}, {"epoch": "z"}])
async def test_parameters_out_of_form_are_400(client: Client, parameters: dict[str, str]) -> None:
    async with client.get(FEED, params=parameters) as response:
        assert response.status == 400


async def test_an_event_id_out_of_form_is_400(client: Client) -> None:
    async with client.get(FEED, headers={**EVENTS, "Last-Event-ID": "nonsense"}) as response:
        assert response.status == 400
