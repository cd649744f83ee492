"""Sections of the settings: the audit trail, and its copy to a syslog server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from gateway.config.section import Port, Section

SourceId = Annotated[str, Field(max_length=64, pattern=r"^[\x21-\x7e]*$")]


class AuditSettings(Section):
    """The audit trail."""

    directory: Path | None = None
    """Where the audit files go; ``audit`` in the storage directory when absent."""
    other_directories: tuple[Path, ...] = ()
    """Where audit files of other hosts are, such as a volume that all share, and older ones: with all below them they
    are searched and verified too. Nothing is written there.
    """
    key_file: Path | None = None
    """Key that records and checkpoints are signed with: 32 bytes, or their base64 or hexadecimal form.

    When absent ``audit.key`` in the storage directory, made at the first start: there it lies beside what it protects.
    """
    key: SecretStr = SecretStr("")
    """The key itself in place of the file: give it by GATEWAY_AUDIT__KEY."""
    old_key_files: tuple[Path, ...] = ()
    """Keys that were used before, for ``gateway audit verify``."""
    window_s: float = Field(default=60.0, ge=0, le=3600)
    """Reads of one study or series by one principal within so long are one access: recorded at its beginning, and once
    more with what it took. Equal denials are counted likewise. 0 records each by itself.
    """
    sync_interval_s: float = Field(default=1.0, ge=0.05, le=60)
    """How often records go from memory to the disk. Those of deletions and erasures do before the answer."""
    checkpoint_interval_s: float = Field(default=600.0, ge=1)
    """How often the heads of all chains are put into the object store, signed, when there is something new."""
    query_values: bool = False
    """Record the values of all keys of a search. Without it those of patients and of free text are left out."""
    source_id: SourceId = ""
    """Audit Source ID of this gateway in messages and FHIR resources; the host's name when empty."""
    site_id: SourceId = ""
    """Audit Enterprise Site ID."""


class SyslogSettings(Section):
    """Where audit messages (PS3.15 A.5) go as well: a syslog server over TLS (RFC 5425), such as an ATNA repository."""

    host: Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9.:_-]*$")] = ""
    """Name or address of the server; empty sends nothing."""
    port: Port = 6514
    """Its port."""
    ca_bundle: Path | None = None
    """Certificates to trust in place of the system's."""
    client_certificate: Path | None = None
    """Certificate to show, and those above it."""
    client_key: Path | None = None
    """Its key."""
    max_pending_bytes: int = Field(default=1 << 30, ge=0)
    """Most bytes of the trail that wait for the server; with more, everything is refused (503, 0xA700)."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Longest wait for the server."""
