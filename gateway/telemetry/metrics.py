"""The metrics of a worker: what is counted, and under which labels.

Every label has a bounded set of values: routes, operations, statuses and names of errors, never what a client sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_KEPT = 1024
_GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Built once in each process; safe to use from several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._http(self.registry)
        self._dimse(self.registry)
        self._engines(self.registry)
        self._background(self.registry)
        self._records = Counter(
            "gateway_audit_records", "Audit records written", ["action", "outcome"], registry=self.registry
        )
        # Of what is counted with every message: to find a child among a metric's takes longer than to count with it.
        self._record = lru_cache(_KEPT)(self._records.labels)
        self._request = lru_cache(_KEPT)(self._requests.labels)
        self._request_s = lru_cache(_KEPT)(self._request_seconds.labels)
        self._message = lru_cache(_KEPT)(self._messages.labels)
        self._message_s = lru_cache(_KEPT)(self._message_seconds.labels)
        self._operation = lru_cache(_KEPT)(self._operations.labels)
        self._lane = lru_cache(_KEPT)(self.lane_waiting.labels)

    def _http(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "gateway_http_requests", "HTTP requests", ["route", "method", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "gateway_http_request_seconds",
            "HTTP request durations",
            ["route", "method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.requests_active = Gauge(
            "gateway_http_requests_active", "HTTP requests now", multiprocess_mode="livesum", registry=registry
        )
        self.http_connections_active = Gauge(
            "gateway_http_connections_active", "HTTP connections now", multiprocess_mode="livesum", registry=registry
        )
        self.http_connections_turned_away = Counter(
            "gateway_http_connections_turned_away", "Connections refused or let go for others", registry=registry
        )
        self.lane_waiting = Gauge(
            "gateway_http_lane_waiting",
            "Calls in or before a thread lane",
            ["lane"],
            multiprocess_mode="livesum",
            registry=registry,
        )

    def _dimse(self, registry: CollectorRegistry) -> None:
        self.associations = Counter("gateway_dimse_associations", "Associations", ["result"], registry=registry)
        self.connections_active = Gauge(
            "gateway_dimse_connections_active", "DIMSE connections now", multiprocess_mode="livesum", registry=registry
        )
        self._messages = Counter("gateway_dimse_requests", "DIMSE requests", ["operation", "status"], registry=registry)
        self._message_seconds = Histogram(
            "gateway_dimse_request_seconds",
            "DIMSE request durations",
            ["operation"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.glass_broken = Counter("gateway_glass_broken", "Decisions by break-glass rules", registry=registry)
        self.received_bytes = Counter("gateway_dimse_received_bytes", "Data sets of C-STORE", registry=registry)

    def _engines(self, registry: CollectorRegistry) -> None:
        self._operations = Histogram(
            "gateway_engine_operation_seconds",
            "Engine calls",
            ["engine", "operation"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._engine_errors = Counter(
            "gateway_engine_errors", "Failed engine calls", ["engine", "operation", "error"], registry=registry
        )
        self.object_bytes = Counter(
            "gateway_object_bytes", "Bytes of objects", ["engine", "direction"], registry=registry
        )
        self.commits = Counter("gateway_index_commits", "Arrivals committed", ["outcome"], registry=registry)
        self.group_size = Histogram(
            "gateway_index_group_size", "Changes per transaction", buckets=_GROUPS, registry=registry
        )
        self.group_seconds = Histogram(
            "gateway_index_group_seconds", "Writing transactions", buckets=_SECONDS, registry=registry
        )
        self.writes_waiting = Gauge(
            "gateway_index_writes_waiting", "Changes before the writer", multiprocess_mode="livesum", registry=registry
        )
        self.imaging_active = Gauge(
            "gateway_imaging_jobs_active",
            "Imaging jobs now",
            ["job"],
            multiprocess_mode="livesum",
            registry=registry,
        )

    def _background(self, registry: CollectorRegistry) -> None:
        self._duty_done = Gauge(
            "gateway_background_last_success_timestamp_seconds",
            "Last success of a duty",
            ["duty"],
            multiprocess_mode="max",
            registry=registry,
        )
        self._duty_failures = Counter("gateway_background_failures", "Interrupted duties", ["duty"], registry=registry)
        self._duty_seconds = Histogram(
            "gateway_background_seconds", "Durations of duties", ["duty"], buckets=_SECONDS, registry=registry
        )
        self.background_items = Counter("gateway_background_items", "What duties did", ["result"], registry=registry)
        self.retention_removed = Counter(
            "gateway_retention_removed_studies", "Studies deleted by rules", ["tenant", "rule"], registry=registry
        )
        self.retention_waiting = Gauge(
            "gateway_retention_waiting_studies",
            "Studies that rules would delete if somebody agreed",
            ["tenant"],
            multiprocess_mode="max",
            registry=registry,
        )
        self.transition_moved = Counter(
            "gateway_transition_moved_studies", "Studies moved by rules", ["tenant", "rule"], registry=registry
        )
        self.transition_bytes = Counter(
            "gateway_transition_moved_bytes", "Bytes moved by rules", ["tenant", "storage_class"], registry=registry
        )
        self.transition_failed = Counter(
            "gateway_transition_failed_studies", "Studies that could not be moved", ["tenant"], registry=registry
        )
        self._of_recompression(registry)
        self.tenant_objects = Gauge(
            "gateway_tenant_objects", "Objects by tenant", ["tenant"], multiprocess_mode="max", registry=registry
        )
        self.tenant_bytes = Gauge(
            "gateway_tenant_bytes",
            "Bytes of objects by tenant",
            ["tenant"],
            multiprocess_mode="max",
            registry=registry,
        )
        self.tenant_quota_bytes = Gauge(
            "gateway_tenant_quota_bytes",
            "Quota by tenant",
            ["tenant"],
            multiprocess_mode="max",
            registry=registry,
        )
        self.orphans_left = Gauge(
            "gateway_orphans_left_alone",
            "Objects without a row that could not be taken in",
            multiprocess_mode="max",
            registry=registry,
        )

    def _of_recompression(self, registry: CollectorRegistry) -> None:
        self.recompressed = Counter(
            "gateway_recompression_made_instances", "Instances recompressed", ["tenant", "rule"], registry=registry
        )
        self.recompressed_bytes = Counter(
            "gateway_recompression_bytes",
            "Bytes of recompressed instances: of originals, of what was made, of originals replaced and what is left",
            ["tenant", "of"],
            registry=registry,
        )
        self.recompression_replaced = Counter(
            "gateway_recompression_replaced_instances",
            "Originals that are kept as HTJ2K",
            ["tenant", "rule"],
            registry=registry,
        )
        self.recompression_left = Counter(
            "gateway_recompression_left_instances",
            "Instances that rules left as they are",
            ["tenant", "reason"],
            registry=registry,
        )

        self.webhook_messages = Counter(
            "gateway_webhook_messages",
            "Attempts to deliver messages of webhooks",
            ["webhook", "outcome"],
            registry=registry,
        )
        self.webhook_behind = Gauge(
            "gateway_webhook_changes_behind",
            "Changes that a webhook has not come to yet",
            ["webhook"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """An HTTP request is over; ``route`` is its template, ``method`` one of a few."""
        self._request(route, method, str(status)).inc()
        self._request_s(route, method).observe(seconds)

    def recorded(self, action: str, outcome: str) -> None:
        """An audit record was written; both are words of ours."""
        self._record(action, outcome).inc()

    def in_lane(self, lane: str, calls: int) -> None:
        """So many calls more, or fewer, are in a thread lane or wait for it."""
        self._lane(lane).inc(calls)

    def responded(self, operation: str, status: int, seconds: float) -> None:
        """A DIMSE request is over."""
        self._message(operation, f"0x{status:04X}").inc()
        self._message_s(operation).observe(seconds)

    @contextmanager
    def called(self, engine: str, operation: str) -> Iterator[None]:
        """Around a call of an engine; its errors are counted under their names."""
        started_s = time.perf_counter()
        try:
            yield
        except Exception as error:
            self._engine_errors.labels(engine, operation, type(error).__name__).inc()
            raise
        finally:
            self._operation(engine, operation).observe(time.perf_counter() - started_s)

    @contextmanager
    def working(self, job: str) -> Iterator[None]:
        """Around an imaging job, from before it waits for a worker."""
        with self.imaging_active.labels(job).track_inprogress(), self.called("imaging", job):
            yield

    @contextmanager
    def on_duty(self, duty: str) -> Iterator[None]:
        """Around a run of background work."""
        started_s = time.perf_counter()
        try:
            yield
        except Exception:
            self._duty_failures.labels(duty).inc()
            raise
        else:
            self._duty_done.labels(duty).set(time.time())
        finally:
            self._duty_seconds.labels(duty).observe(time.perf_counter() - started_s)

    # The index's own words, see storage.index.group_commit.Observer.

    def waiting(self, changes: int) -> None:
        """So many changes more, or fewer, wait for the index's writer."""
        self.writes_waiting.inc(changes)

    def transacted(self, changes: int, seconds: float) -> None:
        """A transaction with so many changes has ended, well or not."""
        self.group_size.observe(changes)
        self.group_seconds.observe(seconds)
