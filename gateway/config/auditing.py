"""Section of the settings: the audit trail."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from gateway.config.section import Section


class AuditSettings(Section):
    """The audit trail."""

    directory: Path | None = None
    """Where the audit files go; ``audit`` in the storage directory when absent."""
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
