"""Sections of the settings: who is told of what happens in the archive."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, HttpUrl, SecretStr, field_validator

from gateway.config.access import secure
from gateway.config.section import Section, TenantName

SECRET_PREFIX = "whsec_"  # noqa: S105 - not a secret, what stands before one
Occasion = Literal["study.completed", "study.changed", "study.deleted"]
_SECRET_BYTES = range(24, 65)


def secret_bytes(secret: SecretStr) -> bytes:
    """The key that a secret stands for (Standard Webhooks, "Signature scheme"). Raises ValueError."""
    try:
        found = base64.b64decode(secret.get_secret_value().removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("base64 is needed, such as `openssl rand -base64 32` makes it") from error
    if len(found) not in _SECRET_BYTES:
        raise ValueError(f"24 to 64 bytes in base64 are needed, got {len(found)} bytes; `openssl rand -base64 32`")
    return found


class WebhookSettings(Section):
    """Who is told by HTTP when something happens to a study: a table ``[[webhooks]]`` of its own.

    Messages are signed as Standard Webhooks has it, and name the study by its UID and nothing of its patient. Each is
    sent until it is taken, in order, at least once.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Stands in the audit trail and in metrics. Who has a new name is told of what happens from then on."""
    url: Annotated[HttpUrl, AfterValidator(secure)]
    """Where the messages go: https, but for a host on this machine. No redirect is followed."""
    secret: SecretStr
    """The key of the signature in base64, of 24 bytes or more; it may begin with `whsec_`."""
    old_secret: SecretStr | None = None
    """The one before: each message is signed with both, as long as the receiver may not have the new one."""
    ca_bundle: Path | None = None
    """Certificates that the receiver is trusted by, instead of the system's."""
    tenant: TenantName = "main"
    """The tenant whose studies it is about; for another one, give it another name."""
    occasions: Annotated[tuple[Occasion, ...], Field(min_length=1)] = (
        "study.completed",
        "study.changed",
        "study.deleted",
    )
    """What is told. ``study.completed``: nothing came into a study for ``storage.study_quiet_s``; ``study.changed``: a
    part of it was deleted, or something came back; ``study.deleted``: all of it was deleted."""
    timeout_s: float = Field(default=10.0, gt=0, le=60)
    """How long an answer may take."""
    give_up_after_s: float = Field(default=259_200.0, ge=1)
    """A message that was not taken for so long is left out, so that those behind it come."""

    @field_validator("secret", "old_secret")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            secret_bytes(value)
        return value
