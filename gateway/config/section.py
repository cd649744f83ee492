"""What all sections of the settings have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - where we ask, not where we listen


def asked_at(host: str) -> str:
    """The address at which a face that listens on ``host`` is asked on this machine."""
    return _ANYWHERE.get(host, host)


class Section(BaseModel):
    """A section: unknown names are refused, and each field's docstring is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


MAX_AE_TITLE_CHARACTERS = 16
AeTitle = Annotated[str, Field(min_length=1, max_length=MAX_AE_TITLE_CHARACTERS, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Workers = Annotated[int, Field(ge=1, le=64)]
KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")]
TenantName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
