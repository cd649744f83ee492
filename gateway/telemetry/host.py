"""What only the supervisor can measure: its workers, the spool, the disk, and what is running at all."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of one face: how many there should be, how many serve, how many were started anew."""

    wanted: int
    ready: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Sink:
    """Where the audit trail goes as well: whether it is there, and how many bytes wait for it."""

    up: bool
    pending_bytes: int


class HostCollector(Collector):
    """Asked anew for each scrape."""

    def __init__(
        self,
        version: str,
        directory: Path,
        workers: Callable[[], Mapping[str, Workers]],
        places: Mapping[str, Path] = MappingProxyType({}),
        sink: Callable[[], Sink | None] = lambda: None,
    ) -> None:
        self._version = version
        self._directory = directory
        self._workers = workers
        self._places = places
        self._sink = sink

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        yield InfoMetricFamily(
            "gateway_build",
            "What is running",
            {"version": self._version, "python": platform.python_version()},
        )
        yield from self._of_workers()
        yield from self._of_disk()
        yield from self._of_sink()

    def _of_sink(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("gateway_audit_syslog_up", "The syslog server takes audit messages")
        pending = GaugeMetricFamily("gateway_audit_syslog_pending_bytes", "Bytes of the trail that wait for it")
        found = self._sink()
        if found is not None:
            up.add_metric([], float(found.up))
            pending.add_metric([], found.pending_bytes)
        yield from (up, pending)

    def _of_workers(self) -> Iterator[Metric]:
        wanted = GaugeMetricFamily("gateway_workers", "Workers that there should be", labels=["face"])
        ready = GaugeMetricFamily("gateway_workers_ready", "Workers that serve", labels=["face"])
        restarts = CounterMetricFamily("gateway_worker_restarts", "Workers started anew", labels=["face"])
        for face, found in self._workers().items():
            wanted.add_metric([face], found.wanted)
            ready.add_metric([face], found.ready)
            restarts.add_metric([face], found.restarts)
        yield from (wanted, ready, restarts)

    def _of_disk(self) -> Iterator[Metric]:
        sizes = list(_sizes(self._directory / "spool"))
        yield GaugeMetricFamily("gateway_spool_files", "Instances that arrive, on disk", len(sizes))
        yield GaugeMetricFamily("gateway_spool_bytes", "Bytes of instances that arrive, on disk", sum(sizes))
        free = GaugeMetricFamily("gateway_place_free_bytes", "Free for what arrives", labels=["place"])
        for name, directory in self._places.items():
            if directory.exists():
                free.add_metric([name], shutil.disk_usage(directory).free)
        yield free
        usage = shutil.disk_usage(self._directory)
        yield GaugeMetricFamily("gateway_disk_free_bytes", "Free on the storage directory's disk", usage.free)
        yield GaugeMetricFamily("gateway_disk_bytes", "Size of the storage directory's disk", usage.total)


def _sizes(folder: Path) -> Iterator[int]:
    with os.scandir(folder) as found:
        for entry in found:
            try:
                yield entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # it has arrived meanwhile
