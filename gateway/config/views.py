"""Sections of the settings: de-identified views, and de-identification of what arrives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from gateway.config.section import Section, TenantName

ViewName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
_CENTURY_DAYS = 36_525


class DeidentificationSettings(Section):
    """How what arrives is de-identified before it is stored: a table ``[deidentification.NAME]``.

    ``dimse.deidentify`` and ``tenants.NAME.deidentify`` say for what arrives from whom.
    """

    options: tuple[str, ...] = ("clean_descriptors", "clean_structured_content", "retain_longitudinal_modified_dates")
    """Options of PS3.15 Table E.1-1 beside the Basic Application Level Confidentiality Profile."""
    recipe_file: Path | None = None
    """Rules of one's own for single attributes, each with its reason; see docs/deidentification.md."""
    safe_private_file: Path | None = None
    """A file of private attributes that are safe, for the option ``retain_safe_private``."""
    find_text: Literal["no", "withhold", "blank"] = "no"
    """Whether frames are looked through for text that is burned in, by the extra ``ocr``: what has some is withheld,
    or the text is blanked (needs ``clean_pixel_data``). What is suspect without a look is withheld all the same."""
    min_shift_days: int = Field(default=-3650, ge=-_CENTURY_DAYS, le=_CENTURY_DAYS)
    """Dates of a patient are all shifted by so many days at least; negative is into the past."""
    max_shift_days: int = Field(default=-31, ge=-_CENTURY_DAYS, le=_CENTURY_DAYS)
    """And by so many at most."""
    key_file: Path | None = None
    """A file with the secret that pseudonyms are made with: 32 bytes, also in hexadecimal or base64. Every host needs
    the same. Without one (and without ``key``) the first start makes ``NAME.key`` in ``storage.directory``, below
    ``views`` or ``deidentification``."""
    key: SecretStr = SecretStr("")
    """The same by the environment; in a file, ``key_file`` is better."""

    @model_validator(mode="after")
    def _makes_sense(self) -> DeidentificationSettings:
        if self.key_file and self.key.get_secret_value():
            raise ValueError("key: not together with key_file")
        if self.find_text == "blank" and "clean_pixel_data" not in self.options:
            raise ValueError('find_text: "blank" needs the option clean_pixel_data')
        if self.min_shift_days > self.max_shift_days or self.min_shift_days == self.max_shift_days == 0:
            raise ValueError("max_shift_days: not less than min_shift_days, and not both 0")
        return self


class ViewSettings(DeidentificationSettings):
    """A de-identified view of a tenant's archive: a table ``[views.NAME]``.

    Who may use it is said by rules of the policy with ``view = "NAME"``.
    """

    tenant: TenantName = "main"
    """The tenant that it shows."""
    scope: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Which of its studies and series, by attributes as they are stored: written as a scope of the policy, but nothing
    that depends on who asks or when. All of them when empty."""
    follow_interval_s: float = Field(default=1.0, gt=0, le=3600)
    """How often the view looks for what came into the archive."""
