"""The metrics port of a real gateway: counts of all workers together, which outlive a worker."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from tests.gateway.telemetry.scraping import Scrape
from tests.instances import data_set, part10_file
from tests.serving import Gateway, free_port, title

QIDO = {"route": "/dicomweb/studies", "method": "GET", "status": "204"}


class Measured(Gateway):
    """A gateway with a metrics port and lines of JSON."""

    def __init__(self, folder: Path) -> None:
        self.metrics_port = free_port()
        super().__init__(
            folder / "data", folder / "log", GATEWAY_METRICS__PORT=str(self.metrics_port), GATEWAY_LOG__FORMAT="json"
        )

    def scrape(self) -> Scrape:
        return Scrape(self.metrics_port)

    def workers_of(self, face: str) -> list[int]:
        return [pid for pid in self.workers() if title(pid).startswith(f"gateway {face}-")]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    gateway = Measured(tmp_path_factory.mktemp("measured"))
    gateway.start()
    yield gateway
    gateway.kill_all()


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)


def search_on_every_worker(gateway: Measured, rounds: int) -> None:
    """A connection of its own for each request: the workers take turns at accepting."""
    for _ in range(rounds):
        answer = requests.get(f"{gateway.web}/studies?PatientName=Nobody*", timeout=30)
        assert answer.status_code == 204


def files_that_count(gateway: Measured) -> set[str]:
    return {
        path.stem.partition("_")[2]
        for path in (gateway.directory / "metrics").glob("counter_*.db")
        if b"gateway_http_requests_total" in path.read_bytes()
    }


def test_counts_add_up_over_workers_and_outlive_a_killed_one(gateway: Measured) -> None:
    before = gateway.scrape().value("gateway_http_requests_total", **QIDO)
    restarts = gateway.scrape().value("gateway_worker_restarts_total", face="http")
    sent = 0
    while len(files_that_count(gateway)) < 2 or not sent:
        search_on_every_worker(gateway, 20)
        sent += 20
        assert sent < 2000, "one worker took every connection"
    assert gateway.scrape().value("gateway_http_requests_total", **QIDO) == before + sent
    victims = set(gateway.workers_of("http"))
    gateway.kill(*victims)
    eventually(
        lambda: (
            gateway.scrape().value("gateway_workers_ready", face="http") == 2
            and not victims & set(gateway.workers_of("http"))
        )
    )
    search_on_every_worker(gateway, 20)
    after = gateway.scrape()
    assert after.value("gateway_http_requests_total", **QIDO) == before + sent + 20
    assert after.value("gateway_http_request_seconds_count", route="/dicomweb/studies", method="GET") >= sent + 20
    assert after.value("gateway_worker_restarts_total", face="http") == restarts + 2
    assert after.value("gateway_http_requests_active") == 0


def test_dimse_and_engines_are_measured(gateway: Measured) -> None:
    sent = data_set(PatientName="Secret^Name", PatientID="S3CR3T")
    part10_file(sent)  # gives it File Meta Information
    ae = AE()
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.add_requested_context(Verification)
    before = gateway.scrape()
    association = ae.associate("127.0.0.1", gateway.dimse_port, ae_title="GATEWAY")
    assert association.is_established
    assert gateway.scrape().value("gateway_dimse_connections_active") == 1
    assert association.send_c_echo().Status == 0
    assert association.send_c_store(sent).Status == 0
    assert association.send_c_store(sent).Status == 0
    association.release()
    assert not ae.associate("127.0.0.1", gateway.dimse_port, ae_title="ANOTHER").is_established
    eventually(lambda: gateway.scrape().value("gateway_dimse_connections_active") == 0)
    after = gateway.scrape()

    def more(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert more("gateway_dimse_associations_total", result="accepted") == 1
    assert more("gateway_dimse_associations_total", result="rejected") == 1
    assert more("gateway_dimse_requests_total", operation="C-STORE", status="0x0000") == 2
    assert more("gateway_dimse_requests_total", operation="C-ECHO", status="0x0000") == 1
    assert more("gateway_dimse_received_bytes_total") > 2 * len(sent.PixelData)
    assert more("gateway_engine_operation_seconds_count", engine="objects", operation="put") == 1
    assert more("gateway_index_commits_total", outcome="stored") == 1
    assert more("gateway_index_group_size_sum") == 1
    assert more("gateway_object_bytes_total", direction="written") > len(sent.PixelData)
    assert after.value("gateway_index_writes_waiting") == 0
    assert after.value("gateway_workers_ready") == after.value("gateway_workers") == 5
    assert after.value("gateway_spool_files") == 0
    assert after.value("gateway_disk_free_bytes") > 0
    assert after.value("gateway_build_info") == 1


def test_nothing_of_patients_and_no_uid_is_in_a_scrape_or_in_the_log(gateway: Measured) -> None:
    sent = data_set(PatientName="Secret^Name", PatientID="S3CR3T")
    headers = {"Content-Type": "application/dicom"}
    answer = requests.post(f"{gateway.web}/studies", data=part10_file(sent), headers=headers, timeout=30)
    assert answer.status_code == 200
    for path in (
        f"/studies/{sent.StudyInstanceUID}/metadata",
        "/studies?PatientName=Secret*",
        "/nowhere/S3CR3T",
        "/%0aS3CR3T",
    ):
        requests.get(gateway.web + path, timeout=30)
    requests.request("PROPFIND", gateway.web + "/studies", timeout=30)
    text = gateway.scrape().text
    assert 'route="/dicomweb/studies/{study}/metadata"' in text
    assert 'method="other"' in text
    for secret in ("Secret", "S3CR3T", sent.StudyInstanceUID, "PatientName"):
        assert secret not in text
        if secret != sent.StudyInstanceUID:
            assert secret not in gateway.log
    assert not re.search(r'"[0-9]+(\.[0-9]+){4,}"', text)


def test_readiness_is_told_beside_the_metrics_and_liveness_asks_nothing(gateway: Measured) -> None:
    port = f"http://127.0.0.1:{gateway.metrics_port}"
    assert requests.get(port + "/health/live", timeout=30).json() == {"status": "live"}
    assert requests.get(port + "/health/ready", timeout=30).json() == {"status": "ready"}
    assert requests.get(port + "/dicomweb/studies", timeout=30).status_code == 404
    assert requests.get(gateway.web.removesuffix("/dicomweb") + "/metrics", timeout=30).status_code == 404


def test_a_face_without_a_worker_is_not_ready(gateway: Measured) -> None:
    def readiness() -> requests.Response:
        return requests.get(f"http://127.0.0.1:{gateway.metrics_port}/health/ready", timeout=30)

    eventually(lambda: readiness().status_code == 200)
    gateway.kill(*gateway.workers_of("dimse"))
    eventually(lambda: readiness().status_code == 503)
    eventually(lambda: readiness().status_code == 200)
