"""What the background worker does, seen from outside of a running gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway import assembly
from storage.control.base import now_s
from tests.engines import Engines
from tests.instances import data_set, part10_file
from tests.serving import Gateway
from tests.webhook_receiver import SECRET, Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


def test_a_quiet_study_is_complete_and_a_deleted_one_leaves_the_store_and_a_webhook_is_told(
    tmp_path: Path, own_engines: Engines, face_workers: dict[str, str], receiver: Receiver
) -> None:
    environment = {
        "GATEWAY_WEBHOOKS": json.dumps([{"name": "ris", "url": receiver.url, "secret": SECRET}]),
        "GATEWAY_HTTP__PUBLIC_URL": "https://pacs.hospital.test",
        "GATEWAY_STORAGE__STUDY_QUIET_S": "1",
        "GATEWAY_STORAGE__UNDO_S": "0",
        "GATEWAY_STORAGE__REAP_INTERVAL_S": "1",
        **face_workers,
    }
    gateway = Gateway(tmp_path / "data", tmp_path / "gateway.log", own_engines, **environment)
    gateway.start()
    try:
        kept, deleted = data_set(), data_set()
        for each in (kept, deleted):
            response = requests.post(
                f"{gateway.web}/studies",
                data=part10_file(each),
                headers={"Content-Type": "application/dicom"},
                timeout=30,
            )
            assert response.status_code == 200
        _wait_for_completion(gateway, kept.StudyInstanceUID)
        _told(receiver, 2)
        answer = requests.delete(f"{gateway.web}/studies/{deleted.StudyInstanceUID}", timeout=30)
        assert answer.status_code == 204
        deadline_s = time.monotonic() + 60
        while any(deleted.SOPInstanceUID in key for key in gateway.object_keys()):
            assert time.monotonic() < deadline_s, gateway.log
            time.sleep(0.1)
        assert any(kept.SOPInstanceUID in key for key in gateway.object_keys())
        told = [(each["type"], each["data"]["study_uid"]) for each in _told(receiver, 3)]
        assert sorted(told[:2]) == sorted(("study.completed", each.StudyInstanceUID) for each in (kept, deleted))
        assert told[2] == ("study.deleted", deleted.StudyInstanceUID)
        address = receiver.verified()[0]["data"]["dicomweb"]
        found = requests.get(address.replace("https://pacs.hospital.test/dicomweb", gateway.web), timeout=30)
        assert found.status_code in (200, 410)
        gone = requests.get(f"{gateway.web}/studies/{deleted.StudyInstanceUID}", timeout=30)
        assert gone.status_code == 410
    finally:
        assert gateway.stop() == 0, gateway.log


def _told(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    """What the webhook was told, once it is so much."""
    deadline_s = time.monotonic() + 60
    while len(receiver.messages) < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return receiver.verified()


def _wait_for_completion(gateway: Gateway, study_uid: str) -> None:
    """Follow the events from the start until the study is complete."""
    with requests.get(
        f"{gateway.web}/changefeed",
        params={"after": "0"},
        headers={"Accept": "text/event-stream"},
        stream=True,
        timeout=60,
    ) as response:
        for line in response.iter_lines(chunk_size=1):
            if line.startswith(b"data: "):
                change = json.loads(line[6:])
                if change["action"] == "completed" and change["studyInstanceUID"] == study_uid:
                    return
    raise AssertionError("the stream ended")


def test_what_has_ended_leaves_the_control_state(tmp_path: Path, own_engines: Engines) -> None:
    gateway = Gateway(tmp_path / "data", tmp_path / "gateway.log", own_engines)
    with closing(assembly.control(own_engines.settings(gateway.directory))) as control:
        control.put("session", "ended", {}, expected=None, expires_at_s=1.0)
        control.put("session", "goes on", {}, expected=None, expires_at_s=now_s() + 3600)
        control.count_failure(["forgotten"], 1.0, 1.0)
        control.count_failure(["remembered"], now_s(), 3600.0)
        gateway.start()
        try:
            deadline_s = time.monotonic() + 60
            while control.failures(["forgotten"], 0.0):
                assert time.monotonic() < deadline_s, gateway.log
                time.sleep(0.1)
            assert control.sweep() == 0, "nor is anything else left"
            assert control.failures(["remembered"], 0.0)
            assert control.get("session", "goes on") is not None
        finally:
            assert gateway.stop() == 0, gateway.log
