"""Sections of the settings: de-identified views."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from gateway.config.section import Section, TenantName

ViewName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]


class ViewSettings(Section):
    """A de-identified view of a tenant's archive: a table ``[views.NAME]``.

    Who may use it is said by rules of the policy with ``view = "NAME"``.
    """

    tenant: TenantName = "main"
    """The tenant that it shows."""
    scope: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Which of its studies and series, by attributes as they are stored; written as a scope of the policy. All when
    empty."""
    key_file: Path | None = None
    """A file with the secret that pseudonyms are made with: 32 bytes, also in hexadecimal or base64. Every host needs
    the same. Without one (and without ``key``) the first start makes ``views/NAME.key`` in ``storage.directory``."""
    key: SecretStr = SecretStr("")
    """The same by the environment; in a file, ``key_file`` is better."""
    follow_interval_s: float = Field(default=1.0, gt=0, le=3600)
    """How often the view looks for what came into the archive."""

    @model_validator(mode="after")
    def _one_key(self) -> ViewSettings:
        if self.key_file and self.key.get_secret_value():
            raise ValueError("key: not together with key_file")
        return self
