"""Sections of the settings: faces, what they may cost, and what is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, field_validator, model_validator
from pydantic.networks import IPvAnyNetwork

from gateway.config.section import AeTitle, Port, Section, Workers


class TlsSettings(Section):
    """TLS of a face."""

    tls_certificate_file: Path | None = None
    """Certificates in PEM, our own first; with them the face is served over TLS alone. Read again when they change."""
    tls_key_file: Path | None = None
    """Its private key in PEM, without a password."""
    tls_client_ca_file: Path | None = None
    """Authorities in PEM whose client certificates are taken."""
    tls_client_certificates: Literal["none", "optional", "required"] = "none"
    """Whether clients are asked for a certificate, and whether they need one."""
    tls_handshake_timeout_s: float = Field(default=10.0, gt=0)
    """Longest TLS handshake."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> TlsSettings:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file: to be given together with tls_key_file")
        if self.tls_client_certificates != "none" and self.tls_certificate_file is None:
            raise ValueError("tls_client_certificates: needs tls_certificate_file")
        if (self.tls_client_certificates == "none") != (self.tls_client_ca_file is None):
            raise ValueError(
                "tls_client_ca_file: to be given where tls_client_certificates is optional or required, and only there"
            )
        return self


class HttpSettings(TlsSettings):
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
    head_timeout_s: float = Field(default=20.0, gt=0)
    """Longest time for a request's line and headers, from their first byte on; beyond it 408."""
    body_timeout_s: float = Field(default=60.0, gt=0)
    """A client that does not send 64 KiB of a body, or its rest, in so long is refused and let go."""
    write_timeout_s: float = Field(default=60.0, gt=0)
    """A client that does not take 256 KiB of an answer in so long is let go."""
    idle_timeout_s: float = Field(default=75.0, gt=0)
    """How long a connection may wait for its next request; longer than what a proxy keeps them open."""
    max_connections: int = Field(default=1000, ge=1, le=100_000)
    """Connections at the same time in each process; beyond them the one that has waited longest makes room."""
    max_connections_per_source: int = Field(default=250, ge=1)
    """Of one address (IPv6: /64) at the same time in each process; trusted proxies have no such bound."""
    max_url_bytes: int = Field(default=8190, ge=256, le=1 << 20)
    """Longest request line."""
    max_headers: int = Field(default=100, ge=10, le=1000)
    """Most headers of a request."""
    max_header_bytes: int = Field(default=8190, ge=256, le=1 << 20)
    """Longest header of a request."""
    max_head_bytes: int = Field(default=65_536, ge=1024, le=1 << 22)
    """Longest request line and headers together; beyond it 431."""
    tls_at_proxy: bool = False
    """Clients come through a proxy with TLS: ends the warning about clear text beyond this machine."""
    hsts_max_age_s: int = Field(default=31_536_000, ge=0)
    """How long browsers that came by https use nothing else for this host; 0 does not say."""
    max_followers: int = Field(default=200, ge=0)
    """Requests that may wait for changes at the same time in each process."""
    principal_rate: float = Field(default=0.0, ge=0)
    """Requests a second of one principal at this host, in bursts of ten seconds' worth; 0 is no bound."""
    source_rate: float = Field(default=0.0, ge=0)
    """Requests a second of one address, likewise."""
    unauthenticated_rate: float = Field(default=10.0, ge=0)
    """Requests a second of one address that show no key and need one, likewise; more are 429 and not audited."""
    failed_attempts: int = Field(default=10, ge=0)
    """Wrong keys of one address, or one wrong key, without consequence, over all faces and hosts; each further one
    locks it. 0 never locks."""
    lockout_s: float = Field(default=1.0, gt=0)
    """The first lock; each further one is twice as long."""
    max_lockout_s: float = Field(default=900.0, gt=0)
    """The longest lock."""
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


class DestinationSettings(Section):
    """Where a peer listens: a table ``[dimse.destinations.AET]``, by its AE title."""

    host: str
    """Name or address of the peer."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Port that it listens on."""
    callers: frozenset[AeTitle] | None = None
    """AE titles that may name it in a C-MOVE; without it, every one that may read."""
    tls: bool = False
    """Whether it wants TLS; then it is shown our certificate (``dimse.tls_certificate_file``), if there is one."""
    tls_ca_file: Path | None = None
    """Authorities in PEM that its certificate has to be of; without it, those of the system."""
    tls_check_name: bool = True
    """Whether its certificate has to name ``host``."""


class DimseSettings(TlsSettings):
    """The DIMSE face."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Port = 11112
    """Port to listen on; 0 takes any free one."""
    workers: Workers = 2
    """Processes that serve associations."""
    ae_title: AeTitle = "GATEWAY"
    """Our AE title; an association that calls another one is rejected."""
    deidentify: dict[str, str] = Field(default_factory=dict)
    """What arrives from an AE title is de-identified before it is stored, by a ``[deidentification.NAME]``:
    ``{ CT1 = "research" }``; ``"*"`` stands for every title that is not named. Goes before
    ``tenants.NAME.deidentify``."""
    destinations: dict[AeTitle, DestinationSettings] = Field(default_factory=dict)
    """Peers that a C-MOVE may name, and that are told of storage commitment, by their AE titles."""
    tls_or_clear: bool = False
    """With a certificate: associations in clear are taken too, on the same port, while modalities change over."""
    max_associations: int = Field(default=25, ge=1, le=1000)
    """Associations at the same time in each process; a quarter is kept for AE titles that the policy has by name."""
    source_rate: float = Field(default=0.0, ge=0)
    """Associations a second of one address at this host, in bursts of ten seconds' worth; 0 is no bound."""
    max_pdu_bytes: int = Field(default=131_072, ge=4096, le=1 << 20)
    """Longest PDU that we offer to receive."""
    network_timeout_s: float = Field(default=60.0, gt=0)
    """An association on which no message begins for so long is aborted."""
    acse_timeout_s: float = Field(default=15.0, gt=0)
    """Time from a connection to its whole request for an association."""
    dimse_timeout_s: float = Field(default=60.0, gt=0)
    """Time for each PDU of a message, and for the message besides 1 s for each 4,096 bytes."""
    max_matches: int = Field(default=10_000, ge=1)
    """Most matches of one C-FIND; more are answered with 0xA700."""
    drain_s: float = Field(default=20.0, ge=0)
    """How long associations may take to end after SIGTERM."""


class SearchSettings(Section):
    """What one search may cost, over QIDO-RS and C-FIND."""

    max_inspected: int = Field(default=20_000, ge=1)
    """Most instances whose metadata are looked into for attributes without an index; beyond it 413 or 0xA700."""
    max_counted: int = Field(default=1_000, ge=1)
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
    picture_cache_bytes: int = Field(default=32 << 20, ge=0)
    """Rendered pictures that each HTTP worker keeps in memory, ten minutes at most; 0 keeps none."""


class ViewerSettings(Section):
    """The OHIF viewer, once `gateway viewer install` has fetched it."""

    directory: Path | None = None
    """Where its files are; ``viewer`` in the storage directory when absent."""


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
