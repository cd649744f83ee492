"""Recompression by a running gateway, killed again and again while it is at it."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
import requests
from pydicom.dataset import Dataset

from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.objects.condensed import CondensedObjectStore
from storage.reconcile.verifying import Selection, Verification, verify
from tests import engines
from tests.gateway.telemetry.scraping import Scrape
from tests.instances import data_set, part10_file
from tests.ports import free_port
from tests.serving import Gateway

RPCL = "1.2.840.10008.1.2.4.202"
INSTANCES, KILLS = 25, 3


@pytest.mark.parametrize(
    ("pair", "keep"),
    [("s3+sqlite", "beside"), ("local+sqlite", "instead"), ("s3+postgres", "instead")],
)
def test_killed_in_the_middle_it_goes_on_until_everything_has_one(
    pair: str, keep: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    y, x = np.mgrid[:384, :384]
    pixels = [np.round(900 * np.sin((x + 9 * each) / 31) * np.cos(y / 23)).astype("<i2") for each in range(INSTANCES)]
    sent = [data_set(Rows=384, Columns=384, PixelRepresentation=1, PixelData=each.tobytes()) for each in pixels]
    rules = json.dumps([{"name": "all", "keep": keep}])
    environment = {
        "GATEWAY_RECOMPRESSION": rules,
        "GATEWAY_LIFECYCLE__RECOMPRESS_AFTER_HOURS": "0",
        "GATEWAY_LIFECYCLE__INTERVAL_S": "1",
    }
    metrics = free_port()
    environment["GATEWAY_METRICS__PORT"] = str(metrics)
    with engines.made(pair, request) as made:
        gateway = Gateway(tmp_path / "data", tmp_path / "gateway.log", made, **environment)
        gateway.start()
        session = requests.Session()
        for each in sent[:-1]:
            _store(session, gateway, each)
        for kill in range(1, KILLS + 1):
            _wait(gateway, INSTANCES - 1 + kill * 6 - 3)
            gateway.kill_all()
            gateway.start()
        try:
            _store(session, gateway, sent[-1])
            deadline_s = time.monotonic() + 90
            while _recompressed(session, gateway) < INSTANCES:
                assert time.monotonic() < deadline_s, gateway.log[-3000:]
                time.sleep(0.1)
            while keep == "instead" and not _condensed(gateway, sent):
                assert time.monotonic() < deadline_s, gateway.log[-3000:]
                time.sleep(0.1)
            of_each = Counter(ids.parse_object_key(key)[0].sop_uid for key in gateway.object_keys())
            # A kill between object and row leaves an object more, which the reaper takes after its time of grace.
            assert all(2 <= of_each[ids.SopUid(each.SOPInstanceUID)] <= 2 + KILLS for each in sent)
            for each, expected in zip(sent, pixels, strict=True):
                path = (
                    f"{gateway.web}/studies/{each.StudyInstanceUID}/series/{each.SeriesInstanceUID}"
                    f"/instances/{each.SOPInstanceUID}"
                )
                accept = {"Accept": f"application/octet-stream; transfer-syntax={RPCL}"}
                frame = session.get(f"{path}/frames/1", headers=accept, timeout=30)
                assert np.array_equal(imagecodecs.jpeg2k_decode(frame.content), expected)
                accept = {"Accept": "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"}
                native = session.get(f"{path}/frames/1", headers=accept, timeout=30)
                assert native.content == each.PixelData
                accept = {"Accept": "application/dicom; transfer-syntax=*"}
                whole = session.get(path, headers=accept, timeout=30).content
                assert pydicom.dcmread(io.BytesIO(whole)) == each
            if keep == "instead":
                report = verified(gateway)
                assert (report.checked, report.wrong) == (2 * INSTANCES, [])
            counted = Scrape(metrics)
            assert counted.value("gateway_recompression_made_instances_total", rule="all", tenant="main") > 0
            before, after = (
                counted.value("gateway_recompression_bytes_total", of=of) for of in ("originals", "recompressed")
            )
            assert before > after > 0
        finally:
            assert gateway.stop() == 0, gateway.log


def _condensed(gateway: Gateway, sent: list[Dataset]) -> bool:
    """Whether every original is kept as HTJ2K, and no longer as it was sent."""
    with gateway.objects() as objects:
        assert isinstance(objects, CondensedObjectStore)
        kept = [info.key for info in objects._store.list("main/") if "/records/" not in info.key]
    plain = {key for key in kept if key.endswith(".dcm")}
    condensed = Counter(key.rpartition("/")[2].rpartition(".")[0].rpartition(".")[0] for key in set(kept) - plain)
    return all(condensed[each.SOPInstanceUID] == 2 for each in sent) and len(plain) <= KILLS


def verified(gateway: Gateway) -> Verification:
    """What a verification of everything finds."""
    found = Verification()
    with gateway.objects() as objects, gateway.engines.index(gateway.directory) as index:
        verify(Archive(objects, index, Limits()), Selection(), found, threads=2)
    return found


def _store(session: requests.Session, gateway: Gateway, instance: Dataset) -> None:
    body, kind = io.BytesIO(part10_file(instance)), {"Content-Type": "application/dicom"}
    assert session.post(f"{gateway.web}/studies", data=body, headers=kind, timeout=30).status_code == 200


def _recompressed(session: requests.Session, gateway: Gateway) -> int:
    """How many instances have one beside them, as a search tells it."""
    found = session.get(f"{gateway.web}/instances?includefield=AvailableTransferSyntaxUID", timeout=30).json()
    return sum(RPCL in each["00083002"]["Value"] for each in found)


def _wait(gateway: Gateway, objects: int) -> None:
    deadline_s = time.monotonic() + 90
    while len(gateway.object_keys()) < objects:
        assert time.monotonic() < deadline_s, gateway.log[-3000:]
        time.sleep(0.05)
