"""What the processes of a running gateway have counted together, as its metrics port tells it."""

from __future__ import annotations

import http.client
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from gateway.config.section import asked_at

_WITHIN_S = 10.0
_MOST_BODY_BYTES = 16 << 20
_SUCCESSES = ("0x0000", "0xFF00", "0xFF01", "0xFE00")

DEPTHS: Mapping[str, tuple[str, str]] = {
    "http_connections": ("gateway_http_connections_active", "HTTP connections"),
    "http_requests": ("gateway_http_requests_active", "HTTP requests"),
    "dimse_connections": ("gateway_dimse_connections_active", "DIMSE connections"),
    "calls_in_lanes": ("gateway_http_lane_waiting", "calls of engines"),
    "arriving": ("gateway_spool_files", "instances arriving"),
    "index_writes": ("gateway_index_writes_waiting", "writes before the index"),
    "imaging_jobs": ("gateway_imaging_jobs_active", "imaging jobs"),
    "retention_waits_for_a_person": (
        "gateway_retention_waiting_studies",
        "studies whose retention waits for a person",
    ),
    "syslog_bytes": ("gateway_audit_syslog_pending_bytes", "bytes for the syslog server"),
}
"""What is under way or waits, by name: the metric that tells it, and the words for it."""

_DONE: Mapping[str, tuple[str, str]] = {
    "gateway_dimse_associations_total": ("result", "associations {}"),
    "gateway_dimse_requests_total": ("operation", "{} answered"),
    "gateway_index_commits_total": ("outcome", "arrivals: {}"),
    "gateway_http_requests_total": ("status", "HTTP requests answered {}"),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, under its name and labels."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of a face."""

    face: str
    wanted: int
    ready: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Duty:
    """A kind of background work: when it was last done (0: never), and how often it was interrupted."""

    name: str
    done_at_s: float
    failures: int


class Counted:
    """Samples of one moment, and what is read from them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def of_tenant(self, tenant: str, hidden_views: Collection[str] = ()) -> Counted:
        """Without what is counted of other tenants, and of their views."""
        hidden = {f"view {name}" for name in hidden_views}
        return Counted(
            [
                each
                for each in self._samples
                if each.labels.get("tenant", tenant) == tenant and each.labels.get("duty") not in hidden
            ]
        )

    def _named(self, name: str) -> list[Sample]:
        return [each for each in self._samples if each.name == name]

    def _by(self, name: str, label: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for each in self._named(name):
            found[each.labels[label]] = found.get(each.labels[label], 0.0) + each.value
        return found

    @property
    def version(self) -> str:
        """What is running."""
        return next((each.labels.get("version", "") for each in self._named("gateway_build_info")), "")

    def workers(self) -> list[Workers]:
        """The workers of each face."""
        ready = self._by("gateway_workers_ready", "face")
        restarts = self._by("gateway_worker_restarts_total", "face")
        return [
            Workers(face, int(wanted), int(ready.get(face, 0)), int(restarts.get(face, 0)))
            for face, wanted in self._by("gateway_workers", "face").items()
        ]

    def depths(self) -> dict[str, int]:
        """What is under way or waits, by the names of DEPTHS."""
        return {
            name: int(sum(each.value for each in found))
            for name, (metric, _) in DEPTHS.items()
            if (found := self._named(metric))
        }

    def done(self) -> dict[str, int]:
        """What was done since the start, by what it is."""
        return {
            words.format(value): int(count)
            for metric, (label, words) in _DONE.items()
            for value, count in sorted(self._by(metric, label).items())
            if count
        }

    def duties(self) -> list[Duty]:
        """The background work that was done, or interrupted, since the start."""
        done = self._by("gateway_background_last_success_timestamp_seconds", "duty")
        failures = self._by("gateway_background_failures_total", "duty")
        return [Duty(name, done.get(name, 0.0), int(failures.get(name, 0))) for name in sorted({*done, *failures})]

    def failures(self) -> dict[str, int]:
        """What went wrong since the start, by name, with how often."""
        return dict(self._failures())

    def _failures(self) -> Iterator[tuple[str, int]]:
        for each in self._samples:
            labels, count = each.labels, int(each.value)
            if not count:
                continue
            match each.name:
                case "gateway_engine_errors_total" if labels["error"] != "ObjectNotFound":
                    yield f"{labels['engine']} {labels['operation']}: {labels['error']}", count
                case "gateway_background_failures_total":
                    yield f"background, {labels['duty']}", count
                case "gateway_http_requests_total" if labels["status"].startswith("5"):
                    yield f"HTTP {labels['status']} of {labels['method']} {labels['route']}", count
                case "gateway_dimse_requests_total" if labels["status"] not in _SUCCESSES:
                    yield f"{labels['operation']} answered {labels['status']}", count
                case "gateway_dimse_associations_total" if labels["result"] != "accepted":
                    yield f"associations {labels['result']}", count
                case "gateway_worker_restarts_total":
                    yield f"{labels['face']} workers started anew", count
                case "gateway_orphans_left_alone":
                    yield "objects without a row that were left alone", count
                case _:
                    continue


def ask(host: str, port: int | None) -> Counted | None:
    """What the metrics port tells; None where there is none, or where nothing that it should answers."""
    if not port:
        return None
    # Only who asks needs it: the faces count, and read nothing.
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    try:
        with closing(http.client.HTTPConnection(asked_at(host), port, timeout=_WITHIN_S)) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read(_MOST_BODY_BYTES).decode()
        families = list(text_string_to_metric_families(text))
    except (OSError, http.client.HTTPException, ValueError):
        return None  # that its face does not answer, or something else does, is told by whoever asks for its health
    samples = [Sample(each.name, each.labels, each.value) for family in families for each in family.samples]
    return Counted(samples) if samples else None
