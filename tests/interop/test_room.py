"""A gateway without room for more: it refuses over both protocols, before anything breaks, and goes on to serve."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from pynetdicom import AE

from tests.instances import CT, data_set, part10_file
from tests.serving import Gateway

ALONE = {"GATEWAY_HTTP__WORKERS": "1", "GATEWAY_DIMSE__WORKERS": "1"}
KIND = {"Content-Type": "application/dicom", "Accept": "application/dicom+json"}


def c_store(gateway: Gateway) -> int:
    found = data_set()
    assert part10_file(found)  # gives it its File Meta Information
    entity = AE("TEST")
    entity.add_requested_context(CT)
    association = entity.associate("127.0.0.1", gateway.dimse_port, ae_title="GATEWAY")
    assert association.is_established
    answer = association.send_c_store(found)
    association.release()
    return int(answer.Status)


@pytest.mark.parametrize(
    "full",
    [
        {"GATEWAY_TENANTS__MAIN__QUOTA_INSTANCES": "1"},
        {"GATEWAY_STORAGE__MIN_FREE_BYTES": str(1 << 60)},
    ],
    ids=["quota", "disk"],
)
def test_without_room_stores_are_refused_and_reads_go_on(tmp_path: Path, full: dict[str, str]) -> None:
    first = data_set()
    gateway = Gateway(tmp_path / "data", tmp_path / "log", **ALONE)
    gateway.start()
    assert requests.post(f"{gateway.web}/studies", data=part10_file(first), headers=KIND, timeout=30).status_code == 200
    assert gateway.stop() == 0

    gateway = Gateway(tmp_path / "data", tmp_path / "log", **ALONE, **full)
    gateway.start()
    try:
        before = gateway.object_keys()
        answer = requests.post(f"{gateway.web}/studies", data=part10_file(data_set()), headers=KIND, timeout=30)
        assert answer.status_code == 507, answer.text
        assert c_store(gateway) == 0xA700
        assert gateway.object_keys() == before
        assert list((gateway.directory / "spool").iterdir()) == []
        study = f"{gateway.web}/studies/{first.StudyInstanceUID}"
        assert requests.get(f"{study}/metadata", timeout=30).status_code == 200
        assert requests.get(f"{gateway.web}/studies", timeout=30).status_code == 200
        # To delete is how one gets room again.
        assert requests.delete(study, timeout=30).status_code == 204
    finally:
        assert gateway.stop() == 0, gateway.log
    assert "Traceback" not in gateway.log
