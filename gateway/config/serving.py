"""Sections of the settings: faces, what they may cost, and what is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, field_validator
from pydantic.networks import IPvAnyNetwork

from gateway.config.section import AeTitle, Port, Section, Workers


class HttpSettings(Section):
    """The DICOMweb face and the pages."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Port = 8080
    """Port to listen on; 0 takes any free one."""
    workers: Workers = 2
    """Processes that serve HTTP."""
    public_url: HttpUrl | None = None
    """Where clients reach the service, for URLs in answers; without it they are made from the request's Host."""
    path_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$", max_length=256)] = ""
    """Put before every path but those of health, such as /imaging, for a proxy that passes paths on as they are."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of proxies whose word on the client's address, scheme and host is taken, such as 10.0.0.0/24."""
    forwarding_header: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    """What those proxies set: X-Forwarded-For, -Proto, -Host, -Port and -Prefix, or Forwarded (RFC 7239)."""
    cors_origins: tuple[str, ...] = ()
    """Exact origins whose pages may call the service, such as https://viewer.example.org."""
    max_request_bytes: int = Field(default=16 << 30, ge=1 << 20)
    """Longest body of one STOW-RS request."""
    max_metadata_part_bytes: int = Field(default=32 << 20, ge=1 << 16)
    """Longest metadata, of all instances together, in a STOW-RS request that sends it apart from bulk data."""
    max_results: int = Field(default=1000, ge=1, le=100_000)
    """Most rows in one QIDO-RS answer."""
    qido_empty: int = Field(default=204, ge=200, le=204)
    """Status of a QIDO-RS answer without results: 204 as PS3.18 has it, or 200 with an empty list."""
    body_timeout_s: float = Field(default=60.0, gt=0)
    """Longest pause between two blocks of a request's body."""
    write_timeout_s: float = Field(default=60.0, gt=0)
    """A client that does not take 256 KiB of an answer in so long is let go."""
    max_followers: int = Field(default=200, ge=0)
    """Requests that may wait for changes at the same time in each process."""
    drain_s: float = Field(default=20.0, ge=0)
    """How long requests under way may take to end after SIGTERM."""

    @field_validator("qido_empty")
    @classmethod
    def _empty(cls, value: int) -> int:
        if value not in (200, 204):
            raise ValueError(f"200 or 204, got {value}")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not origin.startswith(("http://", "https://")) or "/" in origin.partition("://")[2] or "*" in origin:
                raise ValueError(f"an origin is scheme://host[:port], got {origin!r}")
        return value


class DimseSettings(Section):
    """The DIMSE face."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Port = 11112
    """Port to listen on; 0 takes any free one."""
    workers: Workers = 2
    """Processes that serve associations."""
    ae_title: AeTitle = "GATEWAY"
    """Our AE title; an association that calls another one is rejected."""
    max_associations: int = Field(default=25, ge=1, le=1000)
    """Associations at the same time in each process."""
    max_pdu_bytes: int = Field(default=131_072, ge=4096, le=1 << 20)
    """Longest PDU that we offer to receive."""
    network_timeout_s: float = Field(default=60.0, gt=0)
    """An association without a message for so long is aborted."""
    acse_timeout_s: float = Field(default=15.0, gt=0)
    """Longest wait for association messages."""
    dimse_timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for the rest of a message."""
    max_matches: int = Field(default=10_000, ge=1)
    """Most matches of one C-FIND; more are answered with 0xA700."""
    drain_s: float = Field(default=20.0, ge=0)
    """How long associations may take to end after SIGTERM."""


class SearchSettings(Section):
    """What one search may cost, over QIDO-RS and C-FIND."""

    max_inspected: int = Field(default=20_000, ge=1)
    """Most instances whose metadata are looked into for attributes without an index; beyond it 413 or 0xA700."""
    max_counted: int = Field(default=2_000, ge=1)
    """X-Total-Count is exact up to so many; ``/count`` always is."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Longest search; beyond it 413 or 0xA700."""
    max_answer_bytes: int = Field(default=64 << 20, ge=1 << 20)
    """Longest answer of one search with attributes from the metadata; the rest is for the next page."""


class LimitSettings(Section):
    """Bounds on one arriving instance."""

    max_depth: int = Field(default=64, ge=1, le=200)
    """Sequences in sequences."""
    max_elements: int = Field(default=4_000_000, ge=1000)
    """Elements and items in all."""
    max_metadata_bytes: int = Field(default=256 << 20, ge=1 << 20)
    """Metadata of one instance."""
    max_inflate_ratio: int = Field(default=100, ge=1)
    """Ratio at which a deflated data set may inflate beyond the first 32 MiB."""


class ImagingSettings(Section):
    """Decoding and rendering, in their own processes."""

    workers: Workers = 1
    """Decoding processes of each HTTP worker, and one more once an animation is asked for."""
    memory_bytes: int = Field(default=2 << 30, ge=256 << 20)
    """Memory of one decoding process."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Longest decoding of one frame."""
    animation_timeout_s: float = Field(default=60.0, gt=0)
    """Longest making of an animated GIF or MP4 video, in a process of its own; one is made at a time."""
    animation_frames: int = Field(default=500, ge=1, le=10_000)
    """Most frames of one animated GIF or MP4 video."""


class AccessSettings(Section):
    """Who may do what."""

    policy_file: Path | None = None
    """The policy; without one, callers on this machine may do everything and nobody else anything."""


class AuditSettings(Section):
    """The audit trail."""

    directory: Path | None = None
    """Where the audit files go; ``audit`` in the storage directory when absent."""


class LogSettings(Section):
    """What is logged on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe events to log."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object a line for whatever collects them."""


class MetricsSettings(Section):
    """Metrics and health of the whole gateway on a port of their own; none of it is on the public face but health."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Port | None = None
    """Port of /metrics, /health/live and /health/ready; without it nothing listens, 0 takes any free one."""


class TracesSettings(Section):
    """OpenTelemetry traces; they need ``pip install "dicomweb-gateway[otel]"``."""

    endpoint: HttpUrl | None = None
    """Where spans go by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; without it none are made."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """The part of traces that is kept, decided by the trace id alone: a caller cannot ask for more."""
