"""Sections of the settings: how long what is stored is kept, and in which storage class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateway.config.section import Section, TenantName

RuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
Modality = Annotated[str, Field(pattern=r"^[A-Z0-9_]([A-Z0-9_ ]{0,14}[A-Z0-9_])?$")]
Uid = Annotated[str, Field(pattern=r"^[0-2](\.(0|[1-9][0-9]*))+$", max_length=64)]
LosslessSyntax = Literal[
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
]
_CENTURIES = 73_000

AWS_CLASSES = (
    "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY",
)  # fmt: skip
"""Storage classes of AWS within one bucket that are read at once."""
ARCHIVE_CLASSES = ("GLACIER", "DEEP_ARCHIVE")
"""Classes whose objects have to be restored before they can be read, which takes hours."""


class Rule(Section):
    """Which studies a rule is about."""

    name: RuleName
    """Stands in the audit trail, in metrics and in what commands list."""
    tenants: tuple[TenantName, ...] = ()
    """Tenants it is for; all of them when empty."""
    modalities: tuple[Modality, ...] = ()
    """Modalities of the series it is for, such as CT; all of them, and series without one, when empty."""


class RetentionRule(Rule):
    """How long studies are kept, and then deleted. Without a rule nothing is.

    Each rule is a table ``[[retention]]`` of its own. A study is deleted when each of its series is in a rule, and
    every rule that one of them is in has let it go: of several, the one that keeps longest counts.
    """

    keep_days: int = Field(ge=1, le=_CENTURIES)
    """Days to keep a study from what ``count_from`` says."""
    count_from: Literal["arrival", "study_date"] = "arrival"
    """When something last came into the study; or the study's date, and the arrival where that is none or to come."""
    keep_until_age: int | None = Field(default=None, ge=1, le=120)
    """Keep minors at least until they are so old, in years. Without a date of birth the patient counts as newborn."""
    minors_under: int = Field(default=18, ge=1, le=120)
    """With ``keep_until_age``: who was younger when he was examined is a minor."""

    @model_validator(mode="after")
    def _of_minors(self) -> RetentionRule:
        if self.keep_until_age is None and "minors_under" in self.model_fields_set:
            raise ValueError("minors_under: only together with keep_until_age")
        return self


class TransitionRule(Rule):
    """Into which storage class of the bucket studies move when they grow old. Only with S3.

    Each rule is a table ``[[transition]]`` of its own. A study moves when each of its series is in a rule that is due;
    of several that are due the one with the most ``after_days`` counts.
    """

    after_days: int = Field(ge=1, le=_CENTURIES)
    """Days since something last came into the study."""
    storage_class: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    """A class that is read at once: STANDARD_IA, GLACIER_IR, ... of AWS, or what another store calls its own."""

    @model_validator(mode="after")
    def _read_at_once(self) -> TransitionRule:
        if self.storage_class.upper() in ARCHIVE_CLASSES:
            raise ValueError(
                f"storage_class: objects in {self.storage_class} have to be restored for hours before they can be "
                "read, and viewers would get errors; GLACIER_IR is read at once"
            )
        return self


class RecompressionRule(Rule):
    """Which instances are kept in HTJ2K too, beside what was sent, or instead of its pixels. Without a rule none is.

    Each rule is a table ``[[recompression]]`` of its own, about the instances that fit everything it says; of several
    the first counts.
    """

    sop_classes: tuple[Uid, ...] = ()
    """SOP Class UIDs it is for; all of them when empty."""
    transfer_syntaxes: tuple[LosslessSyntax, ...] = Field(
        default=(
            "1.2.840.10008.1.2",
            "1.2.840.10008.1.2.1",
            "1.2.840.10008.1.2.1.99",
            "1.2.840.10008.1.2.2",
            "1.2.840.10008.1.2.5",
        ),
        min_length=1,
    )
    """Transfer syntaxes, as sent, it is for: native ones and RLE; where they are named also lossless JPEG (.57, .70),
    JPEG-LS (.80) and JPEG 2000 (.90)."""
    into: Literal["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202"] = "1.2.840.10008.1.2.4.202"
    """HTJ2K Lossless, or HTJ2K Lossless RPCL; requests for either are answered from it."""
    keep: Literal["beside", "instead"] = "beside"
    """Whether it is kept beside the original, or ``instead``: an original that is native in little endian is then put
    together again from it on each read, byte for byte, which decodes its frames."""


class WorklistSettings(Section):
    """Procedure steps: what is scheduled, and what modalities report that they performed."""

    kept_days: int = Field(default=365, ge=1)
    """A step that nobody has changed for so many days is forgotten."""


class LifecycleSettings(Section):
    """How rules of retention, transition and recompression are carried out by the background worker."""

    interval_s: float = Field(default=3600.0, ge=1)
    """How often it looks for what is to go or to move."""
    max_studies_per_round: int = Field(default=1000, ge=1)
    """Most studies that go in one round, and by one ``gateway retention --apply``."""
    max_percent: float = Field(default=5.0, gt=0, le=100)
    """When more than this part of a tenant's studies is to go, nothing does until ``gateway retention --apply``."""
    settled_days: int = Field(default=30, ge=0)
    """A study into which something came within so many days stays, whatever its date says."""
    batch_studies: int = Field(default=20, ge=1)
    """Studies that go one after the other, before other background work has its turn."""
    pause_s: float = Field(default=1.0, ge=0)
    """Pause after each batch, and after each second of moving."""
    recompress_after_hours: float = Field(default=24.0, ge=0)
    """How old an instance has to be before rules of ``[[recompression]]`` look at it."""
