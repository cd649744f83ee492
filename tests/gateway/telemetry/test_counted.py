"""What is read from the metrics of all processes, and what of it a tenant is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.telemetry import counted
from gateway.telemetry.counted import Duty, Workers
from gateway.telemetry.exposition import Exposition
from tests.ports import free_port


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where metrics of two tenants are told."""
    registry = CollectorRegistry()
    waiting = Gauge("gateway_retention_waiting_studies", "-", ["tenant"], registry=registry)
    waiting.labels("main").set(2)
    waiting.labels("other").set(5)
    done = Gauge("gateway_background_last_success_timestamp_seconds", "-", ["duty"], registry=registry)
    failed = Counter("gateway_background_failures", "-", ["duty"], registry=registry)
    for duty, at_s in (("complete studies", 10.0), ("view ours", 11.0), ("view theirs", 12.0)):
        done.labels(duty).set(at_s)
    failed.labels("view theirs").inc()
    for name, value in (("gateway_workers", 2), ("gateway_workers_ready", 1)):
        Gauge(name, "-", ["face"], registry=registry).labels("http").set(value)
    answered = Counter("gateway_dimse_requests", "-", ["operation", "status"], registry=registry)
    answered.labels("C-STORE", "0x0000").inc(3)
    answered.labels("C-STORE", "0xC000").inc()

    class Host:
        def collect(self) -> object:
            return registry.collect()

    exposition = Exposition(socket.create_server(("127.0.0.1", 0)), tmp_path, Host(), lambda: None)  # type: ignore[arg-type]
    yield exposition._server.server_address[1]
    exposition.close()


def test_everything_is_read(port: int) -> None:
    found = counted.ask("0.0.0.0", port)
    assert found is not None
    assert found.depths() == {"retention_waits_for_a_person": 7}
    assert found.workers() == [Workers("http", 2, 1, 0)]
    assert found.done() == {"C-STORE answered": 4}
    assert found.failures() == {"background, view theirs": 1, "C-STORE answered 0xC000": 1}


def test_a_tenant_is_told_nothing_of_others(port: int) -> None:
    found = counted.ask("127.0.0.1", port)
    assert found is not None
    ours = found.of_tenant("main", ["theirs"])
    assert ours.depths() == {"retention_waits_for_a_person": 2}
    assert ours.duties() == [Duty("complete studies", 10.0, 0), Duty("view ours", 11.0, 0)]
    assert ours.failures() == {"C-STORE answered 0xC000": 1}


def test_where_nobody_tells_nothing_is_told() -> None:
    assert counted.ask("127.0.0.1", None) is None
    assert counted.ask("127.0.0.1", 0) is None
    assert counted.ask("127.0.0.1", free_port()) is None
