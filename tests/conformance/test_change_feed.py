"""Conformance statement 4.10: Change feed."""

from __future__ import annotations

import copy
import threading
from typing import Any

import requests
from pydicom.dataset import Dataset

from tests.conformance.claims import claim
from tests.conformance.conftest import Web, instance_path
from tests.instances import data_set, uid


def now(web: Web) -> dict[str, Any]:
    found: dict[str, Any] = web.get("/changefeed/latest").json()
    return found


def since(web: Web, after: int, found: Dataset) -> list[dict[str, Any]]:
    changes = web.get("/changefeed", after=after, limit=1000).json()["changes"]
    return [each for each in changes if each["studyInstanceUID"] == found.StudyInstanceUID]


@claim("F1", "F4", "F6")
def test_what_happened_comes_in_its_order_and_goes_on_after_next(web: Web) -> None:
    before = now(web)
    (one,), (two,) = web.store(data_set()), web.store(data_set())
    page = web.get("/changefeed", after=before["next"], limit=1, epoch=before["epoch"]).json()
    (first,) = page["changes"]
    assert (first["action"], first["state"], first["sopInstanceUID"]) == ("created", "current", one.SOPInstanceUID)
    assert first["url"] == web.root + instance_path(one)
    assert page["more"] is True
    following = web.get("/changefeed", after=page["next"]).json()
    assert following["changes"][0]["sopInstanceUID"] == two.SOPInstanceUID
    assert following["next"] >= now(web)["next"] - 1


@claim("F2", "F3")
def test_newer_versions_deletions_and_restorations(web: Web) -> None:
    after = now(web)["next"]
    (found,) = web.store(data_set())
    newer = copy.deepcopy(found)
    newer.SeriesDescription = "newer"
    web.store(newer)
    place = web.send("DELETE", instance_path(found)).headers["Location"].removeprefix(web.root)
    assert web.send("POST", f"{place}/undo").status_code == 200
    changes = since(web, after, found)
    assert [each["action"] for each in changes][:2] == ["created", "updated"]
    assert changes[0]["state"] == "replaced"
    assert {"deleted", "restored"} <= {each["action"] for each in changes}


@claim("F5")
def test_a_request_waits_until_there_is_something(web: Web) -> None:
    after = now(web)["next"]
    made = data_set()
    storing = threading.Timer(0.3, web.store, [made])
    storing.start()
    changes = web.get("/changefeed", after=after, wait=30).json()["changes"]
    storing.join()
    assert [each["sopInstanceUID"] for each in changes] == [made.SOPInstanceUID]


@claim("F7")
def test_another_epoch_is_410(web: Web) -> None:
    assert web.get("/changefeed", after=0, epoch="0123456789abcdef").status_code == 410


@claim("F8")
def test_events_go_on_after_the_last_event_id(web: Web) -> None:
    before = now(web)
    (found,) = web.store(data_set())
    headers = {"Accept": "text/event-stream", "Last-Event-ID": f"{before['epoch']}-{before['next']}"}
    with requests.get(f"{web.root}/changefeed", headers=headers, stream=True, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        event: list[str] = []
        for line in answer.iter_lines(decode_unicode=True):
            event.append(line)
            if line.startswith("data:"):
                break
    assert "event: created" in event
    assert found.SOPInstanceUID in event[-1]


@claim("F9")
def test_a_study_is_complete_when_all_of_it_is_committed(web: Web) -> None:
    after = now(web)["next"]
    (found,) = web.store(data_set())
    item = {
        "00081150": {"vr": "UI", "Value": [found.SOPClassUID]},
        "00081155": {"vr": "UI", "Value": [found.SOPInstanceUID]},
    }
    body = {"00081199": {"vr": "SQ", "Value": [item]}}
    headers = {"Content-Type": "application/dicom+json"}
    assert web.send("POST", f"/commitment-requests/{uid()}", json=body, headers=headers).status_code == 200
    last = since(web, after, found)[-1]
    assert last["action"] == "completed"
    assert last["detail"]
