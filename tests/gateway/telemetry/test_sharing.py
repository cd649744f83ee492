"""Files that workers count in: one set for each place, reserved, taken over by whoever comes next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.telemetry import sharing

COUNTING = """
import os, signal, sys
from pathlib import Path
from gateway.telemetry import sharing
sharing.prepare(Path(sys.argv[1]), sys.argv[2])
from gateway.telemetry.metrics import Metrics
metrics = Metrics()
metrics.requests_active.inc()
for _ in range(100):
    metrics.answered("/route", "GET", 200, 0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def count(directory: Path, worker: str) -> None:
    """100 requests, one of them still under way, and then kill -9."""
    subprocess.run([sys.executable, "-c", COUNTING, str(directory), worker], check=False, timeout=60)


def scrape(directory: Path) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))
    return generate_latest(registry).decode()


def test_a_place_goes_on_counting_where_a_killed_worker_was_cut_off(tmp_path: Path) -> None:
    for worker in ("http-1", "http-1", "http-2"):
        count(tmp_path, worker)
    assert 'gateway_http_requests_total{method="GET",route="/route",status="200"} 300.0' in scrape(tmp_path)
    assert len(list(tmp_path.iterdir())) == 8


def test_what_a_dead_worker_had_under_way_is_forgotten(tmp_path: Path) -> None:
    count(tmp_path, "http-1")
    assert "gateway_http_requests_active 1.0" in scrape(tmp_path)
    sharing.forget(tmp_path, "http-1")
    assert "gateway_http_requests_active" not in scrape(tmp_path)
    count(tmp_path, "http-1")
    assert "gateway_http_requests_active 1.0" in scrape(tmp_path)


def test_room_is_reserved_before_anything_is_counted(tmp_path: Path) -> None:
    count(tmp_path, "http-1")
    for path in tmp_path.iterdir():
        # Else a full disk would end the process at its next count, by SIGBUS.
        assert path.stat().st_blocks * 512 >= path.stat().st_size == 1 << 20


def test_a_new_run_begins_anew(tmp_path: Path) -> None:
    sharing.clear(tmp_path / "metrics")
    count(tmp_path / "metrics", "http-1")
    assert scrape(tmp_path / "metrics")
    sharing.clear(tmp_path / "metrics")
    assert scrape(tmp_path / "metrics") == ""
